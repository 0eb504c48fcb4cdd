"""A batch: what the messages of one partition come to. Immutable values, pure functions."""

from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from connector.errors import InvalidEventError
from connector.interfaces import DeadLetter
from connector.model.entities import ENTITIES
from connector.model.events import Identity
from connector.model.graph import NodeChange, node_change
from connector.sink.states import Arrival, State, decode, letter_of, newest_states, older_states

T = TypeVar("T")

_RANK = {name: rank for rank, name in enumerate(ENTITIES)}


class Candidate(NamedTuple):
    """A state that the graph does not have yet, and the change that it asks for."""

    state: State
    change: NodeChange

    @property
    def size_bytes(self) -> int:
        """The event's size in the topic, as a measure of what it takes in a transaction."""
        return len(self.state.message.value or b"")


@dataclass(frozen=True, slots=True)
class Batch:
    """What messages of one partition come to: superseded, to be written, or dead letters."""

    arrivals: Sequence[Arrival]
    candidates: Sequence[Candidate]
    """Parents first."""
    letters: Sequence[DeadLetter]
    absent: Collection[Identity]
    """Those that the graph had no node of, as far as is known."""

    @property
    def count(self) -> int:
        """How many messages it stands for."""
        return len(self.arrivals)


def first_changing(arrivals: Sequence[Arrival], newer: Container[Identity], most: int) -> int:
    """How many of the first messages are about at most so many entities of ``newer``."""
    seen: set[Identity] = set()
    for index, state in enumerate(arrivals):
        if isinstance(state, State) and state.identity in newer and state.identity not in seen:
            if len(seen) == most:
                return index
            seen.add(state.identity)
    return len(arrivals)


def decode_newest(
    states: Iterable[State], arrivals: Sequence[Arrival], now_ms: int
) -> tuple[list[Candidate], list[DeadLetter]]:
    """The changes that these states ask for, parents first; and those that are no event.

    Where a state is none, its entity's next older one among ``arrivals`` counts.
    """
    candidates: list[Candidate] = []
    letters: list[DeadLetter] = []
    while states:
        failed = []
        for state in states:
            try:
                candidates.append(Candidate(state, node_change(decode(state, now_ms))))
            except InvalidEventError as error:
                letters.append(letter_of(state.message, error))
                failed.append(state.identity)
        states = newest_states(older_states(failed, letters, arrivals)).values() if failed else ()
    candidates.sort(key=lambda each: _RANK[each.change.identity.entity])
    return candidates, letters


def letters_among(arrivals: Iterable[Arrival]) -> list[DeadLetter]:
    """Those that were no event when they arrived."""
    return [each for each in arrivals if isinstance(each, DeadLetter)]


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
