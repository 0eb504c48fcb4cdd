"""Polling: when the loop asks for messages, and how long it waits for them."""

from collections.abc import Collection

from connector.interfaces import Clock, EventConsumer, PollResult
from connector.sink.back_pressure import BackPressure
from connector.sink.lane import Lane

_SECONDS_IDLE = 0.5
_SECONDS_IDLE_MIN = 0.02
_SECONDS_BUSY = 0.002
"""While steps are in flight: their results are collected between two polls."""


class Polling:
    """Polls while a lane needs messages, and at intervals otherwise: polls also serve rebalances.

    Messages that no lane needs yet stay in the client, whose own buffer is bounded.
    """

    def __init__(
        self,
        consumer: EventConsumer,
        back_pressure: BackPressure,
        clock: Clock,
        linger_seconds: float,
    ) -> None:
        self._consumer, self._back_pressure, self._clock = consumer, back_pressure, clock
        idle_seconds = min(_SECONDS_IDLE, linger_seconds or _SECONDS_IDLE)
        self._idle_seconds = max(_SECONDS_IDLE_MIN, idle_seconds)
        self._due_at = 0.0

    def poll(self, lanes: Collection[Lane], *, is_checking: bool) -> PollResult:
        """Poll if it is time to. Blocks for up to half a second, or 2 ms if a step is in flight.

        ``is_checking``: a check of the graph is in flight.

        Raises:
            RetryableError: as the consumer's poll.
        """
        now = self._clock.monotonic()
        if now < self._due_at and not self.need_messages(lanes):
            return PollResult([], {})
        self._due_at = now + _SECONDS_IDLE
        is_busy = is_checking or any(lane.is_busy or not lane.is_open for lane in lanes)
        messages_max = self._back_pressure.poll_messages_max(lanes)
        return self._consumer.poll(messages_max, _SECONDS_BUSY if is_busy else self._idle_seconds)

    def need_messages(self, lanes: Collection[Lane]) -> bool:
        """Whether a lane that receives messages cannot fill its next batch, or no lane can.

        A lane at the end of its partition needs none once the others fill half of the buffer: a
        poll would hardly bring it any, and them more than they need.
        """
        is_half_full = self._back_pressure.is_half_full(lanes)
        return not any(lane.has_full_batch for lane in lanes) or any(
            lane.is_open
            and not lane.is_paused
            and not lane.has_full_batch
            and not (lane.is_at_end and is_half_full)
            for lane in lanes
        )
