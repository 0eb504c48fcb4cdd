"""Retrying: one loop for the whole program, and exponential back-off with full jitter."""

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from connector.errors import RetryableError
from connector.interfaces import Clock

T = TypeVar("T")


class AbandonedError(Exception):
    """Nobody needs the step's result any more: its lane was dropped, or the program is stopping."""


class Backoff:
    """Delays that double from ``first`` up to ``longest`` seconds, with full jitter.

    The jitter keeps processes that failed together from retrying together.
    """

    def __init__(
        self,
        longest_seconds: float,
        first_seconds: float = 0.2,
        rng: random.Random | None = None,
    ) -> None:
        self._longest = longest_seconds
        self._first = first_seconds
        self.failures = 0
        """Since the start or the last `reset`."""
        self._rng = rng or random.Random()

    def next_delay(self, error: Exception | None = None) -> float:
        """Seconds to wait after one more failure; at least what a server's Retry-After demands."""
        ceiling = min(self._longest, self._first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        delay = self._rng.uniform(0.0, ceiling)
        return max(delay, getattr(error, "retry_after_seconds", None) or 0.0)

    def reset(self) -> None:
        """Start again from the shortest delay, after a success."""
        self.failures = 0


def retry(
    step: Callable[[], T],
    backoff: Backoff,
    clock: Clock,
    abandoned: threading.Event,
    on_failure: Callable[[Exception, float], None],
    retried: tuple[type[Exception], ...] = (RetryableError,),
) -> T:
    """Return what ``step`` returns, retrying while it raises one of ``retried``. Blocks.

    ``on_failure`` gets each error and the delay in seconds that follows it. It logs and counts; it
    raises to end the retries.

    Raises:
        AbandonedError: ``abandoned`` was set before the step succeeded.
        Exception: any other error of ``step``, and whatever ``on_failure`` raises.
    """
    while not abandoned.is_set():
        try:
            return step()
        except retried as error:
            delay_seconds = backoff.next_delay(error)
            on_failure(error, delay_seconds)
            clock.wait(abandoned, delay_seconds)
    raise AbandonedError
