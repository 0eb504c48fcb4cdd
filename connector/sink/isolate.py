"""Writing what can be written: halves of what is refused, down to the one item that is it."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from connector.errors import BatchTooLargeError, InvalidEventError, RetryableError
from connector.sink.batch import TransactionSize, halves

T = TypeVar("T")


class IsolatedItem(NamedTuple, Generic[T]):
    """An item that the database refuses for good, why, and how many transactions it took."""

    item: T
    error: InvalidEventError
    attempts: int


def write_isolated(
    write: Callable[[Sequence[T]], None],
    items: Sequence[T],
    size: TransactionSize,
    attempts: int = 1,
) -> list[IsolatedItem[T]]:
    """Write the items by ``write``, a transaction each call; those that are refused.

    Raises:
        RetryableError: as ``write``; or a single item is too much for the database.
        FatalError: as ``write``.
    """
    try:
        write(items)
    except (BatchTooLargeError, InvalidEventError) as error:
        if isinstance(error, BatchTooLargeError):
            size.was_too_large(len(items))
        if len(items) > 1:
            return [
                each
                for half in halves(items)
                for each in write_isolated(write, half, size, attempts + 1)
            ]
        if isinstance(error, BatchTooLargeError):
            raise RetryableError(f"a single event is too much for the database: {error}") from error
        return [IsolatedItem(items[0], error, attempts)]
    size.fitted()
    return []
