"""Where the source publishes, and the cache of what it has published."""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from connector.model.cursor import Cursor
from connector.model.events import EntityId, Identity, KnownState, RecordEvent


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
