"""Logging: one event a line on stderr, JSON or console. Never record content, keys or passwords."""

import io
import logging
import sys
from typing import TextIO

import structlog

from connector.config import LogSettings


class _Stderr(io.TextIOBase):
    """Whatever stderr is at the time: a progress bar puts itself in its place for a while."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


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
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # libraries: httpx logs whole URLs at INFO
    logging.getLogger("connector").setLevel(settings.level.upper())
    # The SDK logs each failed request with its URL; the task that retries says what is needed.
    logging.getLogger("imednet").setLevel(logging.CRITICAL)
    logging.getLogger("neo4j").setLevel(logging.ERROR)
