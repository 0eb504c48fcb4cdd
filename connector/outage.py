"""Outages: failures in a row of one server or task, logged when they begin and when they end."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from structlog.stdlib import BoundLogger

from connector.errors import BatchTooLargeError, FatalError, RetryableError, UnclassifiedError
from connector.interfaces import Clock
from connector.retry import Backoff, retry

T = TypeVar("T")

_LOG_INTERVAL_SECONDS = 60.0
_UNCLASSIFIED_TRIES_MAX = 10


class LogPace:
    """Lets each kind of line pass at most once a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def allows(self, event: str) -> bool:
        """Return whether to log this line now, and count it if so."""
        now = self._clock.monotonic()
        if now - self._logged_at.get(event, -_LOG_INTERVAL_SECONDS) < _LOG_INTERVAL_SECONDS:
            return False
        self._logged_at[event] = now
        return True


class Outage:
    """The outages of one thing, shared by all that use it. Thread-safe.

    Outages that have one cause share a ``pace``, so that it is not logged for each of them.
    """

    def __init__(
        self, name: str, clock: Clock, log: BoundLogger, pace: LogPace | None = None
    ) -> None:
        self.name = name
        """What fails: a server, or what a task reads."""
        self.reason = ""
        """The text of the latest failure."""
        self.since_ms: int | None = None
        """When the outage began (milliseconds since the epoch); None if there is none."""
        self.failures = 0
        """Since the start."""
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._in_a_row: dict[object, int] = {}
        """Failures in a row, by caller; only of those that have failed."""
        self._shares_pace = pace is not None
        self._pace = pace or LogPace(clock)
        self._is_logged = False

    @property
    def is_ongoing(self) -> bool:
        """Whether a caller has failed at least twice in a row, and not succeeded since.

        One failure is enough if it is of a kind that rarely passes by itself. Other callers may
        succeed meanwhile: one partition may be stuck while others advance.
        """
        return self.since_ms is not None

    def failed(
        self, error: Exception, delay_seconds: float | None = None, caller: object = None
    ) -> None:
        """Count a failure. Log a caller's second in a row as an outage, and then once a minute."""
        delay = {} if delay_seconds is None else {"delay_seconds": round(delay_seconds, 1)}
        with self._lock:
            self.failures += 1
            self._in_a_row[caller] = self._in_a_row.get(caller, 0) + 1
            self.reason = str(error)
            if self._in_a_row[caller] == 1 and not isinstance(
                error, UnclassifiedError | FatalError
            ):
                # A deadlock between two transactions or one cut connection is not an outage.
                if self._pace.allows("retrying"):
                    self._log.info("retrying", what=self.name, reason=self.reason, **delay)
                return
            if self.since_ms is None:
                self.since_ms = self._clock.now_ms()
                if not self._shares_pace:
                    self._pace = LogPace(self._clock)
            if self._pace.allows("waiting"):
                self._is_logged = True
                fields = {"reason": self.reason, "for_seconds": self._seconds(), **delay}
                self._log.warning("waiting", what=self.name, **fields)

    def succeeded(self, caller: object = None) -> None:
        """Count a success, which ends an outage unless another caller is still failing."""
        if self._in_a_row:
            self._end(caller, is_success=True)

    def abandoned(self, caller: object) -> None:
        """Forget a caller that will not try again."""
        if self._in_a_row:
            self._end(caller, is_success=False)

    def _end(self, caller: object, *, is_success: bool) -> None:
        with self._lock:
            failures = self._in_a_row.pop(caller, 0)
            if not failures or self.since_ms is None:
                return
            if any(count > 1 for count in self._in_a_row.values()):
                return
            if self._is_logged and is_success:
                self._log.info("recovered", what=self.name, after_seconds=self._seconds())
            self.since_ms, self._is_logged = None, False

    def _seconds(self) -> int:
        return max(0, round((self._clock.now_ms() - (self.since_ms or 0)) / 1000))


@dataclass(frozen=True, slots=True)
class UntilDone:
    """Calls steps, retrying transient failures indefinitely and counting them as an outage."""

    outage: Outage
    clock: Clock
    retry_wait_seconds_max: float
    abandoned: threading.Event
    """Ends the retries: nobody needs the result any more."""

    def __call__(self, step: Callable[[], T], /) -> T:
        """Return what ``step`` returns. Blocks.

        Raises:
            AbandonedError: ``abandoned`` was set first.
            FatalError: ``step`` raised UnclassifiedError ten times in a row.
            ConnectorError: any other error of ``step``.
        """
        unclassified, caller = 0, object()

        def failed(error: Exception, _: float) -> None:
            nonlocal unclassified
            unclassified = unclassified + 1 if isinstance(error, UnclassifiedError) else 0
            if unclassified >= _UNCLASSIFIED_TRIES_MAX:
                raise FatalError(f"{error} (tried {unclassified} times)") from error
            self.outage.failed(error, caller=caller)

        # The step has already been bisected: still too large means the database is out of memory.
        retried = (RetryableError, BatchTooLargeError)
        backoff = Backoff(self.retry_wait_seconds_max)
        try:
            result = retry(step, backoff, self.clock, self.abandoned, failed, retried)
        except BaseException:
            self.outage.abandoned(caller)
            raise
        self.outage.succeeded(caller)
        return result
