"""A page stream without threads that reads a random number of pages ahead."""

import random
from collections import deque
from collections.abc import Iterator

from connector.source.reading import ReadPage

AHEAD_MAX = 3
_PENDING = 0.1


class PagesAhead:
    """A `PageStream` that reads up to three pages ahead of those it returns."""

    def __init__(self, pages: Iterator[ReadPage], rng: random.Random) -> None:
        self._pages, self._rng = pages, rng
        self._read: deque[ReadPage] = deque()
        self._failed: Exception | None = None

    def take(self, rows_max: int, wait_seconds: float) -> list[ReadPage]:
        assert rows_max
        assert wait_seconds
        if self._rng.random() < _PENDING:
            return []  # not arrived yet
        self._read_some(1 + self._rng.randrange(AHEAD_MAX))
        if not self._read and self._failed is not None:
            raise self._failed
        most = 1 + self._rng.randrange(max(1, len(self._read)))
        return [self._read.popleft() for _ in range(min(most, len(self._read)))]

    def close(self) -> None:
        self._read.clear()

    def _read_some(self, count: int) -> None:
        while len(self._read) < count and self._failed is None:
            if self._read and self._read[-1].is_last:
                return
            try:
                self._read.append(next(self._pages))
            except StopIteration:
                return
            except Exception as error:  # noqa: BLE001 - raised again by `take`
                self._failed = error
