"""Settings of the iMednet API."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from connector.config.section import Count, Seconds, Section


class ImednetSettings(Section):
    """Access to the iMednet API."""

    name = "imednet"

    base_url: str = Field(
        "https://edc.prod.imednetapi.com", description="Address of the API, without /api."
    )
    api_key: SecretStr | None = Field(None, description="The header x-api-key.")
    security_key: SecretStr | None = Field(None, description="The header x-imn-security-key.")
    api_key_file: Path | None = Field(
        None, description="File with the API key instead; read again when it changes."
    )
    security_key_file: Path | None = Field(
        None, description="File with the security key instead; read again when it changes."
    )
    request_timeout_seconds: Seconds = Field(
        30.0, description="Bound of one request; then fewer rows are asked for."
    )
    requests_per_minute_max: Count = Field(
        600, description="Budget of requests, all studies together."
    )
    requests_at_once_max: Count = Field(4, description="Requests under way, all studies together.")

    @field_validator("base_url")
    @classmethod
    def _has_scheme(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value
