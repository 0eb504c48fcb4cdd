"""The cursor: the source's durable position in the API, committed with the events it covers."""

import uuid

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from connector.errors import FatalError
from connector.model.events import EntityId

CURSOR_VERSION = 1


class _Value(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


class PassPosition(_Value):
    """The position of one track (a way of reading one kind), within a pass and between passes."""

    after: EntityId | None = None
    """Keyset: the last id read in this pass."""
    rows_before: int = Field(default=0, alias="offset")
    """Rows before the next page: of the whole list, or of those with ids larger than ``after``."""
    total: int | None = None
    """Lists: the total that the previous page of this pass reported. Keyset: the number of rows
    that it announced after its own."""
    rows: int = 0
    """Rows that this pass has listed."""
    is_short: bool = False
    """This pass, or the last one, lacks announced rows or has rows without an id."""
    steps_back: int = 0
    """Lists: how often this pass stepped back because the total had shrunk."""
    started_ms: int | None = None
    """Server clock at the first page of this pass; None between passes."""
    watermark_ms: int | None = None
    """Windows: changes before this server time have been read."""
    passes: int = 0
    """Completed passes."""
    finished_ms: int | None = None
    """This machine's clock at the end of the last pass: for scheduling only."""
    began_ms: int | None = None
    """This machine's clock at the first page of the current or last pass."""
    skew_ms: int | None = None
    """The server's clock minus this machine's, at the first page of the current or last pass."""
    is_hurried: bool = False
    """The next pass is due early: the last one missed rows, or the server's clock went back."""
    newest: EntityId | None = None
    """Append-only kinds: the largest id read."""

    @property
    def in_pass(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self.started_ms is not None


_BEGINNING = PassPosition()


class TopicMark(_Value):
    """A state of the events topic: its id, and the bounds and leader epochs of its partitions."""

    topic_id: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    epochs: tuple[int, ...] = ()
    """Leader epochs while the ends were as given; empty or -1: unknown."""

    def epoch(self, partition: int) -> int | None:
        """Return a partition's leader epoch; None if it is unknown. Pure."""
        known = self.epochs[partition : partition + 1]
        return known[0] if known and known[0] >= 0 else None

    def epochs_left_by(self, now: "TopicMark") -> dict[int, int]:
        """Return the epochs that have ended since this mark, by partition. Pure.

        Only these partitions' logs may have been truncated and have grown again.
        """
        both = enumerate(zip(self.epochs, now.epochs, strict=False))
        return {partition: epoch for partition, (epoch, later) in both if -1 < epoch != later}

    def loss(self, now: "TopicMark") -> str | None:
        """Describe the events that the topic has evidently lost since this mark. Pure.

        None if its bounds show none; they do not show a truncated log that has grown again.
        Compaction never removes the newest state of an entity and never moves a start or an end.
        """
        if self.topic_id and now.topic_id and self.topic_id != now.topic_id:
            return "it is a different topic with the same name"
        if len(now.ends) < len(self.ends):
            return f"it has {len(now.ends)} partitions instead of {len(self.ends)}"
        for partition, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            if now.starts[partition] > start:
                return f"partition {partition} starts at {now.starts[partition]} instead of {start}"
            if now.ends[partition] < end:
                return f"partition {partition} ends at {now.ends[partition]} instead of {end}"
        return None


class Cursor(_Value):
    """The positions of one study. ``lineage`` and ``sequence`` identify one state of the topic."""

    schema_version: int = CURSOR_VERSION
    study_key: str
    lineage: str = Field(default_factory=lambda: uuid.uuid4().hex)
    sequence: int = 0
    positions: dict[str, PassPosition] = Field(default_factory=dict, alias="places")
    topic: TopicMark | None = None
    """The events topic when this cursor was committed. Set by `EventLog.publish`."""
    newest_version: int = 0
    """The largest version ever published."""
    version_floor: int = 0
    """The lowest version allowed: above every version that the topic held before it lost events."""

    def position(self, track: str) -> PassPosition:
        """The position of this track; the beginning if it has never been read."""
        return self.positions.get(track, _BEGINNING)

    def moved(self, track: str, position: PassPosition) -> "Cursor":
        """The next cursor, with this track at the given position."""
        return self.model_copy(
            update={
                "sequence": self.sequence + 1,
                "positions": {**self.positions, track: position},
            }
        )

    def to_bytes(self) -> bytes:
        """The cursor as JSON."""
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> "Cursor":
        """Parse the value of a cursor message.

        Raises:
            FatalError: it is not a cursor of this version; continuing would mean starting over.
        """
        try:
            cursor = cls.model_validate_json(value)
        except ValidationError:
            raise FatalError("The cursors topic contains a value that is not a cursor") from None
        if cursor.schema_version != CURSOR_VERSION:
            raise FatalError(
                "The cursor was written by a newer version of this program. Run that version"
            )
        return cursor
