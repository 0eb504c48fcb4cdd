"""What every export sink is."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

from connector.export.config import SinkConfig

T = TypeVar("T")


class ExportSink(ABC):
    """A place that batches of records are written to; a context manager.

    It flushes when its block ends cleanly, and closes in any case.
    """

    def __init__(self, config: SinkConfig | None = None) -> None:
        self.config = config or SinkConfig()

    @abstractmethod
    def write_batch(self, records: Sequence[Any], *, batch_id: str) -> int:
        """Write these. Blocks until acknowledged.

        Returns how many were written or are there already with the same content.

        ``batch_id`` names the batch in errors; recommended: ``STUDY/records/NUMBER``.

        Raises:
            ExportBatchError: some could not be written; all others were.
            ExportError: the sink is closed.
        """

    @abstractmethod
    def flush(self) -> None:
        """On return everything that was written is acknowledged."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections. May be called twice."""

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
    """The records in lists of at most this size; any iterable will do.

    Raises:
        ValueError: the size is not positive.
    """
    if batch_size <= 0:
        raise ValueError("batch_size must be 1 or more")
    rest = iter(records)
    while batch := list(islice(rest, batch_size)):
        yield batch
