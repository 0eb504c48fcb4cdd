"""The ports: what the two tasks need of the world, and what each call promises.

The tasks import these only. `connector.imednet`, `connector.kafka` and `connector.neo4j` implement
them on the real clients, ``tests/fakes`` in memory; one contract suite runs on both.
"""

import threading
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from connector.model.cursor import Cursor
from connector.model.events import EntityId, Identity, KnownState, RecordEvent
from connector.model.graph import NodeChange
from connector.model.serde import Headers


class Clock(Protocol):
    """Time of this machine. Only waiting and sanity checks use it; versions use the server's."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def wait(self, until: threading.Event, seconds: float) -> None:
        """Return when ``until`` is set, or after this many seconds."""


# ---------------------------------------------------------------------------------------- source


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page of one resource: path below the study, filter, sort, and place."""

    study_key: str
    resource: str
    filter: str | None
    sort: str
    size: int
    page: int


@dataclass(frozen=True, slots=True, repr=False)
class UnreadableRow:
    """A row that no JSON parser here reads: its bytes, and its id where that can be made out."""

    raw: bytes
    id_hint: EntityId | None = None

    def __repr__(self) -> str:
        """Without content: texts of errors and assertions may be logged."""
        return f"UnreadableRow({len(self.raw)} bytes)"


@dataclass(frozen=True, slots=True)
class Page:
    """What the API answered: its clock (ms, UTC), how many rows the filter matches, the rows."""

    server_ms: int
    total_elements: int
    rows: list[Any]
    """As JSON, exactly: a number that has no exact form is a Decimal. A row that cannot be parsed
    is an `UnreadableRow`."""
    offset: int = 0
    """How many rows the filter matches before these: by page number and size."""
    took_ms: int = 0
    """From request to answer: what it says may be older than its clock by so much."""
    size_bytes: int = 0
    """Of the answer: a measure of what its rows take in memory."""
    size: int | None = None
    """How many rows a page has at most, by the API's own word; None: it does not say."""


class ApiReader(Protocol):
    """The iMednet API."""

    def read(self, request: PageRequest) -> Page:
        """One page as raw JSON. Blocks up to the request timeout.

        Raises:
            BatchTooLargeError: the answer did not come in time: ask for fewer rows.
            RetryableError: network, 429, 5xx, or a 200 that is not the documented shape.
            ResourceRefusedError: no permission for this resource, no such resource, refused filter.
            FatalError: wrong key.
        """


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """An API row from which no event can be made."""

    study_key: str
    entity: str
    raw: bytes
    reason: str


class OpenedLog(NamedTuple):
    """What `EventLog.open` found."""

    cursor: Cursor | None
    """The last committed one; None at the first start."""
    lost: str | None
    """What the events topic has lost since then, in words; None: nothing."""


class EventLog(Protocol):
    """The events topic and the cursor, as one transactional log of one study."""

    def open(self) -> OpenedLog:
        """Fence other sources of the study, and find out where the study stands.

        Must be called before `publish` and again after `publish` raised RetryableError: what was
        committed is read back, never guessed. Blocks.

        Raises:
            RetryableError: the brokers do not answer, or a topic is missing.
            FatalError: access is refused.
        """

    def publish(
        self,
        events: Sequence[tuple[RecordEvent, int | None]],
        invalid: Sequence[InvalidRow],
        cursor: Cursor,
        lettered: Container[Identity] = (),
    ) -> Collection[Identity]:
        """Events (each with its subject's id), dead letters and cursor in one transaction.

        On return all of it is committed; on an error either all or nothing is. Blocks.

        Events that are too large for the topic are diverted: to the dead letter queue, by
        reference, unless ``lettered`` has them. The topic does not hold their states. Returns them.

        Raises:
            RetryableError: the outcome is unknown or nothing was written: `open` again.
            BatchTooLargeError: the same, and the transaction took too long: publish less.
            FatalError: another source of this study has taken over.
        """

    def replay(self) -> Iterator[tuple[Identity, KnownState]]:
        """Every committed state of the study in the topic, oldest first. Blocks."""


