"""Polling: when the loop asks for messages, and how long it waits for them."""

from collections.abc import Collection

from connector.interfaces import Clock, EventConsumer, PollResult
from connector.sink.lane import Lane

_POLL_EVENTS = 2000
_SECONDS_IDLE = 0.5
_SECONDS_BUSY = 0.002
"""While steps are in flight: their results are collected between two polls."""


class Polling:
    """Polls while a lane needs messages, and at intervals otherwise: polls also serve rebalances.

    Messages that no lane needs yet stay in the client, whose own buffer is bounded.
    """

    def __init__(self, consumer: EventConsumer, clock: Clock, linger_seconds: float) -> None:
        self._consumer, self._clock = consumer, clock
        self._idle_seconds = min(_SECONDS_IDLE, linger_seconds or _SECONDS_IDLE)
        self._due_at = 0.0

    def poll(self, lanes: Collection[Lane], *, is_checking: bool) -> PollResult:
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
        return self._consumer.poll(_POLL_EVENTS, _SECONDS_BUSY if is_busy else self._idle_seconds)


def need_messages(lanes: Collection[Lane]) -> bool:
    """Whether a lane is idle or cannot fill its next batch, or there is no lane."""
    return not lanes or any(not lane.is_busy or not lane.has_full_batch for lane in lanes)
