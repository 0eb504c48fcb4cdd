import threading
from collections.abc import Iterator

import pytest

from connector.errors import RetryableError
from connector.interfaces import Page
from connector.model.cursor import PassPosition
from connector.model.entities import ENTITIES
from connector.source.reading import ReadAhead, ReadPage
from connector.source.tracks import Mode, Track

TRACK = Track(ENTITIES["record"], Mode.FULL)
MB = 1_000_000


def read(number: int, size_bytes: int = 0) -> ReadPage:
    page = Page(0, 0, [number], size_bytes=size_bytes)
    return ReadPage(TRACK, PassPosition(), page, [], PassPosition())


class Pages:
    """Pages of ``size_bytes`` each; ``given`` counts those that were read."""

    def __init__(self, count: int, size_bytes: int) -> None:
        self.count, self.size_bytes = count, size_bytes
        self.given = 0
        self.all_given = threading.Event()

    def __iter__(self) -> Iterator[ReadPage]:
        for number in range(self.count):
            self.given += 1
            yield read(number, self.size_bytes)
        self.all_given.set()


def all_of(stream: ReadAhead, rows_max: int = 1) -> list[int]:
    found: list[int] = []
    while taken := stream.take(rows_max, 0.5):
        found += [each.page.rows[0] for each in taken]
    return found


def test_pages_come_in_order_and_as_many_as_are_asked_for() -> None:
    """Pages come in order, and as many as requested."""
    pages = Pages(10, 1)
    stream = ReadAhead(iter(pages))
    assert pages.all_given.wait(5)
    assert [len(stream.take(3, 0.5)), len(stream.take(3, 0.5))] == [3, 3]
    assert all_of(stream) == [6, 7, 8, 9]


def test_what_is_read_ahead_is_bounded_by_its_size_and_a_page_of_any_size_gets_through() -> None:
    """Reading ahead is bounded by bytes, and a page of any size gets through."""
    pages = Pages(8, 3 * MB)
    stream = ReadAhead(iter(pages))
    assert not pages.all_given.wait(0.3)
    assert pages.given == 2  # one is held, the next waits for room
    assert all_of(stream) == list(range(8))


def test_an_error_is_raised_after_the_pages_before_it() -> None:
    """An error is raised after the pages before it."""

    def failing() -> Iterator[ReadPage]:
        yield read(1)
        raise RetryableError("no answer")

    stream = ReadAhead(failing())
    assert [each.page.rows for each in stream.take(9, 5)] == [[1]]
    with pytest.raises(RetryableError):
        stream.take(9, 5)


def test_a_closed_stream_stops_reading() -> None:
    """A closed stream stops reading."""
    pages = Pages(8, 3 * MB)
    stream = ReadAhead(iter(pages))
    stream.close()
    assert not pages.all_given.wait(0.3)
    assert pages.given <= 2
