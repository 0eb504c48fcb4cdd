"""Finds rows of the graph that the API no longer lists: in a complete pass, by two looks.

The first look queries the graph, page by page, for ids in the page's range that the page does not
list. After the pass, the second look requests these ids from the API again. Only rows that both
looks miss are gone. Memory holds only the missing ids, up to a limit.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from connector.errors import RetryableError
from connector.interfaces import Page
from connector.model.cursor import PassPosition
from connector.model.events import VERSION_MAX
from connector.source import window
from connector.source.reading import ReadPage
from connector.source.tracks import Track

MISSING_MAX = 100_000
"""Missing ids kept per pass of a kind (some 10 MB); more are not credible, and the search stops."""
_HOPS_MAX = 1000


class IdRange(NamedTuple):
    """The ids above ``low``, up to ``high``: those that a page must list."""

    low: int
    high: int
    listed: list[int]
    rows_before: int
    """The number of rows of the kind before the page, as the page reports it."""


ALL_IDS = IdRange(0, VERSION_MAX, [], 0)


class Missing:
    """The ids that the pages of one pass do not list. Call `range_of` in page order."""

    def __init__(self) -> None:
        self.listed = 0
        self.ids: dict[int, int] = {}
        """The missing ids, each with the number of rows before the page that should list it."""
        self._covered = 0

    @property
    def are_too_many(self) -> bool:
        """Whether there are more than the limit; then not all of them are in ``ids``."""
        return len(self.ids) > MISSING_MAX

    @property
    def last_listed(self) -> int:
        """The largest id that the pass has listed."""
        return self._covered

    def range_of(self, read: ReadPage) -> IdRange:
        """The id range of the next page: up to its last id, or without limit for the last page."""
        ids = page_ids(read)
        low = self._covered
        self.listed += sum(each > low for each in ids)
        self._covered = max([low, *ids[-1:]])
        high = VERSION_MAX if window.is_last(read.page) else self._covered
        return IdRange(low, high, ids, read.page.rows_before)

    def add(self, ids: Sequence[int], rows_before: int) -> None:
        """Add missing ids. Thread-safe."""
        if not self.are_too_many:
            self.ids |= dict.fromkeys(ids, rows_before)


ReadAt = Callable[[PassPosition], ReadPage]
"""Reads the page of the pass that begins at this position; raises as `ApiReader.read`."""


class SecondLook:
    """Requests the ids that a pass missed from the API again."""

    def __init__(self, track: Track, missing: Missing, read_at: ReadAt, size: int) -> None:
        self._track, self._missing, self._size = track, missing, size
        self._read_at = read_at
        self._pages: dict[int, ReadPage] = {}
        """The page of a numbered list that was read last, by its number."""

    def gone(self) -> dict[int, int]:
        """The ids that the API does not list, each with the time of the request. Blocks.

        Times are the API's clock, in milliseconds.

        Raises:
            RetryableError: the API does not answer, or contradicts itself.
            ConnectorError: as `ApiReader.read`.
        """
        found = self._by_id() if self._track.is_keyset else self._by_page()
        return {each: asked_ms(read.page) for each, read in found if read is not None}

    def _by_id(self) -> Iterator[tuple[int, ReadPage | None]]:
        pending = deque(sorted(self._missing.ids))
        while pending:
            read = self._complete_page(PassPosition(after=pending[0] - 1))
            ids = page_ids(read)
            if not ids and pending[0] < self._missing.last_listed:
                raise RetryableError(f"{self._track.name}: rows that were listed are missing")
            listed, end = set(ids), VERSION_MAX if window.is_last(read.page) else ids[-1]
            while pending and pending[0] <= end:
                each = pending.popleft()
                yield each, None if each in listed else read

    def _by_page(self) -> Iterator[tuple[int, ReadPage | None]]:
        for each, rows_before in sorted(self._missing.ids.items()):
            yield each, self._page_without(each, rows_before // self._size)

    def _page_without(self, wanted: int, number: int) -> ReadPage | None:
        """Find the page that should list this id and does not; None if a page lists it.

        Rows may have moved between pages since the pass, so the search continues at the next page
        on the id's side. It ends between two adjacent pages that report the same total: no row has
        moved between them.
        """
        came_from = None
        for _ in range(_HOPS_MAX):
            read = self._numbered(number)
            ids = page_ids(read)
            if wanted in ids:
                return None
            if not ids and number == 0 and self._missing.listed:
                raise RetryableError(f"{self._track.name}: rows that were listed are missing")
            step = 1 if ids and wanted > ids[-1] else -1 if not ids or wanted < ids[0] else 0
            is_end = number == 0 if step < 0 else window.is_last(read.page)
            if step == 0 or is_end or _is_between(came_from, read, number + step):
                return read
            came_from = read
            number += step
        raise RetryableError(f"{self._track.name}: rows keep moving between pages")

    def _numbered(self, number: int) -> ReadPage:
        if number not in self._pages:
            self._pages = {
                number: self._complete_page(PassPosition(rows_before=number * self._size))
            }
        return self._pages[number]

    def _complete_page(self, position: PassPosition) -> ReadPage:
        """Read the page at this position; one that lacks rows proves nothing and is refused."""
        read = self._read_at(position)
        if read.position_after.is_short:
            raise RetryableError(f"{self._track.name}: the API listed fewer rows than it announced")
        return read


def _is_between(came_from: ReadPage | None, read: ReadPage, next_number: int) -> bool:
    if came_from is None:
        return False
    page, before = read.page, came_from.page
    size = abs(page.rows_before - before.rows_before)
    return next_number * size == before.rows_before and page.total_elements == before.total_elements


def asked_ms(page: Page) -> int:
    """When a page was requested, by the API's clock: its content may be that old."""
    return page.server_ms - page.took_ms


def page_ids(read: ReadPage) -> list[int]:
    """The ids of a page, in order."""
    return [each for each in read.ids if isinstance(each, int)]
