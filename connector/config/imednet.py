"""Settings of the iMednet API."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from connector.config.section import Count, Seconds, Section


class ImednetSettings(Section):
    """Access to the iMednet API."""

    name = "imednet"

    base_url: str = Field(
        "https://edc.prod.imednetapi.com", description="Base URL of the API, without /api."
    )
    api_key: SecretStr | None = Field(None, description="API key, sent as header x-api-key.")
    security_key: SecretStr | None = Field(
        None, description="Security key, sent as header x-imn-security-key."
    )
    api_key_file: Path | None = Field(
        None,
        description="File that holds the API key, as an alternative; read for every request.",
    )
    security_key_file: Path | None = Field(
        None,
        description="File that holds the security key, as an alternative; read for every request.",
    )
    request_timeout_seconds: Seconds = Field(
        30.0, description="Timeout of a request; after a timeout fewer rows are requested."
    )
    requests_per_minute_max: Count = Field(
        600, description="Request budget per minute, shared by all studies."
    )
    requests_at_once_max: Count = Field(
        4, description="Maximum requests in flight, shared by all studies."
    )

    @field_validator("base_url")
    @classmethod
    def _has_scheme(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value
