"""The source's counters, for the log and the progress bars."""

from collections.abc import Iterable
from dataclasses import dataclass

from connector.model.cursor import Cursor
from connector.source import window
from connector.source.reading import ReadPage
from connector.source.tracks import Mode, Track


@dataclass(slots=True)
class SourceProgress:
    """Counters of one study since the source started."""

    pages: int = 0
    rows: int = 0
    events: int = 0
    diverted: int = 0
    """Events too large for the topic, counted at each attempt."""
    invalid: int = 0
    """Rows that were dead-lettered because they cannot be events."""
    undated: int = 0
    """Events published although their row has no usable ``dateModified``."""
    untyped: int = 0
    """Texts in published events that do not fit the definitions of their variables."""
    retries: int = 0
    read_ms: int = 0
    """When a page was last read and its changes published (ms since the epoch; 0: not yet)."""
    passes: int = 0
    """Completed passes of the track that has the fewest."""


@dataclass(slots=True)
class SnapshotProgress:
    """The kind whose snapshot is being read, and how far; ``kind`` is empty if there is none."""

    kind: str = ""
    rows: int = 0
    total: int = 0

    def count(self, last: ReadPage, rows: int) -> None:
        """Count ``rows`` published rows, from pages of which ``last`` is the last."""
        if last.track.mode is not Mode.FULL or last.position_before.passes:
            return
        if self.kind != last.track.entity.name:
            self.kind, self.rows = last.track.entity.name, 0
        self.rows += rows
        self.total = self.rows + window.rows_left(last.page)
        if last.is_last:
            self.kind = ""


class CompletedPasses:
    """The passes completed since the start, by track.

    They are counted by the cursor's positions, not by the calls that published them: a transaction
    whose outcome was in doubt may have completed a pass, too.
    """

    def __init__(self, tracks: Iterable[Track]) -> None:
        self.by_track = dict.fromkeys((track.name for track in tracks), 0)
        self._positions: dict[str, int] = {}
        """The passes of the latest cursor, by track."""

    def count(self, cursor: Cursor) -> int:
        """Count the passes that this cursor completes beyond the previous one.

        Returns the passes of the track that has the fewest. The first cursor completes none.
        """
        for name in self.by_track:
            passes = cursor.position(name).passes
            self.by_track[name] += max(0, passes - self._positions.get(name, passes))
            self._positions[name] = passes
        return min(self.by_track.values())
