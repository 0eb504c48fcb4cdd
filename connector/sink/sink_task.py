"""The sink's loop: poll messages into lanes, apply batches on writers, commit acknowledged offsets.

Only the loop's thread polls, owns the lanes and commits; writer threads work on one step at a time.
So group membership does not depend on the database, and the offsets to commit are decided in one
place.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter

import structlog

from connector.config import SinkSettings
from connector.errors import RetryableError, StaleGraphError
from connector.heartbeat import Heartbeat
from connector.interfaces import PartitionStart, PollResult, Span, TopicPartition
from connector.outage import Outage, UntilDone
from connector.retry import AbandonedError
from connector.sink.applier import Applier
from connector.sink.back_pressure import BackPressure
from connector.sink.batch import Batch
from connector.sink.checkpoints import Checkpoints, GraphCheck, OpenedPartition
from connector.sink.commits import Commits
from connector.sink.lane import Lane, LaneLimits
from connector.sink.log_context import in_context
from connector.sink.polling import Polling
from connector.sink.ports import SinkPorts
from connector.sink.progress import SinkProgress
from connector.sink.states import Arrival, parse
from connector.sink.writer_threads import FinishedStep, StepResult

log = structlog.stdlib.get_logger("connector.sink")

_RETRY_SECONDS = 0.5
_STEP_SECONDS = 0.02
"""The wait for a finished step while no message could start another."""


class SinkTask:
    """Applies the events of its assigned partitions to the graph until it is stopped."""

    def __init__(self, ports: SinkPorts, settings: SinkSettings) -> None:
        self._ports = ports
        self._settings = settings
        self._limits = LaneLimits.of(settings)
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
        self._is_releasing = False
        self._deferred_openings: list[FinishedStep] = []
        """Openings that finished during a rebalance, and are handled after its poll. That poll may
        return messages and ends from before their seek, which an open lane would accept."""
        self.graph_outage = Outage("neo4j", ports.clock, log)
        self.broker_outage = Outage("kafka", ports.clock, log)
        self.outages = (self.graph_outage, self.broker_outage)
        self._lanes: dict[TopicPartition, Lane] = {}
        self._back_pressure = BackPressure(ports.consumer, settings.buffer_bytes_max)
        self._polling = Polling(
            ports.consumer, self._back_pressure, ports.clock, settings.linger_seconds
        )
        self._commits = Commits(ports, settings.commit_interval_seconds, self.broker_outage)
        self.progress = SinkProgress()
        self.heartbeat = Heartbeat("sink", ports.clock)

    def run(self, stop: threading.Event) -> None:
        """Run until ``stop`` is set; then finish and commit the writes in flight. Blocks.

        Raises:
            FatalError: a retry cannot help. No offset of an unapplied event was committed.
        """
        self._ports.consumer.subscribe(self)
        try:
            while not stop.is_set():
                self.heartbeat.beat()
                lanes = self._lanes.values()
                self._accept(self._poll(stop))
                self._collect(0.0 if self._polling.need_messages(lanes) else _STEP_SECONDS)
                self._start_check_if_due()
                self._start_batches()
                self._back_pressure.apply(lanes)
                self._commits.when_due(lanes)
        finally:
            self._is_ending.set()
            self._release(list(self._lanes), self._settings.close_timeout_seconds / 3)

    @property
    def lanes(self) -> list[Lane]:
        """The lanes as they are now, to be looked at. Thread-safe."""
        return list(self._lanes.values())

    # ------------------------------------------------------------------------- the loop's steps

    def _poll(self, stop: threading.Event) -> PollResult:
        try:
            return self._polling.poll(self._lanes.values(), is_checking=self._is_checking)
        except RetryableError as error:
            self.broker_outage.failed(error)
            self._ports.clock.wait(stop, _RETRY_SECONDS)
            return PollResult([], {})

    def _accept(self, polled: PollResult) -> None:
        if polled.messages or polled.ends:
            self.broker_outage.succeeded()
        now, now_ms = self._ports.clock.monotonic(), self._ports.clock.now_ms()
        for partition, messages in groupby(polled.messages, attrgetter("partition")):
            if (lane := self._lanes[partition]).is_open:  # otherwise a seek will reread them
                lane.add([parse(message, now_ms) for message in messages], now)
        for partition, end in polled.ends.items():
            if (lane := self._lanes[partition]).is_open:
                lane.reached_end(end)
        self._commits.finish(polled.commits, self._lanes)

    def _collect(self, wait_seconds: float = 0.0) -> bool:
        """Handle all finished steps, waiting for the first; return whether there was one."""
        while self._deferred_openings and not self._is_releasing:
            self._handle(self._deferred_openings.pop(0))
        first = finished = self._ports.writers.next_finished(wait_seconds)
        while finished is not None:
            self._handle(finished)
            finished = self._ports.writers.next_finished(0)
        return first is not None

    def _handle(self, finished: FinishedStep) -> None:
        """Advance the step's lane by its result, or raise its error.

        The result of a dropped lane is ignored: its partition may belong to another member now.
        """
        lane, result, error = finished.lane, finished.result, finished.error
        if isinstance(result, GraphCheck):
            self._handle_check(result)
        elif lane is None or lane.dropped.is_set():
            if error and not isinstance(error, StaleGraphError | AbandonedError):
                raise error
        elif isinstance(error, StaleGraphError):
            self._reopen(lane)
        elif error is not None:
            lane.dropped.set()
            raise error
        elif isinstance(result, OpenedPartition) and self._is_releasing:
            self._deferred_openings.append(finished)
        elif isinstance(result, OpenedPartition):
            self._open(lane, result)
        elif isinstance(result, Batch):
            lane.finish_preparing(result)
        elif result is not None:
            lane.finish_writing()
            self.progress.count(result, self.graph_outage.failures)
            self._ports.observe(result)

    def _open(self, lane: Lane, opened: OpenedPartition) -> None:
        """Seek, and open the lane; if the client cannot seek yet, start over."""
        try:
            self._ports.consumer.seek(lane.partition, opened.offset)
        except RetryableError as error:
            number = lane.partition.partition
            log.info("retrying to open partition", partition=number, reason=str(error))
            self._submit_opening(lane)
        else:
            lane.open(opened.checkpoint)

    def _reopen(self, lane: Lane) -> None:
        """Replace the lane of a stale graph: reread from where the graph is complete."""
        self._lanes[lane.partition] = reopened = lane.reopen()
        self._ports.consumer.pause([lane.partition])
        self._submit_opening(reopened)

    def _submit_opening(self, lane: Lane) -> None:
        self._submit(lane, partial(self._checkpoints.open, lane.start))

    # -------------------------------------------------------------------- checks of the graph

    def _start_check_if_due(self) -> None:
        """Check for dropped constraints, lost events, and a recreated topic, at intervals."""
        now = self._ports.clock.monotonic()
        if self._is_checking or now < self._check_at:
            return
        self._check_at, self._is_checking = now + self._settings.check_interval_seconds, True
        spans = [
            span for lane in self._lanes.values() if lane.is_open and (span := lane.applied_span())
        ]
        self._submit(None, partial(self._checkpoints.check, spans))
        self._ports.writers.submit(None, self._check_topic)

    def _check_topic(self) -> None:
        try:
            self._ports.consumer.check_topic()
        except RetryableError as error:
            self.broker_outage.failed(error)
        else:
            self.broker_outage.succeeded()

    def _handle_check(self, check: GraphCheck) -> None:
        """Reopen lanes whose checkpoint is stale, and note those that the check advanced."""
        self._is_checking = False
        for lane in list(self._lanes.values()):
            key = lane.start.checkpoint
            if not lane.is_open or key is None:
                continue
            if key in check.stale:
                self._reopen(lane)
            else:
                lane.checkpoint = max(lane.checkpoint, check.advanced.get(key, 0))

    # ------------------------------------------------------------------------------------ batches

    def _start_batches(self) -> None:
        """Start the next step of each free lane, at most ``writers_max`` of each kind.

        Pending batches are limited, too, because their decoded events take memory. Nothing starts
        during a check, which does not finish while a constraint is missing.
        """
        if self._is_checking:
            return
        now = self._ports.clock.monotonic()
        writers_max = self._settings.writers_max
        pending = sum(lane.has_pending_batch for lane in self._lanes.values())
        writing = sum(lane.is_writing for lane in self._lanes.values())
        for lane in sorted(self._lanes.values(), key=attrgetter("last_served_at")):
            if writing < writers_max and (started := lane.start_writing()):
                pending, writing = pending - 1, writing + 1
                self._submit_writing(lane, *started)
            if pending < writers_max and (arrivals := lane.start_preparing(now)):
                pending += 1
                self._submit(lane, partial(self._applier.prepare, arrivals), arrivals)

    def _submit(
        self, lane: Lane | None, step: Callable[[], StepResult], arrivals: Sequence[Arrival] = ()
    ) -> None:
        until_read = self._until_done(self.graph_outage, lane.dropped if lane else self._is_ending)
        self._ports.writers.submit(lane, in_context(partial(until_read, step), lane, arrivals))

    def _submit_writing(self, lane: Lane, batch: Batch, span: Span | None) -> None:
        until_done = [self._until_done(outage, lane.dropped) for outage in self.outages]
        write = partial(self._applier.write, batch, span, *until_done)
        self._ports.writers.submit(lane, in_context(write, lane, batch.arrivals))

    def _until_done(self, outage: Outage, abandoned: threading.Event) -> UntilDone:
        longest = self._settings.retry_wait_seconds_max
        return UntilDone(outage, self._ports.clock, longest, abandoned)

    # ------------------------------------------------------------------------------- rebalances

    def assigned(self, starts: Mapping[TopicPartition, PartitionStart]) -> None:
        """See `connector.interfaces.AssignmentListener`. Paused until the graph gives an offset."""
        if starts:
            self._ports.consumer.pause(starts.keys())
        for partition, start in starts.items():
            self._lanes[partition] = lane = Lane(partition, start, self._limits)
            self._submit_opening(lane)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """See `connector.interfaces.AssignmentListener`. Finishes and commits writes in flight."""
        self._release(partitions, self._settings.revoke_timeout_seconds)

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See `connector.interfaces.AssignmentListener`. Drops the lanes without a commit."""
        for partition in partitions:
            if lane := self._lanes.pop(partition, None):
                lane.dropped.set()

    def _release(self, partitions: Collection[TopicPartition], wait_seconds: float) -> None:
        """Wait for the partitions' writes in flight, commit, and drop the lanes.

        Waits at most ``wait_seconds``, and not at all during an outage of the graph. A write that
        does not finish in time is not committed; the partition's next owner repeats it.
        """
        lanes = [self._lanes[each] for each in partitions if each in self._lanes]
        clock = self._ports.clock
        end = clock.monotonic() + wait_seconds
        self._is_releasing = True
        try:
            while (
                any(lane.is_writing and not lane.dropped.is_set() for lane in lanes)
                and not self.graph_outage.is_ongoing
                and self._collect(max(0.0, end - clock.monotonic()))
            ):
                pass
        finally:
            self._is_releasing = False
            self._commits.commit(lanes)
            self.lost(partitions)
