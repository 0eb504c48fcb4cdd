"""Tracks: the ways to read a kind, either all rows or only the changed ones. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum

from connector.model.cursor import PassPosition
from connector.model.entities import READ_KINDS
from connector.model.entity import Entity, Reading
from connector.model.properties import VARIABLES_FIELD


class Mode(StrEnum):
    """Which rows a track reads."""

    FULL = "full"
    """All rows."""
    WINDOW = "window"
    """Rows changed since the watermark or, for an append-only kind, added after the newest id."""


@dataclass(frozen=True, slots=True)
class Track:
    """One way to read one kind."""

    entity: Entity
    mode: Mode
    name: str = field(init=False)
    """The key of the track's position in the cursor."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.entity.name}.{self.mode}")

    @property
    def is_keyset(self) -> bool:
        """Whether pages are requested by the last id read rather than by page number."""
        return self.entity.reading is not Reading.LISTED

    @property
    def others(self) -> "list[Track]":
        """The other tracks of the same kind."""
        return [
            each for each in TRACKS if each.entity is self.entity and each.mode is not self.mode
        ]

    @property
    def full(self) -> "Track":
        """The track that reads all rows of the same kind."""
        return Track(self.entity, Mode.FULL)


TRACKS: tuple[Track, ...] = tuple(
    Track(entity, mode)
    for entity in READ_KINDS.values()
    for mode in Mode
    if mode is Mode.FULL or entity.reading is not Reading.LISTED
)
TYPED: tuple[Track, ...] = tuple(
    track for track in TRACKS if track.mode is Mode.FULL and VARIABLES_FIELD in track.entity.fields
)
"""The full tracks of kinds with form variables, whose values the definitions type."""
STUDY = Track(READ_KINDS["study"], Mode.FULL)
"""Read before all others: it shows whether the API knows the study."""


def has_announced_more(track: Track, position: PassPosition) -> bool:
    """Whether the previous page of a keyset pass announced more rows."""
    return position.in_pass and track.is_keyset and bool(position.total)
