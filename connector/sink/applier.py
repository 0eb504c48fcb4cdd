"""Prepares and writes batches, on the writer threads: probe, decode, write, dead-letter."""

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

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
from connector.outage import UntilDone
from connector.sink.batch import (
    Batch,
    Candidate,
    TransactionSize,
    dead_on_arrival,
    decode_newest,
    first_transaction,
    prefix_length,
)
from connector.sink.bisection import write_bisecting
from connector.sink.first_load import FirstLoad
from connector.sink.states import Arrival, State, newest_states, older_states


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """The outcome of a batch, in messages."""

    consumed: int
    written: int
    dead_letters: Sequence[DeadLetter]
    newest_version: int = 0
    """The newest version in the batch: the API's time at that change, in ms."""

    @property
    def unchanged(self) -> int:
        """Messages that were superseded, or that the graph already had."""
        return self.consumed - self.written - len(self.dead_letters)


@dataclass(frozen=True, slots=True)
class _WriteOutcome:
    """The outcome of one or more transactions."""

    events: int
    refused: list[DeadLetter]
    refused_entities: list[Identity]
    has_advanced: bool
    """Whether the graph's checkpoint is at the end of the span."""


class Applier:
    """Applies batches to the graph. Thread-safe, as its ports are."""

    def __init__(
        self,
        writer: GraphWriter,
        dead_letters: DeadLetterQueue,
        clock: Clock,
        *,
        transaction_events_max: int,
        transaction_bytes_max: int,
        skips_probes: bool = True,
    ) -> None:
        """``skips_probes``: in a first load. Then what the graph has already may count as new."""
        self._writer = writer
        self._dead_letters = dead_letters
        self._clock = clock
        self._size = TransactionSize(transaction_events_max)
        self._events_max = transaction_events_max
        self._bytes_max = transaction_bytes_max
        self._first_load, self._skips_probes = FirstLoad(), skips_probes
        # The GIL lets one thread decode at a time anyway; waiting for a lock costs less than
        # competing for the GIL.
        self._decoding = threading.Lock()

    def prepare(self, arrivals: Sequence[Arrival]) -> Batch:
        """Probe the graph, and decode only the states that it lacks. Blocks.

        The batch ends before the first message that would change more entities than a transaction
        holds, which bounds the decoded events; later messages are left out.

        In a first load the probe is skipped, and all states are decoded as absent. If some are not
        absent after all, `write` merges them under the version guard.

        Raises:
            RetryableError: the graph does not answer.
        """
        if self._skips_probes and self._first_load.is_assumed and len(arrivals) >= self._events_max:
            arrivals = arrivals[: self._events_max]
            states = newest_states(arrivals)
            return self._decoded(arrivals, states.values(), states.keys())
        return self._probed(arrivals)

    def _probed(self, arrivals: Sequence[Arrival]) -> Batch:
        states = newest_states(arrivals)
        probed = self._probe(states)
        is_full = len(arrivals) >= self._events_max
        self._first_load.note_probe(all_absent=is_full and len(probed.absent) == len(states))
        newer = probed.absent | probed.outdated
        if len(newer) > self._events_max:
            arrivals = arrivals[: prefix_length(arrivals, newer, self._events_max)]
            states = newest_states(arrivals)
        wanted = [state for identity, state in states.items() if identity in newer]
        return self._decoded(arrivals, wanted, probed.absent)

    def _decoded(
        self, arrivals: Sequence[Arrival], wanted: Iterable[State], absent: Collection[Identity]
    ) -> Batch:
        with self._decoding:
            candidates, invalid = decode_newest(wanted, arrivals, self._clock.now_ms())
        return Batch(arrivals, candidates, dead_on_arrival(arrivals) + invalid, absent)

    def _probe(self, states: dict[Identity, State]) -> ProbeResult:
        """Return the entities to write; all of them if the probe is too large for the database."""
        versions = {identity: state.version for identity, state in states.items()}
        try:
            return self._writer.probe(versions) if versions else ProbeResult(set(), set())
        except (BatchTooLargeError, InvalidEventError):
            # The version guard keeps the write correct, and unlike the probe it can be bisected.
            return ProbeResult(set(), set(versions))

    def write(
        self,
        batch: Batch,
        span: Span | None,
        until_written: UntilDone,
        until_published: UntilDone,
    ) -> ApplyResult:
        """Write the batch; on return the graph or the dead letter queue has all its messages.

        The checkpoint advances to the end of ``span`` with the last transaction, or separately if
        that was bisected or nothing was written. Steps are retried by ``until_written`` (the graph)
        and ``until_published`` (the dead letter queue). Blocks.

        Raises:
            StaleGraphError: the graph is not complete up to the start of ``span``.
            ConnectorError: as the two.
        """
        consumed, events, dead_letters = batch.count, 0, list(batch.dead_letters)
        versions = (each.version for each in batch.arrivals if isinstance(each, State))
        newest = max(versions, default=0)
        while True:
            written = self._write_all(batch, span, until_written)
            events += written.events
            dead_letters += written.refused
            # A refused event may have superseded valid older states of its entity in this batch.
            older = older_states(written.refused_entities, dead_letters, batch.arrivals)
            if not older:
                break
            batch = until_written(partial(self._probed, older))
            dead_letters += batch.dead_letters
        if dead_letters:
            until_published(partial(self._dead_letters.publish, dead_letters))
        if span and not written.has_advanced:
            until_written(partial(self._writer.advance, span))
        return ApplyResult(consumed, events, dead_letters, newest)

    def _write_all(
        self, batch: Batch, span: Span | None, until_written: UntilDone
    ) -> _WriteOutcome:
        """Write all candidates, one transaction after the other."""
        rest, total = batch.candidates, _WriteOutcome(0, [], [], has_advanced=False)
        while rest:
            part = first_transaction(rest, self._size.events, self._bytes_max)
            rest = rest[len(part) :]
            may_advance = not rest and not total.refused
            step = partial(self._write_part, part, batch.absent, span, may_advance=may_advance)
            written = until_written(step)
            total = _WriteOutcome(
                total.events + written.events,
                total.refused + written.refused,
                total.refused_entities + written.refused_entities,
                written.has_advanced,
            )
        return total

    def _write_part(
        self,
        part: Sequence[Candidate],
        absent: Collection[Identity],
        span: Span | None,
        *,
        may_advance: bool,
    ) -> _WriteOutcome:
        """Write the part in one transaction; bisect it if it is too large or has invalid data.

        The checkpoint advances only with a transaction that holds the whole part.
        """
        has_advanced = False

        def write(candidates: Sequence[Candidate]) -> None:
            nonlocal has_advanced
            advance = may_advance and len(candidates) == len(part)
            changes = [each.change for each in candidates]
            result = self._writer.write(changes, absent, span, advance=advance)
            self._first_load.note_write(result)
            has_advanced = advance

        refused = write_bisecting(write, part, self._size)
        dead_letters = [
            DeadLetter(each.item.state.message, each.error.reason, str(each.error), each.attempts)
            for each in refused
        ]
        entities = [each.item.change.identity for each in refused]
        return _WriteOutcome(len(part) - len(refused), dead_letters, entities, has_advanced)
