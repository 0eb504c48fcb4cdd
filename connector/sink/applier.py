"""What is done with a batch, on a writer's thread: probe, decode, write, dead-letter."""

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from connector.errors import BatchTooLargeError, InvalidEventError
from connector.interfaces import (
    Clock,
    DeadLetter,
    DeadLetterQueue,
    GraphWriter,
    ProbeResult,
    Span,
)
from connector.model.events import Identity
from connector.sink.batch import (
    Batch,
    Candidate,
    TransactionSize,
    decode_newest,
    first_changing,
    first_part,
    letters_among,
)
from connector.sink.isolate import write_isolated
from connector.sink.novelty import Novelty
from connector.sink.states import Arrival, State, newest_states, older_states

T = TypeVar("T")


class UntilDone(Protocol):
    """Runs a step until it succeeds; raises `AbandonedError` when its lane was dropped."""

    def __call__(self, step: Callable[[], T], /) -> T:
        """What the step returns. Blocks."""


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What became of a batch's events. ``unchanged``: superseded, or already in the graph."""

    consumed: int
    written: int
    letters: Sequence[DeadLetter]

    @property
    def unchanged(self) -> int:
        """Neither written nor dead-lettered."""
        return self.consumed - self.written - len(self.letters)


@dataclass(frozen=True, slots=True)
class _Written:
    """What one or more transactions came to."""

    events: int
    refused: list[DeadLetter]
    refused_entities: list[Identity]
    has_advanced: bool
    """Whether the graph's checkpoint is at the end of the span."""


class Applier:
    """Brings batches into the graph. Thread-safe, as its ports are."""

    def __init__(
        self,
        writer: GraphWriter,
        dead_letters: DeadLetterQueue,
        clock: Clock,
        *,
        transaction_events_max: int,
        transaction_bytes_max: int,
    ) -> None:
        self._writer = writer
        self._dead_letters = dead_letters
        self._clock = clock
        self._size = TransactionSize(transaction_events_max)
        self._events_max = transaction_events_max
        self._bytes_max = transaction_bytes_max
        self._novelty = Novelty()
        # Python decodes on one core at a time anyway; threads that wait their turn cost less than
        # threads that fight for the interpreter.
        self._decoding = threading.Lock()

    def prepare(self, arrivals: Sequence[Arrival]) -> Batch:
        """Find out what has to be written, and decode that only.

        While full batches are all new, it is not asked: `write` is right where that is not so.

        The batch has the first of the messages: as many as change what one transaction takes, so
        that what is decoded is bounded.

        Raises:
            RetryableError: the graph does not answer.
        """
        if self._novelty.is_assumed and len(arrivals) >= self._events_max:
            arrivals = arrivals[: self._events_max]
            states = newest_states(arrivals)
            return self._decoded(arrivals, states.values(), states.keys())
        return self._probed(arrivals)

    def _probed(self, arrivals: Sequence[Arrival]) -> Batch:
        states = newest_states(arrivals)
        probed = self._probe(states)
        is_full = len(arrivals) >= self._events_max
        self._novelty.probed(all_absent=is_full and len(probed.absent) == len(states))
        newer = probed.absent | probed.outdated
        if len(newer) > self._events_max:
            arrivals = arrivals[: first_changing(arrivals, newer, self._events_max)]
            states = newest_states(arrivals)
        wanted = [state for who, state in states.items() if who in newer]
        return self._decoded(arrivals, wanted, probed.absent)

    def _decoded(
        self, arrivals: Sequence[Arrival], wanted: Iterable[State], absent: Collection[Identity]
    ) -> Batch:
        with self._decoding:
            candidates, invalid = decode_newest(wanted, arrivals, self._clock.now_ms())
        return Batch(arrivals, candidates, letters_among(arrivals) + invalid, absent)

    def _probe(self, states: dict[Identity, State]) -> ProbeResult:
        """What must be written; everything where the probe is too much for the database."""
        versions = {who: state.version for who, state in states.items()}
        try:
            return self._writer.probe(versions) if versions else ProbeResult(set(), set())
        except (BatchTooLargeError, InvalidEventError):
            return ProbeResult(set(), set(versions))  # the write is guarded, and can be halved

    def write(self, batch: Batch, span: Span | None, until_done: UntilDone) -> ApplyResult:
        """On return the graph or the dead letter queue has acknowledged every message of it.

        The graph's checkpoint moves to the end of ``span`` with the last transaction, or after
        it where something was refused. Each transaction is repeated by ``until_done``.

        Raises:
            GraphBehindError: the graph lacks what comes before ``span``.
            ConnectorError: as ``until_done``.
        """
        consumed, count, letters = batch.count, 0, list(batch.letters)
        while True:
            written = self._write_all(batch, span, until_done)
            count += written.events
            letters += written.refused
            older = older_states(written.refused_entities, letters, batch.arrivals)
            if not older:
                break
            batch = until_done(partial(self._probed, older))
            letters += batch.letters
        if letters:
            until_done(partial(self._dead_letters.publish, letters))
        if span and not written.has_advanced:
            until_done(partial(self._writer.advance, span))
        return ApplyResult(consumed, count, letters)

    def _write_all(self, batch: Batch, span: Span | None, until_done: UntilDone) -> _Written:
        """All candidates, a transaction after the other."""
        rest, whole = batch.candidates, _Written(0, [], [], has_advanced=False)
        while rest:
            part = first_part(rest, self._size.events, self._bytes_max)
            rest = rest[len(part) :]
            is_last = not rest and not whole.refused
            step = partial(self._write_part, part, batch.absent, span, advance=is_last)
            done = until_done(step)
            whole = _Written(
                whole.events + done.events,
                whole.refused + done.refused,
                whole.refused_entities + done.refused_entities,
                done.has_advanced,
            )
        return whole

    def _write_part(
        self,
        part: Sequence[Candidate],
        absent: Collection[Identity],
        span: Span | None,
        *,
        advance: bool,
    ) -> _Written:
        """Write in one transaction; in halves where it is too large or holds invalid data.

        The checkpoint is moved only if it is written as a whole.
        """
        has_advanced = False

        def write(some: Sequence[Candidate]) -> None:
            nonlocal has_advanced
            moves = advance and len(some) == len(part)
            changes = [each.change for each in some]
            self._novelty.wrote(self._writer.write(changes, absent, span, advance=moves))
            has_advanced = moves

        isolated = write_isolated(write, part, self._size)
        refused = [
            DeadLetter(each.item.state.message, each.error.reason, str(each.error), each.attempts)
            for each in isolated
        ]
        entities = [each.item.change.identity for each in isolated]
        return _Written(len(part) - len(refused), refused, entities, has_advanced)
