"""What a source has done so far: counters for the log and the progress bars."""

from dataclasses import dataclass

from connector.source import window
from connector.source.reading import ReadPage
from connector.source.tracks import Mode


@dataclass(slots=True)
class SourceProgress:
    """What a source has done since it started."""

    rows: int = 0
    events: int = 0
    diverted: int = 0
    """Events too large for the topic, each time that they were tried."""
    invalid: int = 0
    undated: int = 0
    """Events published although their row has no usable ``dateModified``."""
    retries: int = 0
    passes: int = 0
    """Of the track that has completed fewest since the start."""


@dataclass(slots=True)
class SnapshotProgress:
    """Which kind is being read for the first time, and how far."""

    kind: str = ""
    rows: int = 0
    total: int = 0

    def count(self, last: ReadPage, rows: int) -> None:
        """Count ``rows`` published rows, of pages that end with ``last``."""
        if last.track.mode is not Mode.FULL or last.before.passes:
            return
        if self.kind != last.track.entity.name:
            self.kind, self.rows = last.track.entity.name, 0
        self.rows += rows
        self.total = self.rows + window.rows_left(last.page)
        if last.is_last:
            self.kind = ""
