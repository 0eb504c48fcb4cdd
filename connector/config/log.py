"""Settings of the log."""

from typing import Literal

from pydantic import Field

from connector.config.section import Seconds, Section


class LogSettings(Section):
    """What is logged, on stderr."""

    name = "log"

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level.")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, JSON lines elsewhere."
    )
    progress_interval_seconds: Seconds = Field(
        60.0, description="Pause between progress lines while there is progress."
    )
