"""Batches: messages of one partition that are prepared and written together. Pure."""

from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from connector.errors import InvalidEventError
from connector.interfaces import DeadLetter
from connector.model.entities import ENTITIES
from connector.model.events import Identity
from connector.model.graph import NodeChange, node_change
from connector.sink.states import (
    Arrival,
    State,
    decode,
    newest_states,
    older_states,
    to_dead_letter,
)

T = TypeVar("T")

_RANK = {name: rank for rank, name in enumerate(ENTITIES)}


class Candidate(NamedTuple):
    """A state to write, and the change of the graph that it decodes to."""

    state: State
    change: NodeChange

    @property
    def size_bytes(self) -> int:
        """The size of the payload, as a measure of what its change adds to a transaction."""
        return len(self.state.message.value or b"")


@dataclass(frozen=True, slots=True)
class Batch:
    """Prepared messages: some to write, some dead letters, the rest superseded or in the graph."""

    arrivals: Sequence[Arrival]
    """All messages, in partition order."""
    candidates: Sequence[Candidate]
    """To be written, parents first."""
    dead_letters: Sequence[DeadLetter]
    absent: Collection[Identity]
    """Entities that the graph is believed not to have."""

    @property
    def count(self) -> int:
        """The number of messages."""
        return len(self.arrivals)


def prefix_length(
    arrivals: Sequence[Arrival], newer: Container[Identity], entities_max: int
) -> int:
    """How many leading messages concern at most ``entities_max`` entities of ``newer``."""
    seen: set[Identity] = set()
    for index, state in enumerate(arrivals):
        if isinstance(state, State) and state.identity in newer and state.identity not in seen:
            if len(seen) == entities_max:
                return index
            seen.add(state.identity)
    return len(arrivals)


def decode_newest(
    states: Iterable[State], arrivals: Sequence[Arrival], now_ms: int
) -> tuple[list[Candidate], list[DeadLetter]]:
    """Decode states into candidates, parents first, and into dead letters if they are not events.

    An entity whose state is not an event falls back to its next older state in ``arrivals``.
    """
    candidates: list[Candidate] = []
    dead_letters: list[DeadLetter] = []
    while states:
        failed = []
        for state in states:
            try:
                candidates.append(Candidate(state, node_change(decode(state, now_ms))))
            except InvalidEventError as error:
                dead_letters.append(to_dead_letter(state.message, error))
                failed.append(state.identity)
        older = older_states(failed, dead_letters, arrivals) if failed else []
        states = newest_states(older).values()
    candidates.sort(key=lambda each: _RANK[each.change.identity.entity])
    return candidates, dead_letters


def dead_on_arrival(arrivals: Iterable[Arrival]) -> list[DeadLetter]:
    """The messages that `parse` found not to be events."""
    return [each for each in arrivals if isinstance(each, DeadLetter)]


def first_transaction(
    candidates: Sequence[Candidate], events_max: int, bytes_max: int
) -> Sequence[Candidate]:
    """The leading candidates that fit into one transaction, at least one."""
    size = 0
    for index, candidate in enumerate(candidates[:events_max]):
        size += candidate.size_bytes
        if size > bytes_max and index:
            return candidates[:index]
    return candidates[:events_max]


def halves(items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """The first and second half; of an odd number of items, the second has one more."""
    middle = len(items) // 2
    return items[:middle], items[middle:]


class TransactionSize:
    """The limit of changes per transaction: halved if one was too large, then slowly raised.

    Shared by all writers, as they share the database's memory.
    """

    def __init__(self, events_max: int) -> None:
        self._events_max = events_max
        self.events = events_max

    def shrink(self, events: int) -> None:
        """Reduce the limit to half of ``events``, the size of a transaction that was too large."""
        self.events = max(1, min(self.events, events // 2))

    def grow(self) -> None:
        """Raise the limit by a twentieth, after a transaction that succeeded."""
        self.events = min(self._events_max, self.events + max(1, self.events // 20))
