"""Retrying calls to one server indefinitely, while logging each outage once."""

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from connector.errors import BatchTooLargeError, FatalError, RetryableError, UnclassifiedError
from connector.interfaces import Clock
from connector.retry import Backoff, retry

log = structlog.stdlib.get_logger("connector.sink")
T = TypeVar("T")

_LOG_INTERVAL_SECONDS = 60.0
_UNCLASSIFIED_TRIES_MAX = 10


class Outage:
    """The outages of one server, shared by all its callers. Thread-safe."""

    def __init__(self, clock: Clock, retry_wait_seconds_max: float) -> None:
        self._clock = clock
        self._retry_wait_seconds_max = retry_wait_seconds_max
        self._lock = threading.Lock()
        self._failures = 0
        """In a row, over all callers."""
        self._began_at: float | None = None
        self._logged_at = 0.0
        self.retries = 0

    @property
    def is_ongoing(self) -> bool:
        """Whether calls have failed at least twice in a row and none has succeeded since."""
        return self._began_at is not None

    def until_done(self, step: Callable[[], T], abandoned: threading.Event) -> T:
        """Return what ``step`` returns, retrying transient failures indefinitely. Blocks.

        Raises:
            AbandonedError: ``abandoned`` was set first.
            FatalError: ``step`` raised UnclassifiedError ten times in a row.
            ConnectorError: any other error of ``step``.
        """
        unclassified = 0

        def failed(error: Exception, _: float) -> None:
            nonlocal unclassified
            unclassified = unclassified + 1 if isinstance(error, UnclassifiedError) else 0
            if unclassified >= _UNCLASSIFIED_TRIES_MAX:
                raise FatalError(f"{error} (tried {unclassified} times)") from error
            self.failed(error)

        backoff = Backoff(self._retry_wait_seconds_max)
        # The step has already been bisected: still too large means the database is out of memory.
        retried = (RetryableError, BatchTooLargeError)
        result = retry(step, backoff, self._clock, abandoned, failed, retried)
        self.succeeded()
        return result

    def failed(self, error: Exception) -> None:
        """Count a failure. Log the second in a row as an outage, and then once a minute."""
        with self._lock:
            self.retries += 1
            self._failures += 1
            if self._failures == 1 and not isinstance(error, UnclassifiedError):
                # A deadlock between two transactions or one cut connection is not an outage.
                log.info("retrying", reason=str(error))
                return
            now = self._clock.monotonic()
            if self._began_at is None:
                self._began_at = now
            elif now - self._logged_at < _LOG_INTERVAL_SECONDS:
                return
            self._logged_at = now
            log.warning("waiting", reason=str(error), for_seconds=round(now - self._began_at))

    def succeeded(self) -> None:
        """Count a success, which ends an outage."""
        if not self._failures:
            return
        with self._lock:
            self._failures = 0
            if self._began_at is not None:
                seconds = round(self._clock.monotonic() - self._began_at)
                log.info("recovered", after_seconds=seconds)
                self._began_at = None
