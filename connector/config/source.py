"""Settings of the source: what it reads, and how often."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from connector.config.section import Seconds, Section
from connector.model.entities import READ_KINDS


class SourceSettings(Section):
    """What the source reads, and how often."""

    name = "source"

    studies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Keys of the studies to read, comma-separated."
    )
    poll_interval_seconds: Seconds = Field(
        10.0, description="Delay between windows, for kinds that the API can filter by date."
    )
    list_interval_seconds: Seconds = Field(
        300.0,
        description="Delay between full passes, for kinds that it cannot (visits, queries ...).",
    )
    metadata_interval_seconds: Seconds = Field(
        3600.0,
        description="Delay between full passes, for rarely changing kinds (such as forms, users).",
    )
    kind_intervals: Annotated[dict[str, Seconds], NoDecode] = Field(
        {}, description="Overrides the delay of single kinds, as in `visit=60,study=86400`."
    )
    sweep_interval_seconds: Seconds = Field(
        86_400.0, description="Delay between full sweeps, which find vanished rows."
    )
    overlap_seconds: Seconds = Field(
        60.0, description="How far a window reaches back; must exceed the API's longest write."
    )
    page_size: int = Field(
        500, ge=1, le=500, description="Rows per page; the API allows at most 500."
    )
    omit_personal_data: bool = Field(
        False,
        description="Leaves out users' names and e-mail addresses, and the names of coders.",
    )
    typed_values: bool = Field(
        True,
        description="Converts values of form variables to their defined types (number, date ...).",
    )
    max_delete_ratio: float = Field(
        0.1, ge=0, le=1, description="A sweep that would delete a larger share deletes nothing."
    )
    retry_wait_seconds_max: Seconds = Field(
        60.0, description="Maximum delay before a failed step is retried."
    )
    state_dir: Path = Field(
        Path("~/.cache/imednet-connector"),
        description="Folder of the known-state cache; rebuilt from the topic if missing.",
    )

    @field_validator("studies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(key.strip() for key in value.split(",") if key.strip())
        return value

    @field_validator("kind_intervals", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if isinstance(value, str):
            return dict(pair.strip().partition("=")[::2] for pair in value.split(",") if pair)
        return value

    @field_validator("kind_intervals")
    @classmethod
    def _kinds(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := value.keys() - READ_KINDS.keys():
            raise ValueError(f"unknown kind {', '.join(unknown)}. Use {', '.join(READ_KINDS)}")
        return value

    @field_validator("state_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser()
