"""The cursor: the source's durable place in the API, committed with the events it stands for."""

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
    """Where one track (a way of reading one kind) stands, within a pass and between passes."""

    after: EntityId | None = None
    """Keyset: the last id of this pass that was read."""
    offset: int = 0
    """How many rows come before the next page: of the list, or with ids larger than ``after``."""
    total: int | None = None
    """Lists: the number of rows that the previous page of this pass reported. Keyset: how many
    rows it announced after its own."""
    rows: int = 0
    """How many rows this pass has listed."""
    is_short: bool = False
    """This pass, or the last one, lacks rows that were announced, or has rows without an id."""
    steps_back: int = 0
    """Lists: how often this pass stepped back since the total had shrunk."""
    started_ms: int | None = None
    """Server clock at the first page of this pass; None between passes."""
    watermark_ms: int | None = None
    """Windows: changes before this server time have been read."""
    passes: int = 0
    """Completed passes."""
    finished_ms: int | None = None
    """This machine's clock when the last pass ended: for scheduling only."""
    began_ms: int | None = None
    """This machine's clock at the first page of this or the last pass."""
    skew_ms: int | None = None
    """The server's clock minus this machine's, at the first page of this or the last pass."""
    is_hurried: bool = False
    """The next pass should come soon: the last one missed rows, or the server's clock went back."""
    newest: EntityId | None = None
    """Append-only kinds: the largest id that was read."""

    @property
    def in_pass(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self.started_ms is not None


class TopicMark(_Value):
    """A state of the events topic: which topic it is, and the bounds of its partitions."""

    topic_id: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def lost(self, now: "TopicMark") -> str | None:
        """What the topic has lost since this mark, in words; None: nothing. Pure.

        Compaction removes no newest state and moves neither start nor end.
        """
        if self.topic_id and now.topic_id and self.topic_id != now.topic_id:
            return "it is another topic of the same name"
        if len(now.ends) < len(self.ends):
            return f"it has {len(now.ends)} partitions instead of {len(self.ends)}"
        for partition, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            if now.starts[partition] > start:
                return f"partition {partition} starts at {now.starts[partition]}, not at {start}"
            if now.ends[partition] < end:
                return f"partition {partition} ends at {now.ends[partition]}, not at {end}"
        return None


class Cursor(_Value):
    """One study's place. ``lineage`` and ``sequence`` name one state of the topic."""

    schema_version: int = CURSOR_VERSION
    study_key: str
    lineage: str = Field(default_factory=lambda: uuid.uuid4().hex)
    sequence: int = 0
    places: dict[str, PassPosition] = Field(default_factory=dict)
    topic: TopicMark | None = None
    """The events topic when this cursor was committed. Written by `EventLog.publish`."""
    newest_version: int = 0
    """The largest version that was ever published."""
    version_floor: int = 0
    """Versions are at least this: above all that a topic held before it lost them."""

    def place(self, track: str) -> PassPosition:
        """The place of this track; the beginning where it has not been read."""
        return self.places.get(track, PassPosition())

    def moved(self, track: str, place: PassPosition) -> "Cursor":
        """The next cursor: this track is there now."""
        return self.model_copy(
            update={"sequence": self.sequence + 1, "places": {**self.places, track: place}}
        )

    def to_bytes(self) -> bytes:
        """Its JSON."""
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> "Cursor":
        """The cursor that a message holds.

        Raises:
            FatalError: it is not one of this version: going on would mean starting over.
        """
        try:
            cursor = cls.model_validate_json(value)
        except ValidationError:
            raise FatalError("the cursors topic holds a value that is not a cursor") from None
        if cursor.schema_version != CURSOR_VERSION:
            raise FatalError("the cursor was written by a newer version of this program")
        return cursor
