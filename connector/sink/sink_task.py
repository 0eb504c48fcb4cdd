"""The sink's loop: poll -> decode -> probe -> one transaction -> acknowledged -> commit offsets.

Offsets are committed in one place, after the graph (or the dead letter queue) has acknowledged all
that they stand for. Until then every failure that may pass is repeated, while the member stays in
its group; what it loses in a rebalance meanwhile is the next owner's.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from connector.errors import BatchTooLargeError, InvalidEventError, RetryableError
from connector.events import Identity
from connector.interfaces import (
    Clock,
    DeadLetter,
    DeadLetterQueue,
    EventConsumer,
    GraphWriter,
    Message,
    Polled,
)
from connector.retry import Backoff
from connector.sink.batch import Candidate, decode_all, halves, next_positions

log = structlog.stdlib.get_logger("connector.sink")

_POLL_SECONDS = 0.5


@dataclass(slots=True)
class SinkProgress:
    """What a sink has done since it started, in events."""

    consumed: int = 0
    written: int = 0
    unchanged: int = 0
    """Superseded within their batch, or already in the graph."""
    dead_letters: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class SinkPorts:
    """What the task is wired to."""

    consumer: EventConsumer
    writer: GraphWriter
    dead_letters: DeadLetterQueue
    clock: Clock


class SinkTask:
    """Applies the events of the partitions it owns to the graph until it is told to stop."""

    def __init__(self, ports: SinkPorts, *, batch_events_max: int, backoff: Backoff) -> None:
        self._ports = ports
        self._batch_events_max = batch_events_max
        self._backoff = backoff
        self.progress = SinkProgress()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then the batch at hand is finished and committed.

        Raises:
            FatalError: repeating cannot help. Nothing that is not applied was committed.
        """
        while not stop.is_set():
            try:
                polled = self._ports.consumer.poll(self._batch_events_max, _POLL_SECONDS)
            except RetryableError as error:
                self._pause(error, stop)
                continue
            if polled.messages or polled.ends:
                self._finish(polled, stop)

    def _finish(self, polled: Polled, stop: threading.Event) -> None:
        """Apply and commit, as often as it takes; given up only when asked to stop."""
        applied = False
        while True:
            try:
                if not applied:
                    self._apply(polled)
                    applied = True
                # The only place where offsets advance: all before them is acknowledged.
                self._ports.consumer.commit(next_positions(polled))
            except RetryableError as error:
                self._pause(error, stop)
                polled = self._still_owned(polled)
                if stop.is_set():
                    return  # not committed: it comes again
            else:
                self._backoff.reset()
                self.progress.consumed += len(polled.messages)
                return

    def _apply(self, polled: Polled) -> None:
        """On return the graph or the dead letter queue has acknowledged every message."""
        before = self.progress.written
        letters = self._apply_messages(polled.messages)
        if letters:
            self._ports.dead_letters.publish(letters)
        for letter in letters:
            log.warning(
                "dead letter",
                reason=letter.reason,
                offset=letter.message.offset,
                partition=letter.message.partition.partition,
            )
        written = self.progress.written - before
        self.progress.dead_letters += len(letters)
        self.progress.unchanged += len(polled.messages) - written - len(letters)

    def _apply_messages(self, messages: Sequence[Message]) -> list[DeadLetter]:
        """Write the newest valid state of each entity; what is invalid comes back as letters."""
        decoded = decode_all(messages, self._ports.clock.now_ms())
        newer = self._newer({who: each.change.version for who, each in decoded.newest.items()})
        candidates = [each for who, each in decoded.newest.items() if who in newer]
        refused = self._write(candidates)
        self.progress.written += len(candidates) - len(refused)
        letters = decoded.letters + refused
        # An older state that a refused one had superseded is its entity's newest valid one now.
        keys = {letter.message.key for letter in refused}
        done = {(letter.message.partition, letter.message.offset) for letter in letters}
        older = [
            each
            for each in messages
            if each.key in keys and (each.partition, each.offset) not in done
        ]
        return letters + (self._apply_messages(older) if older else [])

    def _newer(self, versions: dict[Identity, int]) -> set[Identity]:
        """What must be written; everything where the probe is too much for the database."""
        try:
            return self._ports.writer.newer(versions) if versions else set()
        except (BatchTooLargeError, InvalidEventError):
            return set(versions)  # the write is guarded, and can be halved

    def _write(self, candidates: Sequence[Candidate]) -> list[DeadLetter]:
        """Write in one transaction; in halves where it is too large or holds invalid data."""
        try:
            self._ports.writer.write([each.change for each in candidates])
        except (BatchTooLargeError, InvalidEventError) as error:
            if len(candidates) > 1:
                return [letter for half in halves(candidates) for letter in self._write(half)]
            if isinstance(error, BatchTooLargeError):
                raise RetryableError(
                    f"a single event is too much for the database: {error}"
                ) from error
            return [DeadLetter(candidates[0].message, error.reason, str(error))]
        return []

    def _still_owned(self, polled: Polled) -> Polled:
        owns = self._ports.consumer.owns
        return Polled(
            [message for message in polled.messages if owns(message.partition)],
            {partition: at for partition, at in polled.ends.items() if owns(partition)},
        )

    def _pause(self, error: RetryableError, stop: threading.Event) -> None:
        self.progress.retries += 1
        wait_seconds = self._backoff.next_wait(error.retry_after_seconds)
        log.warning(
            "waiting before the next try", reason=str(error), wait_seconds=round(wait_seconds, 1)
        )
        end = self._ports.clock.monotonic() + wait_seconds
        while not stop.is_set() and (left := end - self._ports.clock.monotonic()) > 0:
            self._ports.consumer.wait_paused(min(left, _POLL_SECONDS))
