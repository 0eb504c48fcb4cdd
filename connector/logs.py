"""Logging: one event a line on stderr, JSON or console. Never record content, keys or passwords."""

import io
import logging
import re
import sys
import time
from collections.abc import Callable
from typing import TextIO

import structlog

from connector.config import LogSettings

_SAY_AGAIN_SECONDS = 60.0
_LINES_REMEMBERED_MAX = 1000
_VARYING = re.compile(r" \(after \d+ms in state [^)]*\)+")
"""What librdkafka adds to a line about a connection; it differs each time."""


class _Stderr(io.TextIOBase):
    """Whatever stderr is at the time: a progress bar puts itself in its place for a while."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


class RepeatedLines(logging.Filter):
    """Lets a library's line through once a minute, with the number of those held back since.

    A client that cannot log in says so several times a second for as long as it tries. Lines of
    this program are its own business: what they say differs in their fields.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._seen: dict[str, tuple[float, int]] = {}
        """By line: when it was let through, and how many were held back since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is let through."""
        if record.name.partition(".")[0] == "connector":
            return True
        text = _VARYING.sub("", record.getMessage())
        now = self._now()
        said, held_back = self._seen.get(text, (now - _SAY_AGAIN_SECONDS, 0))
        if now - said < _SAY_AGAIN_SECONDS:
            self._seen[text] = (said, held_back + 1)
            return False
        if len(self._seen) >= _LINES_REMEMBERED_MAX:
            self._seen.clear()
        self._seen[text] = (now, 0)
        if held_back:
            record.msg = f"{record.getMessage()} ({held_back} more such lines were held back)"
            record.args = ()
        return True


def configure(settings: LogSettings, stream: TextIO | io.TextIOBase | None = None) -> None:
    """Send structlog's and the libraries' logs to one stream (stderr) in one format."""
    stream = stream or _Stderr()
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback  # the default one prints locals
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
    handler.addFilter(RepeatedLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # libraries: httpx logs whole URLs at INFO
    logging.getLogger("connector").setLevel(settings.level.upper())
    # The SDK logs each failed request with its URL; the task that retries says what is needed.
    logging.getLogger("imednet").setLevel(logging.CRITICAL)
    logging.getLogger("neo4j").setLevel(logging.ERROR)
