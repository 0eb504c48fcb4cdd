"""Committing offsets, after everything before them is acknowledged."""

from collections.abc import Collection

from connector.errors import RetryableError
from connector.outage import Outage
from connector.sink.lane import Lane
from connector.sink.ports import SinkPorts


class Commits:
    """Commits the offsets of lanes at intervals: ten times as often once all are drained."""

    def __init__(self, ports: SinkPorts, interval_seconds: float, broker_outage: Outage) -> None:
        self._consumer, self._clock = ports.consumer, ports.clock
        self._interval_seconds = interval_seconds
        self._broker_outage = broker_outage
        self._due_at = self._due_at_if_drained = 0.0

    def when_due(self, lanes: Collection[Lane]) -> None:
        """Commit if the interval has passed since the last commit."""
        now = self._clock.monotonic()
        are_drained = not any(lane.is_busy for lane in lanes)
        if now >= (self._due_at_if_drained if are_drained else self._due_at):
            self._due_at = now + self._interval_seconds
            self._due_at_if_drained = now + self._interval_seconds / 10
            self.commit(lanes)

    def commit(self, lanes: Collection[Lane]) -> None:
        """Commit how far each lane is acknowledged: the only call that advances offsets. Blocks.

        A commit that fails is logged; the next one covers its offsets too.
        """
        moved = [lane for lane in lanes if lane.applied != lane.committed]
        offsets = {lane.partition: lane.applied for lane in moved if lane.applied is not None}
        if not offsets:
            return
        try:
            committed = self._consumer.commit(offsets)
        except RetryableError as error:
            self._broker_outage.failed(error)
            return
        self._broker_outage.succeeded()
        for lane in moved:
            if lane.partition in committed:
                lane.committed = lane.applied
