"""Repeating what fails for a while, for as long as it takes, and saying so without noise."""

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from connector.errors import BatchTooLargeError, FatalError, RetryableError, UnforeseenError
from connector.interfaces import Clock
from connector.retry import Backoff

log = structlog.stdlib.get_logger("connector.sink")
T = TypeVar("T")

_SAY_AGAIN_SECONDS = 60.0
_UNFORESEEN_TRIES_MAX = 10


class GivenUpError(Exception):
    """Nobody waits for the step any more: its lane was dropped, or the program ends."""


class Patience:
    """Shared by all callers of a server: an outage and its end are logged once. Thread-safe."""

    def __init__(self, clock: Clock, wait_seconds_max: float) -> None:
        self._clock = clock
        self._wait_seconds_max = wait_seconds_max
        self._lock = threading.Lock()
        self._tried = 0
        """Failures without a success since."""
        self._since: float | None = None
        self._said = 0.0
        self.retries = 0

    @property
    def is_tried(self) -> bool:
        """Whether something has failed more than once in a row, and still does."""
        return self._since is not None

    def until_done(self, step: Callable[[], T], given_up: threading.Event) -> T:
        """What ``step`` returns once it does not raise RetryableError. Blocks.

        Raises:
            GivenUpError: ``given_up`` was set before.
            FatalError: ``step`` raised UnforeseenError ten times in a row.
            ConnectorError: what ``step`` raises beside RetryableError.
        """
        backoff = Backoff(self._wait_seconds_max)
        unforeseen = 0
        while not given_up.is_set():
            try:
                result = step()
            except (RetryableError, BatchTooLargeError) as error:
                # What can be halved has been: too large now is a database short of memory.
                unforeseen = unforeseen + 1 if isinstance(error, UnforeseenError) else 0
                if unforeseen >= _UNFORESEEN_TRIES_MAX:
                    raise FatalError(f"{error} (tried {unforeseen} times)") from error
                self.failed(error)
                at_least = getattr(error, "retry_after_seconds", None)
                self._clock.wait(given_up, backoff.next_wait(at_least))
            else:
                self.succeeded()
                return result
        raise GivenUpError

    def failed(self, error: RetryableError | BatchTooLargeError) -> None:
        """Count a failure; say it when it is the second in a row, and then once a minute."""
        with self._lock:
            self.retries += 1
            self._tried += 1
            if self._tried == 1 and not isinstance(error, UnforeseenError):
                # Two transactions in each other's way, a connection that was cut: nothing yet.
                log.info("trying again", reason=str(error))
                return
            now = self._clock.monotonic()
            if self._since is None:
                self._since = now
            elif now - self._said < _SAY_AGAIN_SECONDS:
                return
            self._said = now
            log.warning("waiting", reason=str(error), for_seconds=round(now - self._since))

    def succeeded(self) -> None:
        """A call has succeeded; an outage, if one was said, is over."""
        if not self._tried:
            return
        with self._lock:
            self._tried = 0
            if self._since is not None:
                log.info("going on", after_seconds=round(self._clock.monotonic() - self._since))
                self._since = None
