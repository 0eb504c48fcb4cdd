"""Back-pressure: partitions whose messages fill the buffer are paused until they have drained."""

from collections.abc import Collection

from connector.interfaces import EventConsumer
from connector.sink.lane import Lane


class BackPressure:
    """Bounds the memory of waiting messages, without keeping the loop from polling."""

    def __init__(self, consumer: EventConsumer, buffer_bytes_max: int) -> None:
        self._consumer, self._bytes_max = consumer, buffer_bytes_max

    def apply(self, lanes: Collection[Lane]) -> None:
        """Pause full lanes, so that polling can continue during an outage; resume drained ones."""
        share = self._bytes_max // max(1, len(lanes))
        open_lanes = [each for each in lanes if each.is_open]
        full = [each for each in open_lanes if not each.is_paused and each.is_full(share)]
        low = [each for each in open_lanes if each.is_paused and each.is_low(share)]
        if full:
            self._consumer.pause([lane.partition for lane in full])
        if low:
            self._consumer.resume([lane.partition for lane in low])
        for lane in full + low:
            lane.is_paused = not lane.is_paused
