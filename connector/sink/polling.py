"""Polling: when the loop asks for messages, and how long it waits for them."""

from collections.abc import Collection

from connector.interfaces import Clock, EventConsumer, PollResult
from connector.sink.lane import Lane

_SECONDS_IDLE = 0.5
_SECONDS_IDLE_MIN = 0.02
_SECONDS_BUSY = 0.002
"""While steps are in flight: their results are collected between two polls."""


class Polling:
    """Polls while a lane needs messages, and at intervals otherwise: polls also serve rebalances.

    Messages that no lane needs yet stay in the client, whose own buffer is bounded.
    """

    def __init__(self, consumer: EventConsumer, clock: Clock, linger_seconds: float) -> None:
        self._consumer, self._clock = consumer, clock
        idle_seconds = min(_SECONDS_IDLE, linger_seconds or _SECONDS_IDLE)
        self._idle_seconds = max(_SECONDS_IDLE_MIN, idle_seconds)
        self._due_at = 0.0

    def poll(self, lanes: Collection[Lane], messages_max: int, *, is_checking: bool) -> PollResult:
        """Poll if it is time to. Blocks for up to half a second, or 2 ms if a step is in flight.

        ``is_checking``: a check of the graph is in flight.

        Raises:
            RetryableError: as the consumer's poll.
        """
        now = self._clock.monotonic()
        if now < self._due_at and not need_messages(lanes):
            return PollResult([], {})
        self._due_at = now + _SECONDS_IDLE
        is_busy = is_checking or any(lane.is_busy or not lane.is_open for lane in lanes)
        return self._consumer.poll(messages_max, _SECONDS_BUSY if is_busy else self._idle_seconds)


def need_messages(lanes: Collection[Lane]) -> bool:
    """Whether a lane that receives messages cannot fill its next batch, or no lane can.

    A lane at the end of its partition needs none while others catch up: a poll would bring it
    nothing, and them more than they need.
    """
    return not any(lane.has_full_batch for lane in lanes) or any(
        lane.is_open and not lane.is_paused and not lane.is_at_end and not lane.has_full_batch
        for lane in lanes
    )