class KnownStore(Protocol):
    """Local cache of what the topic holds of one study; rebuilt from it when it does not match."""

    def matches(self, cursor: Cursor) -> bool:
        """Whether the cache is what the topic held when this cursor was committed."""

    def rebuild(self, states: Iterable[tuple[Identity, KnownState]], cursor: Cursor) -> None:
        """Take these states of the topic, and match this cursor.

        What the cache knows of the same lineage, and the topic lacks, stays known as undelivered.
        """

    def lookup(self, entity: str, ids: Sequence[EntityId]) -> dict[EntityId, KnownState]:
        """The known ones of these ids."""

    def update(self) -> AbstractContextManager["KnownUpdate"]:
        """A transaction: kept when the block ends, forgotten when it raises."""


class KnownUpdate(Protocol):
    """Changes to the cache within one transaction."""

    def put(self, entity: str, states: Mapping[EntityId, KnownState], full_pass: int) -> None:
        """These states are now in the topic, and were listed during this full pass."""

    def seen(self, entity: str, ids: Iterable[EntityId], full_pass: int) -> None:
        """The API listed these known ids during this pass over the whole kind."""

    def divert(self, identities: Collection[Identity]) -> None:
        """The newest states of these are in the dead letter queue, not in the topic."""

    def vanished(self, entity: str, full_pass: int) -> "VanishedRows":
        """At the end of a full pass: what it did not list. Changes nothing."""

    def miss(self, entity: str, full_pass: int) -> None:
        """What this full pass did not list is missed once more."""

    def is_new_invalid(self, row: InvalidRow) -> bool:
        """Whether this row was not dead-lettered before; remembers it."""

    def match(self, cursor: Cursor) -> None:
        """The cache is what the topic holds once this cursor is committed."""


@dataclass(frozen=True, slots=True)
class VanishedRows:
    """The end of a full pass, in live ids: known, listed, missed for the first time, and twice."""

    known: int
    listed: int
    missed: int
    gone: dict[EntityId, KnownState]
    undelivered: dict[EntityId, KnownState]
    """Deleted already, but the topic has lost the event that says so."""


# ------------------------------------------------------------------------------------------ sink


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Position(NamedTuple):
    """The next offset to read, and the leader epoch it was read under (for validation)."""

    offset: int
    leader_epoch: int | None


class PartitionStart(NamedTuple):
    """Where a member begins to read a partition that it was given."""

    offset: int
    """Of the group; the first offset of the topic where the group has committed none."""
    first: int
    """The first offset that the topic still has."""
    checkpoint: str | None
    """Under which key the graph keeps its checkpoint of this partition; None: it keeps none."""


class Range(NamedTuple):
    """Offsets of one partition, ``end`` not included."""

    start: int
    end: int


class MessageDetails(Protocol):
    """What the client knows of a message, converted only when it is asked for."""

    def headers(self) -> Any:
        """Pairs of name and bytes, or None where there are none."""

    def timestamp(self) -> tuple[int, int]:
        """Its kind, and milliseconds since the epoch."""

    def leader_epoch(self) -> int | None:
        """Of the leader that appended it."""


class Message(NamedTuple):
    """A consumed message; bytes as they are in the topic. A tuple, since there are millions."""

    partition: TopicPartition
    offset: int
    key: bytes | None
    value: bytes | None
    details: MessageDetails

    @property
    def headers(self) -> Headers:
        """In their order. They cost as much as all the rest of the message: ask for them late."""
        return list(self.details.headers() or ())

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since the epoch; negative where it has none."""
        return self.details.timestamp()[1]

    @property
    def leader_epoch(self) -> int | None:
        """Of the leader that appended it, which is committed beside its offset."""
        return self.details.leader_epoch()


@dataclass(frozen=True, slots=True)
class PollResult:
    """What one poll brought: messages, and partitions that were read to their end.

    An end's offset lies past control records, which no message tells of: committing it makes
    Kafka's own tools show a lag of 0.
    """

    messages: list[Message]
    ends: dict[TopicPartition, Position]


class AssignmentListener(Protocol):
    """Is told, within `EventConsumer.poll` and ``close``, which partitions come and go."""

    def assigned(self, starts: Mapping[TopicPartition, PartitionStart]) -> None:
        """These are this member's now; their messages come with the next polls."""

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """These go to another member when this returns; until then they may be committed."""

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """These are another member's already: nothing of them may be committed any more."""


