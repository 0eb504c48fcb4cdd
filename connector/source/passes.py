"""The open passes of a study: whose turn it is, their streams, and back-off after failures."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from connector.errors import BatchTooLargeError, ConnectorError, ContradictoryPageError
from connector.interfaces import ApiReader, Clock
from connector.model.cursor import Cursor
from connector.retry import Backoff
from connector.source import window
from connector.source.reading import OpenStream, PageStream, PassOptions, ReadPage, read_pass
from connector.source.schedule import Moment, Pace, next_track
from connector.source.tracks import Track

TRANSACTION_ROWS = 4000
"""Target for the API rows per transaction: each commit takes some 20 ms."""
_WAIT_SECONDS = 0.5
"""Longest wait for a page, divided among the open streams."""


@dataclass(slots=True)
class TrackBackoff:
    """The back-off of a track that failed: do not read it before ``until`` (monotonic seconds)."""

    until: float
    backoff: Backoff


@dataclass(slots=True)
class OpenPass:
    """The open pass of one kind."""

    track: Track
    stream: PageStream
    rows: int = 0
    """Rows taken from the stream so far."""
    has_logged_contradictions: bool = False

    @property
    def may_be_closed(self) -> bool:
        """Whether the kind's other track may take over: this pass has had a transaction's rows.

        A turn that only waited does not count. Otherwise the two tracks of a slow API would close
        each other's streams before the first page arrives.
        """
        return self.rows >= TRANSACTION_ROWS


class Passes:
    """The open passes of one study, at most one per kind."""

    def __init__(
        self, reader: ApiReader, clock: Clock, pace: Pace, new_backoff: Callable[[], Backoff],
        open_stream: OpenStream,
    ) -> None:  # fmt: skip
        self._reader, self._clock, self._pace = reader, clock, pace
        self._new_backoff, self._open_stream = new_backoff, open_stream
        self._open: dict[str, OpenPass] = {}
        """By kind."""
        self._previous = ""
        """Name of the track that had the last turn."""
        self._backoffs: dict[str, TrackBackoff] = {}
        """By track, from a failure until its next published page."""
        self._page_sizes: dict[str, int] = {}
        """By track, reduced because the API was too slow for full pages."""
        self._contradictions: dict[str, frozenset[str]] = defaultdict(frozenset)
        """By track, seen in the pages of this pass: if they come again, they are accepted."""
        self.rows_max = TRANSACTION_ROWS
        """Target for the rows of the next transaction: lower while the brokers are slow."""

    def next(self, cursor: Cursor, sweep_since_ms: int | None) -> tuple[Track | None, float]:
        """Return the track whose turn it is; None if no track is due for that many seconds."""
        now = Moment(self._clock.now_ms(), sweep_since_ms, self._excluded())
        track, due_ms = next_track(cursor, self._pace, now, self._previous)
        if track is not None:
            return track, 0.0
        monotonic = self._clock.monotonic()
        delays = (each.until - monotonic for each in self._backoffs.values())
        due = ((due_ms - now.ms) / 1000, *(delay for delay in delays if delay > 0))
        return None, max(0.0, min(due))

    def take(self, track: Track, cursor: Cursor) -> list[ReadPage]:
        """Return the next pages of this track's pass; empty if none has arrived.

        Opens the pass if it is not open, and closes the pass of the kind's other track. Waits
        briefly for the first page.

        Raises:
            ConnectorError: as `read_pass`.
        """
        self._previous = track.name  # even if this fails, so that the other tracks get their turn
        kind = track.entity.name
        if kind not in self._open or self._open[kind].track != track:
            self.close(kind)
            self._open[kind] = self._opened(track, cursor)
        open_pass = self._open[kind]
        pages = open_pass.stream.take(self.rows_max, _WAIT_SECONDS / len(self._open))
        open_pass.rows += sum(len(read.page.rows) for read in pages)
        return pages

    def _opened(self, track: Track, cursor: Cursor) -> OpenPass:
        size = window.page_size_at_most(self._page_size(track), self.rows_max)
        options = PassOptions(self._pace, size, self._contradictions.get(track.name, ()))
        pages = read_pass(self._reader, track, cursor, options, self._clock)
        return OpenPass(track, self._open_stream(pages))

    def _page_size(self, track: Track) -> int:
        return self._page_sizes.get(track.name, self._pace.page_size)

    def back_off(self, track: Track, error: ConnectorError) -> float:
        """Close the failed track's stream; return the seconds until its next attempt.

        The next attempt requests smaller pages if the API was too slow, and accepts this error's
        contradictions if they come again. Other tracks do not wait.
        """
        self.close(track.entity.name)
        if isinstance(error, BatchTooLargeError):
            self._page_sizes[track.name] = window.smaller_page_size(self._page_size(track))
        if isinstance(error, ContradictoryPageError):
            self._contradictions[track.name] |= error.contradictions
        failed = self._backoffs.setdefault(track.name, TrackBackoff(0.0, self._new_backoff()))
        delay_seconds = failed.backoff.next_delay(error)
        failed.until = self._clock.monotonic() + delay_seconds
        return delay_seconds

    def mark_published(self, track: Track, pages: list[ReadPage]) -> list[str]:
        """Record that these pages are published, which ends the track's back-off.

        Returns their contradictions, for the log; once per stream, then an empty list.
        """
        self._backoffs.pop(track.name, None)
        open_pass = self._open[track.entity.name]
        contradictions = sorted({each for read in pages for each in read.contradictions})
        is_new = bool(contradictions) and not open_pass.has_logged_contradictions
        open_pass.has_logged_contradictions |= bool(contradictions)
        if pages[-1].is_last:
            self.close(track.entity.name)
            self._page_sizes.pop(track.name, None)
            self._contradictions.pop(track.name, None)
        return contradictions if is_new else []

    def halve(self) -> None:
        """Halve the rows per transaction, after one that took too long."""
        self.rows_max = max(1, self.rows_max // 2)

    def grow(self) -> None:
        """Raise the rows per transaction by a twentieth, after one that was committed."""
        self.rows_max = min(TRANSACTION_ROWS, self.rows_max + max(1, self.rows_max // 20))

    def close(self, kind: str) -> None:
        """Close the kind's pass, if it is open, and discard the pages that were read ahead."""
        if kind in self._open:
            self._open.pop(kind).stream.close()

    def close_all(self) -> None:
        """Close all open passes, and discard the pages that were read ahead."""
        for kind in list(self._open):
            self.close(kind)

    def _excluded(self) -> set[str]:
        """Names of tracks that back off, or whose kind's other track keeps its open pass."""
        now = self._clock.monotonic()
        names = {name for name, failed in self._backoffs.items() if failed.until > now}
        for open_pass in self._open.values():
            if not open_pass.may_be_closed:
                names |= {each.name for each in open_pass.track.others}
        return names
