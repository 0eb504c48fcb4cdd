"""The clock of this machine."""

import threading
import time


class SystemClock:
    """`connector.interfaces.Clock` of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def wait(self, until: threading.Event, seconds: float) -> None:
        """Return when ``until`` is set, or after this many seconds."""
        until.wait(seconds)
