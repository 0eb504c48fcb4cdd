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


def clocks() -> tuple[float, ...]:
    """Readings, in seconds, of the clocks that may see time pass while a machine is suspended."""
    boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the monotonic one stops then
    return time.monotonic(), time.clock_gettime(boot), time.time()


def seconds_between(before: tuple[float, ...], after: tuple[float, ...]) -> float:
    """The longest time that any of the clocks has seen pass."""
    return max(late - early for early, late in zip(before, after, strict=True))
