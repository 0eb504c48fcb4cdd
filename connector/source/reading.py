"""Reading a pass page by page, ahead of what is being published.

The next request follows from the page before it alone, so pages can be read while earlier ones are
on their way into the topic. Of each kind only one pass is read at a time: a page that waited while
another pass published newer states of its rows would bring the old ones back.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from connector.errors import OddPageError, RetryableError
from connector.interfaces import ApiReader, Clock, Page
from connector.model.cursor import Cursor, PassPosition
from connector.model.events import EntityId
from connector.source import page_checks, window
from connector.source.schedule import Pace
from connector.source.tracks import Track

_CLOCK_SKEW_MS_MAX = 3_600_000


@dataclass(frozen=True, slots=True)
class ReadPage:
    """A page that is what was asked for, and the place before and after it."""

    track: Track
    before: PassPosition
    page: Page
    ids: Sequence[EntityId]
    """Of the rows that have one, in their order."""
    after: PassPosition
    oddities: Sequence[str] = ()
    """Contradictions in the page that the API insists on."""

    @property
    def is_last(self) -> bool:
        """Whether its pass ends with it, or must begin again."""
        return not self.after.in_pass


@dataclass(frozen=True, slots=True)
class PassOptions:
    """How a pass is read."""

    pace: Pace
    size: int
    """Rows a page."""
    tolerated: Collection[str] = ()
    """Contradictions that are taken: pages have come that way before."""


def read_pass(
    reader: ApiReader, track: Track, cursor: Cursor, options: PassOptions, clock: Clock
) -> Iterator[ReadPage]:
    """The rest of the pass that the cursor is in, or a new one. Blocks.

    Raises:
        OddPageError: a page contradicts itself, and that is not tolerated.
        RetryableError: no answer, or a page that is not what was asked for.
        BatchTooLargeError: the answer did not come in time.
        FatalError: repeating cannot help.
    """
    size = options.size
    while True:
        before = cursor.place(track.name)
        request = window.next_request(track, cursor, size)
        page = reader.read(request)
        now_ms = clock.now_ms()
        _check_clock(page.server_ms, now_ms)
        ids = page_checks.valid_ids(track.entity, page)
        oddities = page_checks.check_page(track, request, before, page, ids)
        if not set(oddities) <= set(options.tolerated):
            raise OddPageError(f"{track.name}: {', '.join(oddities)}", oddities)
        after = window.advance(track, before, page, options.pace, now_ms, tolerant=bool(oddities))
        if len(ids) < len(page.rows):  # such a row may be any of those that the pass misses
            after = after.model_copy(update={"is_short": True})
        yield (read := ReadPage(track, before, page, ids, after, oddities))
        size = min(size, page.size or size)
        if read.is_last:
            return
        cursor = cursor.moved(track.name, after)


def _check_clock(server_ms: int, now_ms: int) -> None:
    """Versions come from the server's clock: one wrong answer would poison entities for good."""
    if abs(server_ms - now_ms) > _CLOCK_SKEW_MS_MAX:
        raise RetryableError(
            "the API's clock and this machine's differ by more than an hour: set the wrong one"
        )


class PageStream(Protocol):
    """The pages of one pass, in order."""

    def take(self, rows_max: int, wait_seconds: float) -> list[ReadPage]:
        """The next pages of about so many rows that are there; none yet: an empty list.

        Waits so long for the first. Raises what reading raised, once the pages before are taken.
        """

    def close(self) -> None:
        """What was read ahead is forgotten. Does not block."""


OpenStream = Callable[[Iterator[ReadPage]], PageStream]

_AHEAD_BYTES = 2_000_000
"""Of answers, a stream; as rows they take ten times as much memory."""


class ReadAhead:
    """`PageStream` from a thread of its own, some pages ahead."""

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
        """See `PageStream`. A request that is under way ends by itself."""
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
        held = sum(read.page.size_bytes for read in self._read)
        return self._is_closed or held < _AHEAD_BYTES
