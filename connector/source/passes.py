"""Which passes are being read: streams, turns, and back-off of tracks that failed."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from connector.errors import BatchTooLargeError, ConnectorError, OddPageError
from connector.interfaces import ApiReader, Clock
from connector.model.cursor import Cursor
from connector.retry import Backoff
from connector.source import window
from connector.source.reading import OpenStream, PageStream, PassOptions, ReadPage, read_pass
from connector.source.schedule import Moment, Pace, next_track
from connector.source.tracks import Track

TRANSACTION_ROWS = 4000
"""Rows of the API whose events go into one transaction, about: a commit costs some 20 ms."""
_WAIT_SECONDS = 0.5
"""For pages that are still to come, all streams together."""


@dataclass(slots=True)
class HeldTrack:
    """A track that failed: not read again before ``until`` (monotonic seconds)."""

    until: float
    backoff: Backoff


@dataclass(slots=True)
class OpenPass:
    """The pass of one kind that is being read."""

    track: Track
    stream: PageStream
    rows: int = 0
    """Taken so far."""
    has_said_odd: bool = False

    @property
    def may_be_closed(self) -> bool:
        """Whether the kind's other track may take over: it has had its turn, not only its wait."""
        return self.rows >= TRANSACTION_ROWS


class Passes:
    """The passes of one study. Of each kind at most one is read at a time."""

    def __init__(
        self, reader: ApiReader, clock: Clock, pace: Pace, new_backoff: Callable[[], Backoff],
        open_stream: OpenStream,
    ) -> None:  # fmt: skip
        self._reader, self._clock, self._pace = reader, clock, pace
        self._new_backoff, self._open_stream = new_backoff, open_stream
        self._open: dict[str, OpenPass] = {}
        """By kind."""
        self._previous = ""
        self._held: dict[str, HeldTrack] = {}
        self._sizes: dict[str, int] = {}
        """Page sizes of tracks that the API was too slow for."""
        self._odd: dict[str, frozenset[str]] = defaultdict(frozenset)
        """By track, how its pages contradict themselves: what comes again is taken."""
        self.rows_max = TRANSACTION_ROWS
        """How many rows one transaction takes: fewer while the brokers are slow."""

    def next(self, cursor: Cursor, sweep_since_ms: int | None) -> tuple[Track | None, float]:
        """The track whose turn it is; None: nothing is due for this many seconds."""
        now = Moment(self._clock.now_ms(), sweep_since_ms, self._not_now())
        track, due_ms = next_track(cursor, self._pace, now, self._previous)
        if track is not None:
            return track, 0.0
        monotonic = self._clock.monotonic()
        delays = (held.until - monotonic for held in self._held.values())
        due = ((due_ms - now.ms) / 1000, *(delay for delay in delays if delay > 0))
        return None, max(0.0, min(due))

    def take(self, track: Track, cursor: Cursor) -> list[ReadPage]:
        """Some pages of this track's pass; empty while none has arrived.

        Raises:
            ConnectorError: as `read_pass`.
        """
        self._previous = track.name  # whatever comes of it: the others take their turn
        kind = track.entity.name
        if kind not in self._open or self._open[kind].track != track:
            self.close(kind)
            self._open[kind] = self._opened(track, cursor)
        reading = self._open[kind]
        taken = reading.stream.take(self.rows_max, _WAIT_SECONDS / len(self._open))
        reading.rows += sum(len(read.page.rows) for read in taken)
        return taken

    def _opened(self, track: Track, cursor: Cursor) -> OpenPass:
        size = window.at_most(self._size(track), self.rows_max)
        options = PassOptions(self._pace, size, self._odd.get(track.name, ()))
        pages = read_pass(self._reader, track, cursor, options, self._clock)
        return OpenPass(track, self._open_stream(pages))

    def _size(self, track: Track) -> int:
        return self._sizes.get(track.name, self._pace.page_size)

    def hold(self, track: Track, error: ConnectorError) -> float:
        """Close the failed track's stream and hold the track back; for how many seconds.

        The other tracks do not wait.
        """
        self.close(track.entity.name)
        if isinstance(error, BatchTooLargeError):
            self._sizes[track.name] = window.smaller(self._size(track))
        if isinstance(error, OddPageError):
            self._odd[track.name] |= error.oddities
        held = self._held.setdefault(track.name, HeldTrack(0.0, self._new_backoff()))
        delay_seconds = held.backoff.next_delay(error)
        held.until = self._clock.monotonic() + delay_seconds
        return delay_seconds

    def published(self, track: Track, pages: list[ReadPage]) -> list[str]:
        """These pages are in the topic. Returns what is odd about them, once a pass."""
        self._held.pop(track.name, None)
        reading = self._open[track.entity.name]
        odd = sorted({each for read in pages for each in read.oddities})
        is_news = bool(odd) and not reading.has_said_odd
        reading.has_said_odd |= bool(odd)
        if pages[-1].is_last:
            self.close(track.entity.name)
            self._sizes.pop(track.name, None)
            self._odd.pop(track.name, None)
        return odd if is_news else []

    def halve(self) -> None:
        """A transaction took too long: the next ones take fewer rows."""
        self.rows_max = max(1, self.rows_max // 2)

    def grow(self) -> None:
        """A transaction was committed: the next one may take a twentieth more."""
        self.rows_max = min(TRANSACTION_ROWS, self.rows_max + max(1, self.rows_max // 20))

    def close(self, kind: str) -> None:
        """Forget what was read ahead of this kind."""
        if kind in self._open:
            self._open.pop(kind).stream.close()

    def close_all(self) -> None:
        """Forget everything that was read ahead."""
        for kind in list(self._open):
            self.close(kind)

    def _not_now(self) -> set[str]:
        """Tracks that wait after a failure, or whose kind is being read by its other track."""
        now = self._clock.monotonic()
        found = {name for name, held in self._held.items() if held.until > now}
        for reading in self._open.values():
            if not reading.may_be_closed:
                found |= {each.name for each in reading.track.others}
        return found
