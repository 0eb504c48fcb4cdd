"""A clock that advances only on request and during waits."""

import threading
import time


class FakeClock:
    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._start_ms = now_ms
        self._seconds = 0.0
        self._jumped = 0.0

    def now_ms(self) -> int:
        return self._start_ms + int((self._seconds + self._jumped) * 1000)

    def monotonic(self) -> float:
        return self._seconds

    def advance(self, seconds: float) -> None:
        self._seconds += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock ahead or back; monotonic time is unaffected."""
        self._jumped += seconds

    def wait(self, until: threading.Event, seconds: float) -> None:
        if not until.is_set():
            self._seconds += seconds
            time.sleep(0.0001)  # lets other threads run
