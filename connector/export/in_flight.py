"""The parts of an export that are being written, in order."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import NamedTuple

from connector.model.cursor import Cursor

_PARTS_MAX = 4
"""A part is often one batch, so that each writer has one."""
_BYTES_MAX = 16_000_000
"""Of responses; as rows they take ten times as much memory."""


class Refusal(NamedTuple):
    """Rows of a batch that cannot be stored."""

    batch_id: str
    text: str


class Part(NamedTuple):
    """Pages that are being written, and the cursor and counts after them."""

    futures: list[Future[Refusal | None]]
    size_bytes: int
    cursor: Cursor
    read: dict[str, int]
    batches: dict[str, int]


class PartsInFlight:
    """Bounds how much is being written while more is read."""

    def __init__(self) -> None:
        self._parts: deque[Part] = deque()

    def add(self, part: Part) -> None:
        """Note that this part is being written."""
        self._parts.append(part)

    def ended(self, *, all_parts: bool = False) -> Iterator[tuple[Part, list[Refusal]]]:
        """Wait until there is room for another part, or until none is left.

        Yields each part that has ended, with what of it was refused. Raises what a writer raised.
        """
        while self._parts and (all_parts or self._are_too_many()):
            part = self._parts.popleft()
            yield part, [found for future in part.futures if (found := future.result())]

    def _are_too_many(self) -> bool:
        size_bytes = sum(part.size_bytes for part in self._parts)
        return len(self._parts) >= _PARTS_MAX or (len(self._parts) > 1 and size_bytes > _BYTES_MAX)
