"""What is done with a batch, on a writer's thread: probe, decode, write, dead-letter.

Both steps may raise RetryableError; repeating them goes on where they stopped.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from connector.errors import BatchTooLargeError, InvalidEventError
from connector.interfaces import (
    Clock,
    DeadLetter,
    DeadLetterQueue,
    GraphWriter,
    Message,
    Probed,
    Span,
)
from connector.model.events import Identity
from connector.sink.batch import (
    Batch,
    Candidate,
    State,
    TransactionSize,
    decode_newest,
    first_changing,
    first_part,
    newest_states,
    superseded_by,
)
from connector.sink.isolate import write_isolated


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch's events. ``unchanged``: superseded, or already in the graph."""

    consumed: int
    written: int
    letters: Sequence[DeadLetter]

    @property
    def unchanged(self) -> int:
        """Neither written nor dead-lettered."""
        return self.consumed - self.written - len(self.letters)


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
        # While full batches are all new, as in a first load, it is not asked whether they are.
        self._are_all_new = False
        # Python decodes on one core at a time anyway; threads that wait their turn cost less than
        # threads that fight for the interpreter.
        self._decoding = threading.Lock()

    def prepare(self, messages: Sequence[Message]) -> Batch:
        """Find out what has to be written, and decode that only.

        While full batches are all new, it is not asked: `write` is right where that is not so.

        The batch has the first of the messages: as many as change what one transaction takes, so
        that what is decoded is bounded.

        Raises:
            RetryableError: the graph does not answer.
            FatalError: as `GraphWriter`.
        """
        if self._are_all_new and len(messages) >= self._events_max:
            return self._all_taken_for_absent(messages[: self._events_max])
        return self._probed(messages)

    def _all_taken_for_absent(self, messages: Sequence[Message]) -> Batch:
        states, letters = newest_states(messages, self._clock.now_ms())
        return self._decoded(messages, states.values(), letters, set(states))

    def _probed(self, messages: Sequence[Message]) -> Batch:
        now_ms = self._clock.now_ms()
        states, letters = newest_states(messages, now_ms)
        probed = self._probe(states)
        is_full = len(messages) >= self._events_max
        self._are_all_new = is_full and len(probed.absent) == len(states)
        newer = probed.absent | probed.outdated
        if len(newer) > self._events_max:
            messages = messages[: first_changing(messages, newer, self._events_max)]
            states, letters = newest_states(messages, now_ms)
        wanted = (state for who, state in states.items() if who in newer)
        return self._decoded(messages, wanted, letters, probed.absent)

    def _decoded(
        self,
        messages: Sequence[Message],
        wanted: Iterable[State],
        letters: list[DeadLetter],
        absent: set[Identity],
    ) -> Batch:
        with self._decoding:
            candidates, invalid = decode_newest(wanted, messages, self._clock.now_ms())
        return Batch(len(messages), messages, candidates, letters + invalid, absent)

    def write(self, batch: Batch, span: Span | None = None) -> Applied:
        """On return the graph or the dead letter queue has acknowledged every message of it.

        The graph's checkpoint moves to the end of ``span`` with the last transaction, or after
        it where something was refused.

        Raises:
            RetryableError: not all is acknowledged; ``batch`` holds what is left to do.
            GraphBehindError: the graph lacks what comes before ``span``.
            FatalError: as `GraphWriter`.
        """
        has_advanced = self._write_candidates(batch, span)
        while older := superseded_by(batch.refused, batch):
            again = self._probed(older)
            batch.letters += batch.refused + again.letters
            batch.messages, batch.candidates, batch.refused = older, again.candidates, []
            batch.absent = again.absent
            has_advanced = self._write_candidates(batch, span)
        letters = batch.letters + batch.refused
        if letters:
            self._dead_letters.publish(letters)
        if span and not has_advanced:
            self._writer.advance(span)
        return Applied(batch.count, batch.written, letters)

    def _probe(self, states: dict[Identity, State]) -> Probed:
        """What must be written; everything where the probe is too much for the database."""
        versions = {who: state.version for who, state in states.items()}
        try:
            return self._writer.probe(versions) if versions else Probed(set(), set())
        except (BatchTooLargeError, InvalidEventError):
            return Probed(set(), set(versions))  # the write is guarded, and can be halved

    def _write_candidates(self, batch: Batch, span: Span | None) -> bool:
        """Whether the checkpoint was moved with them."""
        has_advanced = False
        while batch.candidates:
            part = first_part(batch.candidates, self._size.events, self._bytes_max)
            is_last = len(part) == len(batch.candidates) and not batch.refused
            refused, has_advanced = self._write_part(part, batch.absent, span, advance=is_last)
            batch.refused += refused
            batch.written += len(part) - len(refused)
            del batch.candidates[: len(part)]
        return has_advanced

    def _write_part(
        self,
        part: Sequence[Candidate],
        absent: set[Identity],
        span: Span | None,
        *,
        advance: bool,
    ) -> tuple[list[DeadLetter], bool]:
        """Write in one transaction; in halves where it is too large or holds invalid data.

        What was refused, and whether the checkpoint was moved: only if it is written as a whole.
        """
        has_advanced = False

        def write(some: Sequence[Candidate]) -> None:
            nonlocal has_advanced
            moves = advance and len(some) == len(part)
            changes = [each.change for each in some]
            if not self._writer.write(changes, absent, span, advance=moves):
                self._are_all_new = False
            has_advanced = moves

        refused = [
            DeadLetter(each.item.message, each.error.reason, str(each.error), each.attempts)
            for each in write_isolated(write, part, self._size)
        ]
        return refused, has_advanced
