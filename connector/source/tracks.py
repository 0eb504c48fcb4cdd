"""The ways in which kinds are read: as a whole, or what has changed. Pure."""

from dataclasses import dataclass
from enum import Enum

from connector.model.cursor import PassPosition
from connector.model.entities import READ_KINDS, Entity, Reading


class Mode(Enum):
    """How a track reads."""

    FULL = "full"
    WINDOW = "window"


@dataclass(frozen=True, slots=True)
class Track:
    """One way of reading one kind."""

    entity: Entity
    mode: Mode

    @property
    def name(self) -> str:
        """Its name in the cursor."""
        return f"{self.entity.name}.{self.mode.value}"

    @property
    def is_keyset(self) -> bool:
        """Whether pages are asked for by id rather than by number."""
        return self.entity.reading is not Reading.LISTED

    @property
    def others(self) -> "list[Track]":
        """The other ways of reading the same kind."""
        return [each for each in TRACKS if each.entity == self.entity and each != self]

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
STUDY = Track(READ_KINDS["study"], Mode.FULL)
"""What is read first: it tells whether the study is there."""


def was_announced(track: Track, place: PassPosition) -> bool:
    """Whether the page before announced rows after its own."""
    return place.in_pass and track.is_keyset and bool(place.total)
