"""Settings of the metrics and health endpoint."""

from pydantic import Field

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
    sink_port: int = Field(
        9484, ge=0, le=65_535, description="Port of a sink; taken ports are skipped. 0: none."
    )
