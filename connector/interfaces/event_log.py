"""The source's output ports: the transactional event log and the cache of known states."""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from connector.model.cursor import Cursor
from connector.model.events import EntityId, Identity, KnownState, RecordEvent
from connector.model.typed_values import Definition


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """An API row that cannot be turned into an event."""

    study_key: str
    entity: str
    raw: bytes
    reason: str


class OpenedLog(NamedTuple):
    """The result of `EventLog.open`."""

    cursor: Cursor | None
    """The last committed cursor; None on the first start."""
    loss: str | None
    """How the events topic has lost events since then, in words; None if it has lost none."""


class EventLog(Protocol):
    """A transactional log of one study: the events topic together with the cursor."""

    def open(self) -> OpenedLog:
        """Fence other sources of the study, and read the last committed cursor. Blocks.

        Call it before `publish`, and again after `publish` raises RetryableError or
        BatchTooLargeError: the outcome is read back, never guessed.

        Raises:
            RetryableError: the brokers do not answer, or a topic is missing.
            FatalError: access is denied.
        """

    def publish(
        self,
        events: Sequence[tuple[RecordEvent, int | None]],
        invalid: Sequence[InvalidRow],
        cursor: Cursor,
        dead_lettered: Container[Identity] = (),
    ) -> Collection[Identity]:
        """Publish events (each with its subject's id), dead letters and cursor in one transaction.

        On return everything is committed; on an error either everything or nothing is. Blocks.

        Events too large for the topic are diverted to the dead letter queue, by reference; those
        in ``dead_lettered`` are already in it and are not sent again. The topic does not hold the
        states of diverted events. Returns their identities.

        Raises:
            RetryableError: the outcome is unknown, or nothing was written. Call `open` again.
            BatchTooLargeError: as RetryableError, and the transaction took too long. Publish less.
            FatalError: another source of this study has taken over.
        """

    def replay(self) -> Iterator[tuple[Identity, KnownState]]:
        """Yield every committed state of the study, each partition in order. Blocks."""


class KnownStore(Protocol):
    """Local cache of one study's known states; rebuilt from the topic when they do not match."""

    def matches(self, cursor: Cursor) -> bool:
        """Return whether the cache equals the topic as of this cursor."""

    def rebuild(self, states: Iterable[tuple[Identity, KnownState]], cursor: Cursor) -> None:
        """Load these states, read from the topic, and match this cursor.

        States of the same lineage that the topic has lost stay known, marked as lost or diverted.
        """

    def lookup(self, entity: str, ids: Sequence[EntityId]) -> dict[EntityId, KnownState]:
        """Return the known states of these ids; ids without one are omitted."""

    def definitions(self) -> Sequence[Definition]:
        """Return the variable definitions of the known states."""

    def update(self) -> AbstractContextManager["KnownUpdate"]:
        """Open a transaction: committed when the block ends, rolled back when it raises."""


class KnownUpdate(Protocol):
    """Changes to the cache within one transaction."""

    def put(self, entity: str, states: Mapping[EntityId, KnownState], full_pass: int) -> None:
        """Store states that are now in the topic and were listed during this full pass."""

    def has_listed(self, entity: str, ids: Sequence[EntityId], full_pass: int) -> bool:
        """Return whether the API has listed any of these ids during this full pass."""

    def seen(self, entity: str, ids: Iterable[EntityId], full_pass: int) -> None:
        """Record that the API listed these known ids during this full pass."""

    def divert(self, identities: Collection[Identity]) -> None:
        """Mark the newest states of these entities as diverted: not in the topic."""

    def vanished(self, entity: str, full_pass: int) -> "VanishedRows":
        """Return the rows that this full pass, now at its end, did not list. Changes nothing."""

    def miss(self, entity: str, full_pass: int) -> None:
        """Count one more miss for each live entity that this full pass did not list."""

    def is_new_invalid(self, row: InvalidRow) -> bool:
        """Return whether this row has not been dead-lettered before, and remember it."""

    def match(self, cursor: Cursor) -> None:
        """Record that the cache equals the topic as of this cursor."""


@dataclass(frozen=True, slots=True)
class VanishedRows:
    """The result of a full pass, in live entities."""

    known: int
    listed: int
    missed: int
    """Missed for the first time."""
    gone: dict[EntityId, KnownState]
    """Missed for the second time."""
    undelivered: dict[EntityId, KnownState]
    """Deleted entities whose delete event the topic has lost."""
