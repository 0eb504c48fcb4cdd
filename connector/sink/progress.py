"""The sink's counters since it started."""

from collections import Counter
from dataclasses import dataclass, field

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
    newest_version: int = 0
    """The newest version applied: the API's time at that change, in ms."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Dead letters by reason."""

    def count(self, applied: ApplyResult, retries: int) -> None:
        """Count an acknowledged batch, and log its dead letters."""
        self.consumed += applied.consumed
        self.written += applied.written
        self.unchanged += applied.unchanged
        self.dead_letters += len(applied.dead_letters)
        self.retries = retries
        self.newest_version = max(self.newest_version, applied.newest_version)
        for letter in applied.dead_letters:
            self.reasons[letter.reason] += 1
            log.warning(
                "message dead-lettered",
                reason=letter.reason,
                offset=letter.message.offset,
                partition=letter.message.partition.partition,
            )
