"""Being gentle: so many requests a minute, so many at once, and none while the API asks to wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from connector.interfaces import Clock

_BURST_SECONDS = 2.0
"""So much of the budget may be used at once, after a pause."""


class Throttle:
    """Shared by all studies, as the API's limits are. Thread-safe."""

    def __init__(self, clock: Clock, *, per_minute: int, at_once: int) -> None:
        self._clock = clock
        self._spacing = 60.0 / per_minute
        self._burst = max(self._spacing, _BURST_SECONDS)
        self._places = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()
        self._next = 0.0
        """When a request is due if all are evenly spread (monotonic seconds)."""
        self._held_until = 0.0
        self._never = threading.Event()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for this request's turn; it lasts as long as the block."""
        with self._places:
            while (wait_seconds := self._wait_seconds()) > 0:
                self._clock.wait(self._never, wait_seconds)
            yield

    def hold(self, seconds: float) -> None:
        """No request before so many seconds have passed."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock.monotonic() + seconds)

    def _wait_seconds(self) -> float:
        """How long to wait and ask again; 0: now, and this request is counted."""
        with self._lock:
            now = self._clock.monotonic()
            due = max(self._held_until, self._next - self._burst)
            if due > now:
                return due - now
            self._next = max(self._next, now) + self._spacing
            return 0.0
