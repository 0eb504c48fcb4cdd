"""The system clocks, and elapsed time that includes a suspend."""

import threading
import time


class SystemClock:
    """`connector.interfaces.Clock` backed by the system clocks."""

    def now_ms(self) -> int:
        """Return milliseconds since the Unix epoch (UTC)."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; they never go backwards."""
        return time.monotonic()

    def wait(self, until: threading.Event, seconds: float) -> None:
        """Block until ``until`` is set or ``seconds`` have passed."""
        until.wait(seconds)


def clocks() -> tuple[float, ...]:
    """Read several clocks, in seconds, at least one of which advances during a suspend."""
    boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # MONOTONIC stops then
    return time.monotonic(), time.clock_gettime(boot), time.time()


def seconds_between(before: tuple[float, ...], after: tuple[float, ...]) -> float:
    """Return the longest elapsed time that any of the clocks shows."""
    return max(end - start for start, end in zip(before, after, strict=True))
