"""The heartbeat of a loop: when it last went round."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from connector.interfaces import Clock

T = TypeVar("T")


class Heartbeat:
    """Beaten by a loop, and read by other threads."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.is_expected = True
        """False once the loop has ended on purpose."""
        self._clock = clock
        self._beat_at = clock.monotonic()
        self.at_ms = clock.now_ms()
        """The last beat, in milliseconds since the epoch."""

    def beat(self) -> None:
        """Note that the loop goes round."""
        self._beat_at, self.at_ms = self._clock.monotonic(), self._clock.now_ms()

    def with_each(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, and beat with each: for steps that take minutes."""
        for each in items:
            self.beat()
            yield each

    @property
    def age_seconds(self) -> float:
        """Seconds since the last beat."""
        return self._clock.monotonic() - self._beat_at
