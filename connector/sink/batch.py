"""A batch of messages: the newest state of each entity, and what becomes of each. Pure."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from connector.errors import InvalidEventError
from connector.interfaces import DeadLetter, Message
from connector.model.entities import ENTITIES
from connector.model.events import Identity, RecordEvent
from connector.model.graph import NodeChange, node_change
from connector.model.serde import decode, stated_version

T = TypeVar("T")

_RANK = {name: rank for rank, name in enumerate(ENTITIES)}


class State(NamedTuple):
    """One state of one entity: a message whose payload need not have been decoded."""

    identity: Identity
    version: int
    message: Message


class Candidate(NamedTuple):
    """A state that the graph does not have yet, and the change that it asks for."""

    message: Message
    change: NodeChange

    @property
    def size_bytes(self) -> int:
        """The event's size in the topic, as a measure of what it takes in a transaction."""
        return len(self.message.value or b"")


@dataclass(slots=True)
class Batch:
    """What messages of one partition come to: superseded, written, or dead letters.

    Work in progress: what is acknowledged is taken away from ``candidates``, so that a repeat
    after an outage goes on there.
    """

    count: int
    messages: Sequence[Message]
    candidates: list[Candidate]
    """Parents first."""
    letters: list[DeadLetter]
    absent: set[Identity]
    """Those that the graph had no node of, as far as is known."""
    refused: list[DeadLetter] = field(default_factory=list)
    """By the database, among the candidates so far."""
    written: int = 0


def newest_states(
    messages: Iterable[Message], now_ms: int
) -> tuple[dict[Identity, State], list[DeadLetter]]:
    """The newest state of each entity (of equal versions the last), and what is no event.

    Payloads are decoded only where key and headers do not say entity and version.
    """
    newest: dict[Identity, State] = {}
    letters = []
    for message in messages:
        try:
            identity = Identity.from_key(message.key)
            version = _version(message, now_ms)
        except InvalidEventError as error:
            letters.append(DeadLetter(message, error.reason, str(error)))
            continue
        before = newest.get(identity)
        if before is None or before.version <= version:
            newest[identity] = State(identity, version, message)
    return newest, letters


def first_changing(messages: Sequence[Message], newer: Container[Identity], most: int) -> int:
    """How many of the first messages are about at most so many entities of ``newer``."""
    seen: set[bytes | None] = set()
    for index, message in enumerate(messages):
        if message.key not in seen:
            try:
                changes = Identity.from_key(message.key) in newer
            except InvalidEventError:
                continue  # a dead letter
            if changes and len(seen) == most:
                return index
            if changes:
                seen.add(message.key)
    return len(messages)


def _version(message: Message, now_ms: int) -> int:
    stated = stated_version(
        message.value, message.headers, timestamp_ms=message.timestamp_ms, now_ms=now_ms
    )
    return _event(message, now_ms).version if stated is None else stated


def _event(message: Message, now_ms: int) -> RecordEvent:
    return decode(
        message.key,
        message.value,
        message.headers,
        timestamp_ms=message.timestamp_ms,
        now_ms=now_ms,
    )


def decode_newest(
    states: Iterable[State], messages: Sequence[Message], now_ms: int
) -> tuple[list[Candidate], list[DeadLetter]]:
    """The changes that these states ask for, parents first; and those that are no event.

    Where a state is none, its entity's next older one among ``messages`` counts.
    """
    candidates: list[Candidate] = []
    letters: list[DeadLetter] = []
    failed = [state for state in states if not _decode(state.message, now_ms, candidates, letters)]
    if failed:
        older = _older(failed, messages, now_ms)
        for state in failed:
            for message in older[state.identity]:
                if _decode(message, now_ms, candidates, letters):
                    break
    candidates.sort(key=lambda each: _RANK[each.change.identity.entity])
    return candidates, letters


def _decode(
    message: Message, now_ms: int, candidates: list[Candidate], letters: list[DeadLetter]
) -> bool:
    try:
        candidates.append(Candidate(message, node_change(_event(message, now_ms))))
    except InvalidEventError as error:
        letters.append(DeadLetter(message, error.reason, str(error)))
        return False
    return True


def _older(
    states: Iterable[State], messages: Iterable[Message], now_ms: int
) -> dict[Identity, list[Message]]:
    """The other messages of these states' entities, newest first."""
    by_key = {state.message.key: state for state in states}
    found: dict[Identity, list[State]] = {state.identity: [] for state in states}
    for message in messages:
        state = by_key.get(message.key)
        if state is None or state.message.offset == message.offset:
            continue
        try:
            found[state.identity].append(State(state.identity, _version(message, now_ms), message))
        except InvalidEventError:
            continue  # a dead letter already
    return {
        identity: [each.message for each in sorted(older, key=_newest_first)]
        for identity, older in found.items()
    }


def _newest_first(state: State) -> tuple[int, int]:
    return -state.version, -state.message.offset


def superseded_by(refused: Sequence[DeadLetter], batch: Batch) -> list[Message]:
    """What gave way to a state that the database refused: its entity's newest is among it."""
    offsets = {letter.message.offset for letter in (*refused, *batch.letters)}
    keys = {letter.message.key for letter in refused}
    return [each for each in batch.messages if each.key in keys and each.offset not in offsets]


def first_part(
    candidates: Sequence[Candidate], events_max: int, bytes_max: int
) -> Sequence[Candidate]:
    """As many as one transaction may hold, but one at least."""
    size = 0
    for index, candidate in enumerate(candidates[:events_max]):
        size += candidate.size_bytes
        if size > bytes_max and index:
            return candidates[:index]
    return candidates[:events_max]


def halves(items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Two parts of at most one item's difference."""
    middle = len(items) // 2
    return items[:middle], items[middle:]


class TransactionSize:
    """How many changes a transaction takes: halved when one was too large, grown back slowly.

    Shared by all writers, as the database's memory is.
    """

    def __init__(self, events_max: int) -> None:
        self._events_max = events_max
        self.events = events_max

    def was_too_large(self, events: int) -> None:
        """A transaction of so many did not fit."""
        self.events = max(1, min(self.events, events // 2))

    def fitted(self) -> None:
        """A transaction was written: the next may be a twentieth larger."""
        self.events = min(self._events_max, self.events + max(1, self.events // 20))
