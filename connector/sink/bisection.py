"""Writes a batch, bisecting failures down to the items that the database refuses."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from connector.errors import BatchTooLargeError, InvalidEventError, RetryableError
from connector.sink.batch import TransactionSize, halves

T = TypeVar("T")


class RefusedItem(NamedTuple, Generic[T]):
    """An item that the database refuses, the error, and the number of writes it was part of."""

    item: T
    error: InvalidEventError
    attempts: int


def write_bisecting(
    write: Callable[[Sequence[T]], object],
    items: Sequence[T],
    size: TransactionSize,
    attempts: int = 1,
) -> list[RefusedItem[T]]:
    """Write the items with one call of ``write``, or more if it fails; return the refused ones.

    A call that fails with BatchTooLargeError or InvalidEventError is repeated for each half.

    Raises:
        RetryableError: as ``write``; or a single item is too large for the database.
        FatalError: as ``write``.
    """
    try:
        write(items)
    except (BatchTooLargeError, InvalidEventError) as error:
        if isinstance(error, BatchTooLargeError):
            size.shrink(len(items))
        if len(items) > 1:
            return [
                each
                for half in halves(items)
                for each in write_bisecting(write, half, size, attempts + 1)
            ]
        if isinstance(error, BatchTooLargeError):
            raise RetryableError(f"Even a single event is too large: {error}") from error
        return [RefusedItem(items[0], error, attempts)]
    size.grow()
    return []
