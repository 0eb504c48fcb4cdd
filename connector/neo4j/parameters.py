"""Rows as a query parameter: never formatted for a log, and freed after the query."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Rows(list[Any]):
    """A parameter whose repr shows only its length.

    The driver (6.0 - 6.4) formats every parameter for its debug log, whatever the level. That
    would cost more than sending it, and leave content one setting away from a log.
    """

    def __repr__(self) -> str:
        return f"<{len(self)} rows>"


@contextmanager
def sent_rows(rows: Sequence[Any]) -> Iterator[Rows]:
    """Wrap rows as a parameter, and empty it when the block ends.

    The driver's results refer to their parameters and, in a cycle, to themselves: without this,
    dozens of batches would wait for the garbage collector (150 MB measured).
    """
    sent = Rows(rows)
    try:
        yield sent
    finally:
        sent.clear()
