"""Settings of the log."""

from typing import Literal

from pydantic import Field

from connector.config.section import Seconds, Section


class LogSettings(Section):
    """Logging, on stderr."""

    name = "log"

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level: debug, info, warning or error."
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto, json or console; auto: console on a terminal, else JSON lines."
    )
    progress_interval_seconds: Seconds = Field(
        60.0, description="Interval between progress lines while there is progress."
    )
