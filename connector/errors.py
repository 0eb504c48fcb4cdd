"""The error hierarchy, organised by what the caller must do: retry, split, dead-letter or stop.

Adapters translate their client's exceptions once, at the edge, with ``raise ... from``. Messages
never contain record content, keys or passwords, so they are safe to log and print.
"""

from collections.abc import Iterable

START_SWEEP = (
    "send the source SIGUSR1, or stop it and start it again as `imednet-connector source --sweep`"
)
"""Advice in messages. A second source would take the studies from the one that runs."""


class ConnectorError(Exception):
    """Base class of every error that this program raises on purpose."""


class RetryableError(ConnectorError):
    """A failure that may be transient: wait, then repeat the call, indefinitely."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnclassifiedError(RetryableError):
    """An error that no table classifies: warn, retry a limited number of times, then stop."""


class AccessDeniedError(RetryableError):
    """The server denies access to this user or database until an administrator changes that.

    Fatal at startup. A program that has already connected waits and retries.
    """


class ContradictoryPageError(RetryableError):
    """A page that contradicts itself: request it again, and accept it if it comes back the same.

    ``contradictions`` names them.
    """

    def __init__(self, message: str, contradictions: Iterable[str]) -> None:
        super().__init__(message)
        self.contradictions = frozenset(contradictions)


class BatchTooLargeError(ConnectorError):
    """A request or batch over the other side's limit: request fewer rows, or split the batch."""


class InvalidEventError(ConnectorError):
    """An event that can never be applied: dead-letter it and continue.

    When raised for a batch, at least one event in the batch is invalid.
    ``reason`` is a one-word code for headers and metrics.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class StaleGraphError(ConnectorError):
    """A stale graph: events applied before this batch are missing, so none of it was written.

    The database was emptied, restored or swapped. Read again from the graph's checkpoint.
    """


class FatalError(ConnectorError):
    """A failure that a retry cannot fix: stop. The message names the problem and the remedy."""


class TakenOverError(FatalError):
    """Another source publishes this study now: leave it to that one."""


class ResourceDeniedError(FatalError):
    """The API denies access to one resource of a study; others may be readable."""
