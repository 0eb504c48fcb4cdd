"""Logging setup: one event per line on stderr, as JSON or console text.

Record content, keys and passwords are never logged.
"""

import io
import logging
import re
import sys
import time
from collections.abc import Callable
from typing import TextIO

import structlog

from connector.config import LogSettings

_REPEAT_INTERVAL_SECONDS = 60.0
_MESSAGES_REMEMBERED_MAX = 1000
_VARYING = re.compile(
    r" \(after \d+ms in state \w+(?:, \d+ identical error\(s\) suppressed)?\)|\[#[0-9A-F]+\] +"
)
"""What differs each time: the suffix of librdkafka's connection errors, and the driver's number of
the connection."""


class _Stderr(io.TextIOBase):
    """A stream that writes to the current ``sys.stderr``, which a progress bar may replace."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


class RepeatedLines(logging.Filter):
    """A filter that passes each library message once a minute, with a count of its repeats.

    A client that cannot log in repeats its message several times a second. This program's own
    events always pass, because they differ in their fields.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._seen: dict[str, tuple[float, int]] = {}
        """Per message: when it last passed, and how many repeats were suppressed since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record."""
        if record.name.partition(".")[0] == "connector":
            return True
        text = _VARYING.sub("", record.getMessage())
        now = self._now()
        logged_at, suppressed = self._seen.get(text, (now - _REPEAT_INTERVAL_SECONDS, 0))
        if now - logged_at < _REPEAT_INTERVAL_SECONDS:
            self._seen[text] = (logged_at, suppressed + 1)
            return False
        if len(self._seen) >= _MESSAGES_REMEMBERED_MAX:
            self._seen.clear()
        self._seen[text] = (now, 0)
        if suppressed:
            record.msg = f"{record.getMessage()} ({suppressed} repeats suppressed)"
            record.args = ()
        return True


class OwnLevel(logging.Filter):
    """A filter that passes this program's events from a level on, and everything of libraries.

    Not the logger's own level: state changes are found in events that are not shown, too.
    """

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record."""
        return record.levelno >= self._level or record.name.partition(".")[0] != "connector"


def configure(settings: LogSettings, stream: TextIO | io.TextIOBase | None = None) -> None:
    """Send structlog events and library logs to one stream (default: stderr) in one format."""
    stream = stream or _Stderr()
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback  # the default prints local variables
        )
    )
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    handler.addFilter(OwnLevel(level))
    handler.addFilter(RepeatedLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # for libraries: httpx logs full URLs at INFO
    logging.getLogger("connector").setLevel(min(level, logging.INFO))
    # The SDK logs each failed request with its URL; the retrying task logs the failure without it.
    logging.getLogger("imednet").setLevel(logging.CRITICAL)
    logging.getLogger("neo4j").setLevel(logging.ERROR)
