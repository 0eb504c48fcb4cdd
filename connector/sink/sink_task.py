"""The sink's loop: poll -> lanes -> batches on writers -> acknowledged -> commit offsets.

This thread alone polls, owns the lanes and commits; writers only work on the batch that they are
given. So the membership never depends on the database, and what may be committed is decided in
one place.
"""

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter

import structlog

from connector.config import SinkSettings
from connector.errors import RetryableError
from connector.interfaces import (
    Clock,
    DeadLetter,
    DeadLetterQueue,
    EventConsumer,
    GraphWriter,
    Polled,
    TopicPartition,
)
from connector.sink.applier import Applied, Applier
from connector.sink.batch import Batch
from connector.sink.lane import Lane, LaneLimits
from connector.sink.patience import Patience
from connector.sink.writer_threads import Done, Result, Writers

log = structlog.stdlib.get_logger("connector.sink")

_POLL_EVENTS = 2000
_POLL_SECONDS_IDLE = 0.5
_POLL_SECONDS_BUSY = 0.002
"""While writers work: their ends are looked for between two polls."""


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
    writers: Writers


class SinkTask:
    """Applies the events of the partitions it owns to the graph until it is told to stop."""

    def __init__(self, ports: SinkPorts, settings: SinkSettings) -> None:
        self._ports = ports
        self._settings = settings
        self._limits = LaneLimits(
            transaction_events_max=settings.transaction_events_max,
            batch_events_max=max(settings.batch_events_max, settings.transaction_events_max),
            batch_bytes_max=settings.batch_bytes_max,
            linger_seconds=settings.linger_seconds,
        )
        self._applier = Applier(
            ports.writer,
            ports.dead_letters,
            ports.clock,
            transaction_events_max=settings.transaction_events_max,
            transaction_bytes_max=settings.batch_bytes_max,
        )
        self._patience = Patience(ports.clock, settings.retry_wait_seconds_max)
        self._lanes: dict[TopicPartition, Lane] = {}
        self._commit_at = self._commit_at_caught_up = 0.0
        self.progress = SinkProgress()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then what is being written is finished and committed.

        Raises:
            FatalError: repeating cannot help. Nothing that is not applied was committed.
        """
        self._ports.consumer.subscribe(self)
        try:
            while not stop.is_set():
                self._accept(self._poll(stop))
                self._collect()
                self._start_batches()
                self._hold_back_full_lanes()
                self._commit_when_due()
        finally:
            self._let_go(list(self._lanes), self._settings.close_timeout_seconds / 3)

    # ------------------------------------------------------------------------- the loop's steps

    def _poll(self, stop: threading.Event) -> Polled:
        busy = any(lane.is_busy for lane in self._lanes.values())
        idle_seconds = min(_POLL_SECONDS_IDLE, self._limits.linger_seconds or _POLL_SECONDS_IDLE)
        try:
            return self._ports.consumer.poll(
                _POLL_EVENTS, _POLL_SECONDS_BUSY if busy else idle_seconds
            )
        except RetryableError as error:
            log.warning("polling again", reason=str(error))
            self._ports.clock.wait(stop, _POLL_SECONDS_IDLE)
            return Polled([], {})

    def _accept(self, polled: Polled) -> None:
        now = self._ports.clock.monotonic()
        for partition, messages in groupby(polled.messages, attrgetter("partition")):
            self._lanes[partition].add(messages, now)
        for partition, end in polled.ends.items():
            self._lanes[partition].reached_end(end)

    def _collect(self, wait_seconds: float = 0.0) -> bool:
        """Take in what writers have finished; whether there was anything."""
        first = done = self._ports.writers.done(wait_seconds)
        while done is not None:
            self._take_in(done)
            done = self._ports.writers.done(0)
        return first is not None

    def _take_in(self, done: Done) -> None:
        if done.error is not None:
            done.lane.dropped.set()
            raise done.error
        if done.lane.dropped.is_set() or done.result is None:
            return  # another generation's: never committed
        if isinstance(done.result, Batch):
            done.lane.prepared(done.result)
        else:
            done.lane.written()
            self._count(done.result)

    def _start_batches(self) -> None:
        """Each free lane goes on. Decoded batches are few: they are what takes memory."""
        now = self._ports.clock.monotonic()
        most = self._settings.writers_max
        decoded = sum(lane.holds_decoded for lane in self._lanes.values())
        writing = sum(lane.is_writing for lane in self._lanes.values())
        for lane in sorted(self._lanes.values(), key=attrgetter("started_at")):
            if writing < most and (batch := lane.start_writing()):
                decoded, writing = decoded - 1, writing + 1
                self._submit(lane, partial(self._applier.write, batch))
            if decoded < most and (messages := lane.start_preparing(now)):
                decoded += 1
                self._submit(lane, partial(self._applier.prepare, messages))

    def _submit(self, lane: Lane, step: Callable[[], Result]) -> None:
        def until_done() -> Result:
            return self._patience.until_done(step, lane.dropped)

        self._ports.writers.submit(lane, until_done)

    def _hold_back_full_lanes(self) -> None:
        """Full lanes are paused, so that polling goes on, whatever the database does."""
        share = self._settings.buffer_bytes_max // max(1, len(self._lanes))
        full = [each for each in self._lanes.values() if not each.is_paused and each.is_full(share)]
        low = [each for each in self._lanes.values() if each.is_paused and each.is_low(share)]
        for lanes, call in ((full, self._ports.consumer.pause), (low, self._ports.consumer.resume)):
            if lanes:
                call([lane.partition for lane in lanes])
        for lane in full + low:
            lane.is_paused = not lane.is_paused

    def _commit_when_due(self) -> None:
        now = self._ports.clock.monotonic()
        caught_up = not any(lane.is_busy for lane in self._lanes.values())
        if now >= (self._commit_at_caught_up if caught_up else self._commit_at):
            self._commit_at = now + self._settings.commit_interval_seconds
            self._commit_at_caught_up = now + self._settings.commit_interval_seconds / 10
            self._commit(self._lanes.values())

    def _commit(self, lanes: Iterable[Lane]) -> None:
        """The only place where offsets advance: all before them is acknowledged."""
        moved = [lane for lane in lanes if lane.applied != lane.committed]
        positions = {lane.partition: lane.applied for lane in moved if lane.applied is not None}
        if not positions:
            return
        try:
            taken = self._ports.consumer.commit(positions)
        except RetryableError as error:
            log.warning("committing again", reason=str(error))  # with the next
            return
        for lane in moved:
            if lane.partition in taken:
                lane.committed = lane.applied

    # ------------------------------------------------------------------------------- rebalances

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See `connector.interfaces.AssignmentListener`."""
        for partition in partitions:
            self._lanes[partition] = Lane(partition, self._limits)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """What is being written is finished, if that does not take too long, and committed."""
        self._let_go(partitions, self._settings.revoke_timeout_seconds)

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """Another member has them: nothing of them may be committed."""
        for partition in partitions:
            if lane := self._lanes.pop(partition, None):
                lane.dropped.set()

    def _let_go(self, partitions: Collection[TopicPartition], wait_seconds: float) -> None:
        lanes = [self._lanes[each] for each in partitions if each in self._lanes]
        clock = self._ports.clock
        end = clock.monotonic() + wait_seconds
        try:
            while (
                any(lane.is_writing and not lane.dropped.is_set() for lane in lanes)
                and not self._patience.is_tried
                and self._collect(max(0.0, end - clock.monotonic()))
            ):
                pass
        finally:
            self._commit(lanes)
            self.lost(partitions)

    # ---------------------------------------------------------------------------------- progress

    def _count(self, applied: Applied) -> None:
        progress = self.progress
        progress.consumed += applied.consumed
        progress.written += applied.written
        progress.unchanged += applied.unchanged
        progress.dead_letters += len(applied.letters)
        progress.retries = self._patience.retries
        for letter in applied.letters:
            _say(letter)


def _say(letter: DeadLetter) -> None:
    log.warning(
        "dead letter",
        reason=letter.reason,
        offset=letter.message.offset,
        partition=letter.message.partition.partition,
    )
