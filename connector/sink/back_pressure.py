"""Back-pressure: partitions whose messages fill the buffer are paused until they have drained."""

from collections.abc import Collection

from connector.interfaces import EventConsumer
from connector.sink.lane import Lane

_POLL_MESSAGES_MAX = 2000
_HALF = 0.5
_ALL_PAUSED_FROM, _RESUMED_BELOW = 2.0, 1.5
"""In buffers. They differ, so that a poll is not followed by a pause."""


class BackPressure:
    """Bounds the memory of waiting messages, without keeping the loop from polling.

    A pause is expensive: the client drops what it has prefetched. So a partition may use more than
    its share of the buffer until all together have used it up. Partitions below their share
    continue until twice the buffer is in use, so the partitions ahead do not starve them.
    """

    def __init__(self, consumer: EventConsumer, buffer_bytes_max: int) -> None:
        self._consumer, self._bytes_max = consumer, buffer_bytes_max

    def apply(self, lanes: Collection[Lane]) -> None:
        """Pause full lanes, so that polling can continue during an outage; resume drained ones."""
        share = self._bytes_max // max(1, len(lanes))
        used = self._used(lanes)
        open_lanes = [each for each in lanes if each.is_open]
        full = [
            each
            for each in open_lanes
            if not each.is_paused
            and (used >= _ALL_PAUSED_FROM or (used >= 1 and each.is_full(share)))
        ]
        low = [
            each
            for each in open_lanes
            if each.is_paused and used < _RESUMED_BELOW and each.is_low(share)
        ]
        if full:
            self._consumer.pause([lane.partition for lane in full])
        if low:
            self._consumer.resume([lane.partition for lane in low])
        for lane in full + low:
            lane.is_paused = not lane.is_paused

    def is_half_full(self, lanes: Collection[Lane]) -> bool:
        """Whether the waiting messages use up half of the buffer."""
        return self._used(lanes) >= _HALF

    def poll_messages_max(self, lanes: Collection[Lane]) -> int:
        """How many messages a poll may bring: as many as fit, if they are like those that wait."""
        used = self._used(lanes)
        if not used:
            return _POLL_MESSAGES_MAX
        waiting = sum(lane.waiting_messages for lane in lanes)
        fitting = (_ALL_PAUSED_FROM - used) * waiting / used
        return max(1, min(_POLL_MESSAGES_MAX, int(fitting)))

    def _used(self, lanes: Collection[Lane]) -> float:
        """How much the waiting messages take, in buffers."""
        return sum(lane.waiting_bytes for lane in lanes) / self._bytes_max
