"""Repeat a step of an export while its errors may pass, as often as configured."""

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from connector.errors import ConnectorError, RetryableError
from connector.export.config import SinkConfig
from connector.export.errors import ExportBatchError, ExportError
from connector.interfaces import Clock
from connector.retry import Backoff

log = structlog.stdlib.get_logger("connector.export")
T = TypeVar("T")

_WAIT_SECONDS_MAX = 60.0


class Attempts:
    """The retry policy of one export. Thread-safe."""

    def __init__(self, config: SinkConfig, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._closed = threading.Event()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """Let every step that waits for its next attempt give up now."""
        self._closed.set()

    def until_done(self, step: Callable[[], T], batch_id: str) -> T:
        """What ``step`` returns. Blocks for the attempts and the waits between them.

        Raises:
            ExportBatchError: it did not succeed.
            ExportError: the export is closed.
        """
        backoff = Backoff(_WAIT_SECONDS_MAX, self._config.retry_backoff)
        for attempt in range(self._config.max_retries + 1):
            try:
                return step()
            except RetryableError as error:
                if self.is_closed:
                    raise ExportError("the export sink is closed") from None
                last = error
                if attempt < self._config.max_retries:
                    wait_seconds = backoff.next_wait(error.retry_after_seconds)
                    log.warning("trying again", reason=str(error), batch_id=batch_id)
                    self._clock.wait(self._closed, wait_seconds)
            except ConnectorError as error:
                raise ExportBatchError(f"batch {batch_id}: {error}", batch_id=batch_id) from None
        tries = self._config.max_retries + 1
        raise ExportBatchError(f"batch {batch_id} failed {tries} times: {last}", batch_id=batch_id)
