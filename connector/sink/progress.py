"""The sink's counters since it started."""

from dataclasses import dataclass

import structlog

from connector.sink.applier import ApplyResult

log = structlog.stdlib.get_logger("connector.sink")


@dataclass(slots=True)
class SinkProgress:
    """Counters, in events."""

    consumed: int = 0
    written: int = 0
    unchanged: int = 0
    """Superseded within their batch, or already in the graph."""
    dead_letters: int = 0
    retries: int = 0

    def count(self, applied: ApplyResult, retries: int) -> None:
        """Count an acknowledged batch, and log its dead letters."""
        self.consumed += applied.consumed
        self.written += applied.written
        self.unchanged += applied.unchanged
        self.dead_letters += len(applied.dead_letters)
        self.retries = retries
        for letter in applied.dead_letters:
            log.warning(
                "message dead-lettered",
                reason=letter.reason,
                offset=letter.message.offset,
                partition=letter.message.partition.partition,
            )
