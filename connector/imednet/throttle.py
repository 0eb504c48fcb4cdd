"""API etiquette: a request budget, a concurrency limit, and a pause when the API asks for one."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from connector.interfaces import Clock

_MINUTE_SECONDS = 60.0
_BURST_SECONDS = 2.0
"""After a pause, this many seconds' worth of the budget may be used at once."""


class Throttle:
    """Limits requests; shared by all studies, as the API's limits are. Thread-safe."""

    def __init__(self, clock: Clock, *, per_minute: int, at_once: int) -> None:
        self._clock = clock
        self._spacing = _MINUTE_SECONDS / per_minute
        self._burst = max(self._spacing, _BURST_SECONDS)
        self._slots = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()
        self._next_due = 0.0
        """When the next request is due if all are evenly spaced (monotonic seconds)."""
        self._started: deque[float] = deque()
        """Starts of the requests of the last minute."""
        self._per_minute = per_minute
        self._held_until = 0.0
        self._never = threading.Event()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for this request's turn, and hold one concurrency slot during the block."""
        with self._slots:
            while (wait_seconds := self._wait_seconds()) > 0:
                self._clock.wait(self._never, wait_seconds)
            yield

    def hold(self, seconds: float) -> None:
        """Start no request for this many seconds."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock.monotonic() + seconds)

    def _wait_seconds(self) -> float:
        """Return how long to wait before asking again; 0 starts the request and counts it."""
        with self._lock:
            now = self._clock.monotonic()
            due = max(self._held_until, self._next_due - self._burst)
            if due > now:
                return due - now
            self._next_due = max(self._next_due, now) + self._spacing
            self._started.append(now)
            self._forget_old(now)
            return 0.0

    def remaining(self) -> int:
        """Return how many requests are left of this minute's budget."""
        with self._lock:
            self._forget_old(self._clock.monotonic())
            return max(0, self._per_minute - len(self._started))

    def _forget_old(self, now: float) -> None:
        while self._started and self._started[0] < now - _MINUTE_SECONDS:
            self._started.popleft()
