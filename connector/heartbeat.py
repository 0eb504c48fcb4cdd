"""The heartbeat of a loop: when it last went round."""

from connector.interfaces import Clock


class Heartbeat:
    """Beaten by a loop, and read by other threads."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.is_expected = True
        """False once the loop has ended on purpose."""
        self._clock = clock
        self._beat_at = clock.monotonic()
        self.at_ms = clock.now_ms()
        """The last beat, or the end of the pause that it announced, in ms since the epoch."""

    def beat(self, pause_seconds: float = 0.0) -> None:
        """Note that the loop goes round, and that it may now pause for this long."""
        self._beat_at = self._clock.monotonic() + pause_seconds
        self.at_ms = self._clock.now_ms() + round(pause_seconds * 1000)

    @property
    def age_seconds(self) -> float:
        """Seconds since the last beat, and since the pause that it announced."""
        return self._clock.monotonic() - self._beat_at
