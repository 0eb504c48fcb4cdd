"""Reading a pass page by page, ahead of what is being published.

The next request follows from the page before it alone, so pages can be read while earlier ones are
on their way into the topic. Of each kind only one pass is read at a time: a page that waited while
another pass published newer states of its rows would bring the old ones back.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from connector.cursor import Cursor, Place
from connector.errors import RetryableError
from connector.interfaces import ApiReader, Clock, Page
from connector.source import window
from connector.source.window import Pace, Track

_CLOCK_SKEW_MS_MAX = 3_600_000


@dataclass(frozen=True, slots=True)
class ReadPage:
    """A page that is what was asked for, and the place before and after it."""

    track: Track
    before: Place
    page: Page
    after: Place

    @property
    def is_last(self) -> bool:
        """Whether its pass ends with it, or must begin again."""
        return not self.after.in_pass


def read_pass(
    reader: ApiReader, track: Track, cursor: Cursor, pace: Pace, size: int, clock: Clock
) -> Iterator[ReadPage]:
    """The rest of the pass that the cursor is in, or a new one, ``size`` rows a page. Blocks.

    Raises:
        RetryableError: no answer, or a page that is not what was asked for.
        BatchTooLargeError: the answer did not come in time.
        FatalError: repeating cannot help.
    """
    while True:
        before = cursor.place(track.name)
        request = window.next_request(track, cursor, size)
        page = reader.read(request)
        now_ms = clock.now_ms()
        _check_clock(page.server_ms, now_ms)
        window.check_page(track, request, before, page)
        after = window.advance(track, before, page, pace, now_ms)
        yield (read := ReadPage(track, before, page, after))
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

_WAIT_SECONDS = 0.5
_AHEAD_PAGES = 3


class ReadAhead:
    """`PageStream` from a thread of its own, a few pages ahead."""

    def __init__(self, pages: Iterator[ReadPage]) -> None:
        self._pages = pages
        self._read: queue.Queue[ReadPage | Exception] = queue.Queue(_AHEAD_PAGES)
        self._failed: Exception | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._work, name="read-ahead", daemon=True).start()

    def take(self, rows_max: int, wait_seconds: float) -> list[ReadPage]:
        """See `PageStream`."""
        taken: list[ReadPage] = []
        while self._failed is None and sum(len(each.page.rows) for each in taken) < rows_max:
            try:
                item = self._read.get(block=not taken, timeout=wait_seconds)
            except queue.Empty:
                break
            if isinstance(item, Exception):
                self._failed = item
                break
            taken.append(item)
            if item.is_last:
                break
        if self._failed is not None and not taken:
            raise self._failed
        return taken

    def close(self) -> None:
        """See `PageStream`. A request that is under way ends by itself."""
        self._closed.set()

    def _work(self) -> None:
        try:
            for page in self._pages:
                if not self._put(page):
                    return
        except Exception as error:  # noqa: BLE001 - raised again by `take`
            self._put(error)

    def _put(self, item: ReadPage | Exception) -> bool:
        while not self._closed.is_set():
            try:
                self._read.put(item, timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            return True
        return False
