"""Committing offsets, after everything before them is acknowledged."""

from collections.abc import Collection, Mapping, Sequence

from connector.errors import FatalError, RetryableError
from connector.interfaces import CommitResult, TopicPartition
from connector.outage import Outage
from connector.sink.lane import Lane
from connector.sink.ports import SinkPorts

_LATE_SECONDS = 30.0
"""A commit without a result for so long counts as failed."""


class Commits:
    """Commits the offsets of lanes at intervals: ten times as often once all are drained.

    The next commit waits for the result of the one before, unless that is late.
    """

    def __init__(self, ports: SinkPorts, interval_seconds: float, broker_outage: Outage) -> None:
        self._consumer, self._clock = ports.consumer, ports.clock
        self._interval_seconds = interval_seconds
        self._broker_outage = broker_outage
        self._due_at = self._due_at_if_drained = 0.0
        self._unfinished = 0
        """Commits that have no result yet; more than one only after a rebalance."""
        self._late_at = 0.0

    def when_due(self, lanes: Collection[Lane]) -> None:
        """Commit if the interval has passed since the last commit. Does not block."""
        now = self._clock.monotonic()
        if self._unfinished:
            if now < self._late_at:
                return
            self._unfinished = 0  # given up; its result may still arrive
            self._failed(RetryableError(f"no response to a commit for {_LATE_SECONDS:.0f} s"))
        are_drained = not any(lane.is_busy for lane in lanes)
        if now >= (self._due_at_if_drained if are_drained else self._due_at):
            self._due_at = now + self._interval_seconds
            self._due_at_if_drained = now + self._interval_seconds / 10
            self.commit(lanes)

    def commit(self, lanes: Collection[Lane]) -> None:
        """Commit how far each lane is acknowledged: the only call that advances offsets.

        Does not block. A commit that fails is logged; the next one covers its offsets too.
        """
        offsets = {
            lane.partition: lane.applied
            for lane in lanes
            if lane.applied is not None and lane.applied.offset != lane.committed
        }
        if offsets:
            self._unfinished += 1
            self._late_at = self._clock.monotonic() + _LATE_SECONDS
            self._consumer.commit(offsets)

    def finish(self, results: Sequence[CommitResult], lanes: Mapping[TopicPartition, Lane]) -> None:
        """Note on the lanes what is committed now.

        Raises:
            FatalError: a commit failed, and a retry cannot help.
        """
        for result in results:
            self._unfinished = max(0, self._unfinished - 1)
            for partition, offset in result.offsets.items():
                if lane := lanes.get(partition):
                    lane.committed = offset
            if result.error is None:
                self._broker_outage.succeeded(caller=self)
            else:
                self._failed(result.error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, FatalError):
            raise error
        self._broker_outage.failed(error, caller=self)
