"""The time of this machine."""

import threading
from typing import Protocol


class Clock(Protocol):
    """Time of this machine. Only waiting and sanity checks use it; versions use the server's."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def wait(self, until: threading.Event, seconds: float) -> None:
        """Return when ``until`` is set, or after this many seconds."""
