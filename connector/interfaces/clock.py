"""The port to this machine's clock."""

import threading
from typing import Protocol


class Clock(Protocol):
    """This machine's clock, for waiting and sanity checks only; versions use the server's clock."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""

    def wait(self, until: threading.Event, seconds: float) -> None:
        """Block until ``until`` is set or this many seconds have passed."""
