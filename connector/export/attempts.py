"""Retrying the steps of an export as often as configured."""

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from connector.errors import BatchTooLargeError, ConnectorError, RetryableError
from connector.export.config import SinkConfig
from connector.export.errors import ExportBatchError, ExportError
from connector.interfaces import Clock
from connector.retry import AbandonedError, Backoff, retry

log = structlog.stdlib.get_logger("connector.export")
T = TypeVar("T")

_WAIT_SECONDS_MAX = 60.0


class Attempts:
    """The retry policy of one export sink. Thread-safe."""

    def __init__(self, config: SinkConfig, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._closed = threading.Event()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """End the retries of every thread now."""
        self._closed.set()

    def until_done(self, step: Callable[[], T], batch_id: str) -> T:
        """Return what ``step`` returns. Blocks for its attempts and the waits between them.

        Raises:
            ExportBatchError: the last attempt failed too, or retrying cannot help.
            ExportError: the sink is closed.
        """
        backoff = Backoff(_WAIT_SECONDS_MAX, self._config.retry_backoff)

        def failed(error: Exception, _: float) -> None:
            if self.is_closed:
                raise AbandonedError
            if backoff.failures > self._config.max_retries:
                text = f"batch {batch_id} failed {backoff.failures} times: {error}"
                raise ExportBatchError(text, batch_id=batch_id)
            log.warning("retrying", reason=str(error), batch_id=batch_id)

        try:
            # Steps are bisected by themselves: still too large means that the server is busy.
            retried = (RetryableError, BatchTooLargeError)
            return retry(step, backoff, self._clock, self._closed, failed, retried)
        except AbandonedError:
            raise ExportError("the export sink is closed") from None
        except ExportError:
            raise
        except ConnectorError as error:
            raise ExportBatchError(f"batch {batch_id}: {error}", batch_id=batch_id) from None