class EventConsumer(Protocol):
    """A member of the consumer group. Not thread-safe."""

    def subscribe(self, listener: AssignmentListener) -> None:
        """Join the group. Does not wait for an assignment."""

    def poll(self, max_messages: int, timeout_seconds: float) -> PollResult:
        """What has arrived, of assigned partitions only; waits at most this long for the first.

        Raises:
            RetryableError: the brokers answered with an error that passes.
            FatalError: a gap (the committed offset is not in the topic any more), no topic, no
                access, or the client cannot go on.
        """

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Bring nothing of these until they are resumed. ``poll`` keeps the membership.

        A partition that goes and comes back is not paused any more.
        """

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Go on after the last message that ``poll`` returned."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Resume the partition at this offset: the next message of it is the first from there.

        Raises:
            RetryableError: the client is not fetching the partition yet.
        """

    def commit(self, positions: Mapping[TopicPartition, Position]) -> Collection[TopicPartition]:
        """Commit, synchronously; returns whose positions were taken.

        A refusal by a rebalance is no error: commit it again, or its messages come again.

        Raises:
            RetryableError: the coordinator does not answer; what was applied may come again.
        """

    def check_topic(self) -> None:
        """Find out whether the topic is still the one that was assigned. Thread-safe.

        Raises:
            FatalError: it was deleted and made again; its offsets say nothing about the old one's.
            RetryableError: the brokers do not answer, or there is no topic.
        """

    def close(self) -> None:
        """Leave the group. Bounded; never raises."""


class ProbeResult(NamedTuple):
    """What must be written: nodes that are not there, and nodes of an older version (or none)."""

    absent: set[Identity]
    outdated: set[Identity]


class Span(NamedTuple):
    """The offsets of one partition that a batch stands for, and the checkpoint they move.

    A checkpoint is the offset up to which the graph holds a partition's events. The graph keeps it
    beside the data, so it is restored, emptied and swapped together with the data. It is evidence
    of where to start reading, and never filters an event.
    """

    checkpoint: str
    start: int
    """The graph must be complete up to here."""
    end: int
    """Once the batch is applied, it is complete up to here."""


class WriteResult(NamedTuple):
    """What a write met in the graph."""

    were_absent: bool
    """Whether all was absent that was taken for it. What was not is merged."""


class GraphWriter(Protocol):
    """The graph. Thread-safe. Each call blocks up to the transaction timeout.

    Raises:
        RetryableError: outage, lock, deadlock, an unknown commit outcome; user or database refused.
        BatchTooLargeError: memory or timeout of one transaction.
        InvalidEventError: the database refuses the data of at least one change.
    """

    def probe(self, versions: Mapping[Identity, int]) -> ProbeResult:
        """Those that must be written: the graph has no version of them or a smaller one."""

    def check_schema(self) -> None:
        """Raise RetryableError, with the statements to run, while a constraint is missing."""

    def checkpoints(self, keys: Collection[str]) -> dict[str, int]:
        """Up to which offset the graph is complete, for those of these keys that it has."""

    def set_checkpoint(self, key: str, offset: int) -> None:
        """Let the checkpoint be at least this; makes it where it is missing."""

    def advance(self, span: Span) -> None:
        """The batch is applied: move the checkpoint from ``start`` or later to ``end``.

        Raises:
            GraphBehindError: the checkpoint is missing or before ``start``.
        """

    def write(
        self,
        changes: Sequence[NodeChange],
        absent: Container[Identity] = (),
        span: Span | None = None,
        *,
        advance: bool = False,
    ) -> WriteResult:
        """Apply, acknowledged on return: a transaction for each kind of entity among them, or more.

        With a ``span``, nothing is written while its checkpoint is missing or before ``start``;
        with ``advance``, the last transaction also does what `advance` does.

        A change whose version is not larger than the node's is without effect, however many
        writers there are. What is ``absent`` as far as the caller knows is written faster; if
        it is there after all, only that is lost. After an error some kinds may be written, others
        not: repeat it all.

        Raises:
            GraphBehindError: as `advance`, where that was asked for.
        """


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that cannot be applied, and why. ``reason`` is one word; no content in either."""

    message: Message
    reason: str
    explanation: str
    attempts: int = 1
    """How many transactions were tried with it; 1 too where none was needed to know."""


class DeadLetterQueue(Protocol):
    """Where messages go that can never be applied. Thread-safe."""

    def publish(self, letters: Sequence[DeadLetter]) -> None:
        """Original key, value and headers plus reason headers; acknowledged on return. Blocks.

        Raises:
            RetryableError: not acknowledged; some may be in the queue already.
        """
