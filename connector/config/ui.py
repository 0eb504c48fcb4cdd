"""Settings of the web page."""

import re

from pydantic import Field, SecretStr, field_validator

from connector.config.section import Section


class UiSettings(Section):
    """The web page of `imednet-connector ui`."""

    name = "ui"

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8474, ge=1, le=65_535, description="Port to listen on.")
    token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Token that the page asks for; needed if `UI_HOST` is not a loopback address.",
    )

    @field_validator("token")
    @classmethod
    def _is_plain(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
            raise ValueError("must be plain ASCII without spaces")
        return value
