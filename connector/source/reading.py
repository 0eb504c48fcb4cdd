"""Reads a pass page by page, ahead of publishing.

The next request depends only on the page before it, so pages can be read while earlier ones are
being published. Each kind has at most one open pass: a page that waited while another pass
published newer states of its rows would bring the old states back.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from connector.errors import ContradictoryPageError, RetryableError
from connector.interfaces import ApiReader, Clock, Page
from connector.model.cursor import Cursor, PassPosition
from connector.model.events import EntityId
from connector.source import page_checks, window
from connector.source.schedule import Pace
from connector.source.tracks import Track

_CLOCK_SKEW_MS_MAX = 3_600_000


@dataclass(frozen=True, slots=True)
class ReadPage:
    """An accepted page, and the track's position before and after it."""

    track: Track
    position_before: PassPosition
    page: Page
    ids: Sequence[EntityId]
    """The ids of the rows that have a valid one, in order."""
    position_after: PassPosition
    contradictions: Sequence[str] = ()
    """How the page contradicts itself; accepted because the API repeated it."""

    @property
    def is_last(self) -> bool:
        """Whether the pass ends with this page."""
        return not self.position_after.in_pass


@dataclass(frozen=True, slots=True)
class PassOptions:
    """How to read a pass."""

    pace: Pace
    size: int
    """Rows per page."""
    tolerated: Collection[str] = ()
    """Contradictions to accept, because earlier pages of the track had them, too."""


def read_pass(
    reader: ApiReader, track: Track, cursor: Cursor, options: PassOptions, clock: Clock
) -> Iterator[ReadPage]:
    """Yield the pages from the cursor's position to the end of the pass. Blocks.

    Raises:
        ContradictoryPageError: a page contradicts itself in a way that is not tolerated.
        RetryableError: no response, a page that does not match its request, or a wrong clock.
        BatchTooLargeError: the response did not arrive in time. Request fewer rows.
        FatalError: a retry cannot help.
    """
    size = options.size
    while True:
        before = cursor.position(track.name)
        request = window.next_request(track, cursor, size)
        page = reader.read(request)
        now_ms = clock.now_ms()
        _check_clock(page.server_ms, now_ms)
        ids = page_checks.valid_ids(track.entity, page)
        contradictions = page_checks.check_page(track, request, before, page, ids)
        if not set(contradictions) <= set(options.tolerated):
            raise ContradictoryPageError(
                f"A page of {track.name} contradicts itself: {', '.join(contradictions)}",
                contradictions,
            )
        tolerant = bool(contradictions)
        after = window.advance(track, before, page, options.pace, now_ms, tolerant=tolerant)
        if len(ids) < len(page.rows):
            # A row without an id may be any of those that the pass does not list: delete none.
            after = after.model_copy(update={"is_short": True})
        yield (read := ReadPage(track, before, page, ids, after, contradictions))
        size = min(size, page.size or size)
        if read.is_last:
            return
        cursor = cursor.moved(track.name, after)


def after_repeats(read: ReadPage, cursor: Cursor, *, has_repeats: bool) -> ReadPage:
    """The page with its pass marked as short if that has listed a row on two pages.

    An API that sorts rows with equal sort values differently from page to page lists one twice and
    another never, and its totals do not show it. The next pass, which may list it, is due early.
    ``has_repeats`` is about the pages since ``cursor``, which tells about those before.
    """
    before, after = cursor.position(read.track.name), read.position_after
    if has_repeats or (before.in_pass and before.is_short and not after.is_short):
        after = after.model_copy(update={"is_short": True, "is_hurried": True})
    return replace(read, position_after=after)


def _check_clock(server_ms: int, now_ms: int) -> None:
    """Reject a server clock that is an hour off.

    Versions come from it: one response from the future would outrank all later states of its rows.
    """
    if abs(server_ms - now_ms) > _CLOCK_SKEW_MS_MAX:
        raise RetryableError(
            "The API's clock and this machine's differ by more than an hour. Correct the wrong one"
        )


class PageStream(Protocol):
    """The pages of one pass, in order."""

    def take(self, rows_max: int, wait_seconds: float) -> list[ReadPage]:
        """Return pages already read, up to about ``rows_max`` rows; empty if none has arrived.

        Waits up to ``wait_seconds`` for the first page. If reading has failed, raises that error
        once all earlier pages have been taken.
        """

    def close(self) -> None:
        """Stop reading, and discard the pages that were not taken. Does not block."""


OpenStream = Callable[[Iterator[ReadPage]], PageStream]

_READ_AHEAD_BYTES = 2_000_000
"""Size of the responses that a stream holds; as rows they take ten times as much memory."""


class ReadAhead:
    """`PageStream` that reads some pages ahead, on its own thread."""

    def __init__(self, pages: Iterator[ReadPage]) -> None:
        self._pages = pages
        self._read: deque[ReadPage] = deque()
        self._failed: Exception | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="read-ahead", daemon=True).start()

    def take(self, rows_max: int, wait_seconds: float) -> list[ReadPage]:
        """See `PageStream`."""
        taken: list[ReadPage] = []
        rows = 0
        with self._changed:
            self._changed.wait_for(lambda: self._read or self._failed, wait_seconds)
            while self._read and rows < rows_max:
                taken.append(self._read.popleft())
                rows += len(taken[-1].page.rows)
            self._changed.notify_all()
            if self._failed is not None and not taken:
                raise self._failed
        return taken

    def close(self) -> None:
        """See `PageStream`. A request in flight is not cancelled; its page is discarded."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            for page in self._pages:
                with self._changed:
                    self._changed.wait_for(self._has_room)
                    if self._is_closed:
                        return
                    self._read.append(page)
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - raised again by `take`
            with self._changed:
                self._failed = error
                self._changed.notify_all()

    def _has_room(self) -> bool:
        size_bytes = sum(read.page.size_bytes for read in self._read)
        return self._is_closed or size_bytes < _READ_AHEAD_BYTES
