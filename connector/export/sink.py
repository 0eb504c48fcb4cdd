"""The interface of every export sink."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

from connector.export.config import SinkConfig

T = TypeVar("T")


class ExportSink(ABC):
    """A destination for batches of records; a context manager.

    It flushes if its block ends without an error, and closes in any case.
    """

    def __init__(self, config: SinkConfig | None = None) -> None:
        self.config = config or SinkConfig()

    @abstractmethod
    def write_batch(self, records: Sequence[Any], *, batch_id: str) -> int:
        """Write a batch. Blocks until it is acknowledged.

        Returns the number of records that were written or already stored with the same content.

        ``batch_id`` names the batch in errors; recommended: ``STUDY/records/NUMBER``.

        Raises:
            ExportBatchError: some could not be written; all others were.
            ExportError: the sink is closed.
        """

    @abstractmethod
    def flush(self) -> None:
        """Block until everything that was written is acknowledged."""

    @abstractmethod
    def close(self) -> None:
        """Release the connections. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()


def iter_batches(records: Iterable[T], batch_size: int) -> Iterator[list[T]]:
    """Split any iterable of records into lists of at most this size.

    Raises:
        ValueError: the size is not positive.
    """
    if batch_size <= 0:
        raise ValueError("batch_size must be at least 1")
    rest = iter(records)
    while batch := list(islice(rest, batch_size)):
        yield batch
