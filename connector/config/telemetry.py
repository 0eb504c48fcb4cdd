"""Settings of the metrics and health endpoint."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from connector.config.section import Section


class TelemetrySettings(Section):
    """Metrics and health over HTTP: `/metrics`, `/livez`, `/readyz`, `/status`."""

    name = "telemetry"

    host: str = Field("127.0.0.1", description="Address to listen on.")
    source_port: int = Field(
        9464,
        ge=0,
        le=65_535,
        description="Port of a source; if it is taken, the next free one of twenty. 0: none.",
    )
    webhook_url: SecretStr | None = Field(
        None,
        description="URL to which state changes are posted as CloudEvents (failed, recovered, gap,"
        " dead letter ...).",
    )
    programs: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Programs that `status` and `ui` ask, as host:port, comma-separated; a name"
        " with several addresses stands for several programs. Without it: those on this machine.",
    )
    sink_port: int = Field(
        9484, ge=0, le=65_535, description="Port of a sink; taken ports are skipped. 0: none."
    )

    @field_validator("programs", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(each.strip() for each in value.split(",") if each.strip())
        return value

    @field_validator("programs")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            host, _, port = each.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError("must be host:port, comma-separated")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _is_http(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value
