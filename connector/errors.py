"""Errors, named by what the caller must do.

Adapters translate their client's errors once, at the edge, with ``raise ... from``. Messages never
hold record content, keys or passwords: they may be logged and printed as they are.
"""

from collections.abc import Iterable


class ConnectorError(Exception):
    """Base of all errors that this program raises on purpose."""


class RetryableError(ConnectorError):
    """The same call may succeed later: wait and repeat it, for as long as it takes."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnforeseenError(RetryableError):
    """Nobody has classified this error: repeat the call, loudly, and stop after some attempts."""


class AccessRefusedError(RetryableError):
    """The server refuses this user or this database, until somebody changes one of them.

    Fatal where it is the first thing that a program asks; one that has worked waits.
    """


class OddPageError(RetryableError):
    """A page contradicts itself: ask for it again, and take it if it comes the same way again."""

    def __init__(self, message: str, oddities: Iterable[str]) -> None:
        super().__init__(message)
        self.oddities = frozenset(oddities)


class BatchTooLargeError(ConnectorError):
    """It is more than the other side takes at once: ask for less, or write it in halves."""


class InvalidEventError(ConnectorError):
    """This event can never be applied: dead-letter it and go on.

    Raised for a batch, it says that at least one event of the batch is invalid.
    ``reason`` is one word for headers and metrics.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class GraphBehindError(ConnectorError):
    """The graph lacks events that were applied before this batch: nothing of it was written.

    Somebody emptied, restored or swapped the database. Read again from the graph's checkpoint.
    """


class FatalError(ConnectorError):
    """Repeating cannot help: stop. The message says what is wrong and what to do about it."""


class ResourceRefusedError(FatalError):
    """The API refuses one resource of a study. Others may be readable."""
