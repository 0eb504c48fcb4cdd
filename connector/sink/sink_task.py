"""The sink's loop: poll -> lanes -> batches on writers -> acknowledged -> commit offsets.

This thread alone polls, owns the lanes and commits; writers only work on the batch that they are
given. So the membership never depends on the database, and what may be committed is decided in
one place.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

import structlog

from connector.config import SinkSettings
from connector.errors import GraphBehindError, RetryableError
from connector.interfaces import (
    PartitionStart,
    PollResult,
    Span,
    TopicPartition,
)
from connector.retry import AbandonedError
from connector.sink.applier import Applier
from connector.sink.batch import Batch
from connector.sink.checkpoints import Checkpoints, GraphCheck, OpenedPartition
from connector.sink.commits import Commits
from connector.sink.lane import Lane, LaneLimits
from connector.sink.outage import Outage
from connector.sink.ports import SinkPorts
from connector.sink.progress import SinkProgress
from connector.sink.states import parse
from connector.sink.writer_threads import FinishedStep, Result

log = structlog.stdlib.get_logger("connector.sink")

T = TypeVar("T")

_POLL_EVENTS = 2000
_POLL_SECONDS_IDLE = 0.5
_POLL_SECONDS_BUSY = 0.002
"""While writers work: their ends are looked for between two polls."""
_POLL_SECONDS_FULL = 0.02
"""While only a writer's end can bring something to do: it is waited for instead."""


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
        self._checkpoints = Checkpoints(ports.writer, accept_gap=settings.accept_gap)
        self._check_at = ports.clock.monotonic() + settings.check_interval_seconds
        self._is_checking = False
        self._is_ending = threading.Event()
        self._is_letting_go = False
        self._postponed: list[FinishedStep] = []
        """Openings that ended within a rebalance: what its poll holds is of before their seek."""
        self._graph_outage = Outage(ports.clock, settings.retry_wait_seconds_max)
        self._broker_outage = Outage(ports.clock, settings.retry_wait_seconds_max)
        self._lanes: dict[TopicPartition, Lane] = {}
        self._commits = Commits(ports, settings.commit_interval_seconds, self._broker_outage)
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
                self._collect(0.0 if self._needs_messages() else _POLL_SECONDS_FULL)
                self._check_when_due()
                self._start_batches()
                self._hold_back_full_lanes()
                self._commits.when_due(self._lanes.values())
        finally:
            self._is_ending.set()
            self._let_go(list(self._lanes), self._settings.close_timeout_seconds / 3)

    # ------------------------------------------------------------------------- the loop's steps

    def _poll(self, stop: threading.Event) -> PollResult:
        lanes = self._lanes.values()
        wait_seconds = min(_POLL_SECONDS_IDLE, self._limits.linger_seconds or _POLL_SECONDS_IDLE)
        if self._is_checking or any(lane.is_busy or not lane.is_open for lane in lanes):
            wait_seconds = _POLL_SECONDS_BUSY if self._needs_messages() else 0.0
        try:
            return self._ports.consumer.poll(_POLL_EVENTS, wait_seconds)
        except RetryableError as error:
            self._broker_outage.failed(error)
            self._ports.clock.wait(stop, _POLL_SECONDS_IDLE)
            return PollResult([], {})

    def _needs_messages(self) -> bool:
        """Whether a message could start something now; else every lane has enough to go on with."""
        lanes = self._lanes.values()
        return not lanes or any(not lane.is_busy or not lane.has_next_batch for lane in lanes)

    def _accept(self, polled: PollResult) -> None:
        now = self._ports.clock.monotonic()
        if polled.messages or polled.ends:
            self._broker_outage.succeeded()
        now_ms = self._ports.clock.now_ms()
        for partition, messages in groupby(polled.messages, attrgetter("partition")):
            if (lane := self._lanes[partition]).is_open:  # else it is about to be read again
                lane.add([parse(message, now_ms) for message in messages], now)
        for partition, end in polled.ends.items():
            if (lane := self._lanes[partition]).is_open:
                lane.reached_end(end)

    def _collect(self, wait_seconds: float = 0.0) -> bool:
        """Take in what writers have finished; whether there was anything."""
        while self._postponed and not self._is_letting_go:
            self._take_in(self._postponed.pop(0))
        first = done = self._ports.writers.done(wait_seconds)
        while done is not None:
            self._take_in(done)
            done = self._ports.writers.done(0)
        return first is not None

    def _take_in(self, done: FinishedStep) -> None:
        lane = done.lane
        if isinstance(done.result, GraphCheck):
            self._checked(done.result)
        elif lane is None or lane.dropped.is_set():
            if done.error and not isinstance(done.error, GraphBehindError | AbandonedError):
                raise done.error
            # Another generation's: never committed.
        elif isinstance(done.error, GraphBehindError):
            self._reopen(lane)
        elif done.error is not None:
            lane.dropped.set()
            raise done.error
        elif isinstance(done.result, OpenedPartition) and self._is_letting_go:
            self._postponed.append(done)
        elif isinstance(done.result, OpenedPartition):
            self._open(lane, done.result)
        elif isinstance(done.result, Batch):
            lane.prepared(done.result)
        elif done.result is not None:
            lane.written()
            self.progress.count(done.result, self._graph_outage.retries)

    def _open(self, lane: Lane, opened: OpenedPartition) -> None:
        """Read the partition from here; where the client cannot yet, ask for the offset again."""
        try:
            self._ports.consumer.seek(lane.partition, opened.offset)
        except RetryableError as error:
            log.info("opening again", partition=lane.partition.partition, reason=str(error))
            self._submit_opening(lane)
        else:
            lane.open(opened.checkpoint)

    def _reopen(self, lane: Lane) -> None:
        """The graph lacks what was applied: read again from where it is complete."""
        self._lanes[lane.partition] = reopened = lane.reopened()
        self._ports.consumer.pause([lane.partition])
        self._submit_opening(reopened)

    def _submit_opening(self, lane: Lane) -> None:
        self._submit(lane, partial(self._checkpoints.open, lane.start))

    # --------------------------------------------------------------- what the graph must be like

    def _check_when_due(self) -> None:
        """Constraints may be dropped, and databases emptied, under a running sink."""
        now = self._ports.clock.monotonic()
        if self._is_checking or now < self._check_at:
            return
        self._check_at, self._is_checking = now + self._settings.check_interval_seconds, True
        spans = [span for lane in self._lanes.values() if lane.is_open and (span := lane.reached())]
        self._submit(None, partial(self._checkpoints.check, spans))
        self._ports.writers.submit(None, self._check_topic)

    def _check_topic(self) -> None:
        try:
            self._ports.consumer.check_topic()
        except RetryableError as error:
            self._broker_outage.failed(error)

    def _checked(self, checked: GraphCheck) -> None:
        self._is_checking = False
        for lane in list(self._lanes.values()):
            key = lane.start.checkpoint
            if not lane.is_open or key is None:
                continue
            if key in checked.behind:
                self._reopen(lane)
            else:
                lane.checkpoint = max(lane.checkpoint, checked.advanced.get(key, 0))

    # ------------------------------------------------------------------------------------ batches

    def _start_batches(self) -> None:
        """Start the next step of each free lane. Decoded batches take memory, so they are few.

        While the constraints are being checked, and one is missing, nothing is started.
        """
        if self._is_checking:
            return
        now = self._ports.clock.monotonic()
        most = self._settings.writers_max
        decoded = sum(lane.holds_decoded for lane in self._lanes.values())
        writing = sum(lane.is_writing for lane in self._lanes.values())
        for lane in sorted(self._lanes.values(), key=attrgetter("started_at")):
            if writing < most and (started := lane.start_writing()):
                decoded, writing = decoded - 1, writing + 1
                self._submit_writing(lane, *started)
            if decoded < most and (arrivals := lane.start_preparing(now)):
                decoded += 1
                self._submit(lane, partial(self._applier.prepare, arrivals))

    def _submit(self, lane: Lane | None, step: Callable[[], Result]) -> None:
        abandoned = self._is_ending if lane is None else lane.dropped
        self._ports.writers.submit(lane, partial(self._graph_outage.until_done, step, abandoned))

    def _submit_writing(self, lane: Lane, batch: Batch, span: Span | None) -> None:
        def until_done(step: Callable[[], T]) -> T:
            return self._graph_outage.until_done(step, lane.dropped)

        self._ports.writers.submit(lane, partial(self._applier.write, batch, span, until_done))

    def _hold_back_full_lanes(self) -> None:
        """Full lanes are paused, so that polling goes on, whatever the database does."""
        share = self._settings.buffer_bytes_max // max(1, len(self._lanes))
        lanes = [each for each in self._lanes.values() if each.is_open]
        full = [each for each in lanes if not each.is_paused and each.is_full(share)]
        low = [each for each in lanes if each.is_paused and each.is_low(share)]
        for some, call in ((full, self._ports.consumer.pause), (low, self._ports.consumer.resume)):
            if some:
                call([lane.partition for lane in some])
        for lane in full + low:
            lane.is_paused = not lane.is_paused

    # ------------------------------------------------------------------------------- rebalances

    def assigned(self, starts: Mapping[TopicPartition, PartitionStart]) -> None:
        """See `connector.interfaces.AssignmentListener`. The graph is asked where to begin."""
        if starts:
            self._ports.consumer.pause(starts.keys())
        for partition, start in starts.items():
            self._lanes[partition] = lane = Lane(partition, start, self._limits)
            self._submit_opening(lane)

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
        self._is_letting_go = True
        try:
            while (
                any(lane.is_writing and not lane.dropped.is_set() for lane in lanes)
                and not self._graph_outage.is_ongoing
                and self._collect(max(0.0, end - clock.monotonic()))
            ):
                pass
        finally:
            self._is_letting_go = False
            self._commits.commit(lanes)
            self.lost(partitions)
