"""Rows that a complete pass misses are requested again; only those missed twice are gone."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from connector.errors import RetryableError
from connector.export.vanished import MISSING_MAX, Missing, SecondLook
from connector.lab.simulator.study import build_study
from connector.model.cursor import Cursor, PassPosition
from connector.model.entities import ENTITIES
from connector.model.events import VERSION_MAX
from connector.source.reading import PassOptions, ReadPage, read_pass
from connector.source.schedule import Pace
from connector.source.tracks import Mode, Track
from tests.fakes.clock import FakeClock
from tests.fakes.simulated_api import SimulatedApi

SIZE = 10
PACE = Pace(1, 1, 1, 1, overlap=0, page_size=SIZE)


class Kind:
    """One kind of a simulated study, read from a simulated API."""

    def __init__(self, name: str) -> None:
        self.track = Track(ENTITIES[name], Mode.FULL)
        self.api = SimulatedApi(build_study("S1", 40, 60, 3), FakeClock())
        self.table = self.api.study.table(self.track.entity.resource)
        self.missing = Missing()

    @property
    def ids(self) -> list[int]:
        return list(self.table.ids)

    def pages(self, cursor: Cursor) -> Iterable[ReadPage]:
        return read_pass(self.api, self.track, cursor, PassOptions(PACE, SIZE), self.api.clock)

    def read_at(self, position: PassPosition) -> ReadPage:
        cursor = Cursor(study_key="S1").moved(self.track.name, position)
        return next(iter(self.pages(cursor)))

    def first_look(self, known: Iterable[int]) -> None:
        for read in self.pages(Cursor(study_key="S1")):
            span = self.missing.range_of(read)
            found = [
                each for each in known
                if span.low < each <= span.high and each not in span.listed
            ]  # fmt: skip
            self.missing.add(found, span.rows_before)

    def gone(self) -> set[int]:
        return set(SecondLook(self.track, self.missing, self.read_at, SIZE).gone())


@pytest.fixture(params=["record", "visit"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


def test_what_is_listed_is_never_missing(kind: Kind) -> None:
    """A listed id is never missing."""
    kind.first_look(kind.ids)
    assert kind.missing.ids == {}
    assert kind.missing.listed == len(kind.ids) > 3 * SIZE


@pytest.mark.parametrize("places", [[0], [-1], [SIZE - 1, SIZE], list(range(15, 37)), [0, 12, 33]])
def test_what_both_looks_miss_is_gone_wherever_it_stood(kind: Kind, places: list[int]) -> None:
    """An id that both looks miss is gone, wherever it was."""
    known = kind.ids
    gone = {known[place] for place in places} | {max(known) + 7}
    for each in gone - {max(known) + 7}:
        kind.table.remove(each)
    kind.first_look({*known, max(known) + 7})
    assert set(kind.missing.ids) == gone
    assert kind.gone() == gone


def test_what_the_second_look_lists_is_not_gone(kind: Kind) -> None:
    """An id that the second look lists is not gone."""
    known, back, gone = kind.ids, kind.ids[11], kind.ids[24]
    rows = {each: kind.table.get(each) for each in (back, gone)}
    for each in rows:
        kind.table.remove(each)
    kind.first_look(known)
    kind.table.put(rows[back])
    assert set(kind.missing.ids) == {back, gone}
    assert kind.gone() == {gone}


@pytest.mark.parametrize("removed", [1, 9, 15, 31])
def test_a_row_that_moved_to_another_page_meanwhile_is_found_there(
    kind: Kind, removed: int
) -> None:
    """A row that has moved to another page in the meantime is found there."""
    known, gone = kind.ids, kind.ids[removed + 6]
    kind.table.remove(gone)
    kind.first_look([*known, kind.ids[-1] + 1])
    kind.missing.add([kind.ids[-2], kind.ids[2]], rows_before=0)  # wrongly: they are listed
    for each in kind.ids[:removed]:
        kind.table.remove(each)
    left = set(kind.ids)
    assert kind.gone() == set(kind.missing.ids) - left
    assert gone in kind.gone()


def test_rows_that_a_shrinking_list_moved_past_the_reader_are_not_gone() -> None:
    """Rows that a shrinking list moved past the reader are not gone."""
    kind = Kind("visit")
    known, asked = kind.ids, 0

    def before() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:  # rows of later pages move to pages that were already read
            for each in known[:4]:
                kind.table.remove(each)

    kind.api.before = before
    kind.first_look(known)
    kind.api.before = lambda: None
    assert kind.gone() <= set(known[:4])
    assert len(kind.missing.ids) >= 4


def test_an_answer_that_lists_nothing_where_the_pass_listed_rows_deletes_nothing(
    kind: Kind,
) -> None:
    """An empty answer where the pass listed rows deletes nothing."""
    known = kind.ids
    kind.table.remove(known[3])
    kind.first_look(known)
    for each in kind.ids:
        kind.table.remove(each)
    with pytest.raises(RetryableError, match="rows that were listed are missing"):
        kind.gone()


def test_the_second_look_asks_for_the_pages_of_the_missing_rows_alone(kind: Kind) -> None:
    """The second look requests only the pages of the missing rows."""
    known = kind.ids
    for each in (known[12], known[14]):
        kind.table.remove(each)
    kind.first_look(known)
    kind.api.requests.clear()
    assert kind.gone() == {known[12], known[14]}
    assert len(kind.api.requests) == 1


def test_an_empty_list_has_one_range_of_all_ids(kind: Kind) -> None:
    """An empty list has a single range that covers all ids."""
    for each in kind.ids:
        kind.table.remove(each)
    (read,) = kind.pages(Cursor(study_key="S1"))
    span: Any = kind.missing.range_of(read)
    assert (span.low, span.high, span.listed) == (0, VERSION_MAX, [])
    assert kind.missing.listed == 0


def test_all_rows_of_an_emptied_list_are_gone_at_the_time_of_the_request(kind: Kind) -> None:
    """If a kind has become empty, all its rows are gone, since the second look."""
    ids = set(kind.ids)
    for each in ids:
        kind.table.remove(each)
    kind.first_look(ids)
    gone = SecondLook(kind.track, kind.missing, kind.read_at, SIZE).gone()
    assert set(gone) == ids
    now_ms = kind.api.clock.now_ms()
    assert all(abs(at - now_ms) < 60_000 for at in gone.values())


def test_no_more_ids_are_held_than_the_limit_and_one_page() -> None:
    """No more missing ids are held than the limit plus one page."""
    missing = Missing()
    for start in range(0, 3 * MISSING_MAX, 1000):
        missing.add(range(start, start + 1000), start)
    assert missing.are_too_many
    assert len(missing.ids) <= MISSING_MAX + 1000


def test_a_second_look_at_a_page_that_withholds_rows_deletes_nothing(kind: Kind) -> None:
    """A second look at a page that withholds rows deletes nothing.

    A row that the API counts but does not list may be the missing one.
    """
    kind.first_look({*kind.ids, max(kind.ids) + 7})
    read_at = kind.read_at

    def withheld(position: PassPosition) -> ReadPage:
        read = read_at(position)
        return replace(
            read, position_after=read.position_after.model_copy(update={"is_short": True})
        )

    kind.read_at = withheld  # type: ignore[method-assign]
    with pytest.raises(RetryableError):
        kind.gone()
