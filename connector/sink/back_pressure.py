"""Back-pressure: partitions whose messages fill the buffer are paused until they have drained."""

from collections.abc import Collection

from connector.interfaces import EventConsumer
from connector.sink.lane import Lane


class BackPressure:
    """Bounds the memory of waiting messages, without keeping the loop from polling.

    A pause is expensive: the client drops what it has prefetched. So a partition may use more than
    its share of the buffer until all together have used it up. Those with less than their share may
    then still fill it, so less than twice the buffer is in use.
    """

    def __init__(self, consumer: EventConsumer, buffer_bytes_max: int) -> None:
        self._consumer, self._bytes_max = consumer, buffer_bytes_max

    def apply(self, lanes: Collection[Lane]) -> None:
        """Pause full lanes, so that polling can continue during an outage; resume drained ones."""
        share = self._bytes_max // max(1, len(lanes))
        is_used_up = sum(lane.waiting_bytes for lane in lanes) >= self._bytes_max
        open_lanes = [each for each in lanes if each.is_open]
        low = [each for each in open_lanes if each.is_paused and each.is_low(share)]
        full = [
            each for each in open_lanes if is_used_up and not each.is_paused and each.is_full(share)
        ]
        if full:
            self._consumer.pause([lane.partition for lane in full])
        if low:
            self._consumer.resume([lane.partition for lane in low])
        for lane in full + low:
            lane.is_paused = not lane.is_paused
