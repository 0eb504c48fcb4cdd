from collections.abc import Collection
from dataclasses import replace

import pytest

from connector.errors import ContradictoryPageError, FatalError, RetryableError
from connector.interfaces import Page, PageRequest
from connector.model.cursor import Cursor, PassPosition
from connector.model.entities import ENTITIES
from connector.source.page_checks import check_page
from connector.source.reading import PassOptions, ReadPage, read_pass
from connector.source.schedule import Moment, Pace, due_ms, next_track
from connector.source.tracks import TRACKS, Mode, Track
from connector.source.window import (
    advance,
    clock_went_back,
    full_passes_restarted,
    next_request,
    smaller_page_size,
)
from tests.builders import record_row
from tests.fakes.clock import FakeClock

PACE = Pace(10, 300, 10, 86_400, overlap=60, page_size=3)
SIZE = 3
FULL = Track(ENTITIES["record"], Mode.FULL)
WINDOW = Track(ENTITIES["record"], Mode.WINDOW)
LIST = Track(ENTITIES["subject"], Mode.FULL)
APPENDED = Track(ENTITIES["record_revision"], Mode.WINDOW)
SERVER = 1_730_736_199_000  # 2024-11-04 16:03:19 UTC


def page(
    *ids: int, total: int | None = None, server_ms: int = SERVER, rows_before: int = 0
) -> Page:
    rows = [record_row(each) for each in ids]
    return Page(server_ms, len(ids) if total is None else total, rows, rows_before)


def cursor(**positions: PassPosition) -> Cursor:
    return Cursor(
        study_key="S1",
        positions={".".join(name.rsplit("_", 1)): position for name, position in positions.items()},
    )


def test_a_snapshot_pages_by_keyset_so_that_deletions_shift_nothing() -> None:
    """A snapshot pages by keyset, so deletions shift no rows."""
    first = next_request(FULL, cursor(), SIZE)
    assert (first.filter, first.sort, first.page) == (None, "recordId,asc", 0)
    position = advance(FULL, PassPosition(), page(1, 2, 9, total=5), PACE, 0)
    second = next_request(FULL, cursor(record_full=position), SIZE)
    assert (second.filter, second.page) == ("recordId>9", 0)


def test_the_watermark_is_the_servers_clock_at_the_first_page_minus_the_overlap() -> None:
    """The watermark is the server's clock at the first page, minus the overlap."""
    position = advance(FULL, PassPosition(), page(1, 2, 3, total=4), PACE, 0)
    position = advance(FULL, position, page(4, total=1, server_ms=SERVER + 50_000), PACE, 77)
    assert position.watermark_ms == SERVER - 60_000
    assert (position.passes, position.finished_ms, position.in_pass) == (1, 77, False)


def test_the_first_window_begins_where_the_snapshot_began_and_includes_its_second() -> None:
    """The first window begins where the snapshot began and includes that second."""
    done = PassPosition(watermark_ms=SERVER - 60_000, passes=1, finished_ms=0)
    request = next_request(WINDOW, cursor(record_full=done), SIZE)
    assert request.filter == "dateModified>=2024-11-04T16:02:19Z"


def test_no_window_before_its_snapshot() -> None:
    """A window waits for the snapshot of its kind."""
    track, _ = next_track(cursor(), PACE, Moment(0), "")
    assert track is not None
    assert track.name == "study.full"


def test_lists_page_by_number_and_step_back_by_what_vanishes_meanwhile() -> None:
    """Lists page by number, and step back by as many rows as vanish in the meantime."""
    position = advance(LIST, PassPosition(), page(1, 2, 3, total=9), PACE, 0)
    assert next_request(LIST, cursor(subject_full=position), SIZE).page == 1
    after = advance(LIST, position, page(5, 6, 7, total=7, rows_before=3), PACE, 0)
    assert after.in_pass
    assert after.rows_before == 1  # row 4 has moved to the first page
    assert next_request(LIST, cursor(subject_full=after), SIZE).page == 0


def test_a_list_resumed_with_another_page_size_rereads_rows_and_skips_none() -> None:
    """A list resumed with another page size reads some rows again and skips none."""
    position = PassPosition(started_ms=1, rows_before=250, total=1000)
    request = next_request(LIST, cursor(subject_full=position), 500)
    assert request.page == 0
    rows = [record_row(each) for each in range(1, 501)]
    assert advance(LIST, position, Page(SERVER, 1000, rows, 0), PACE, 0).rows_before == 500


NOT_ASKED_FOR = {
    "filter ignored": (PassPosition(after=5, started_ms=1), page(1, 2)),
    "unsorted": (PassPosition(), page(2, 1)),
}
ODD = {
    "repeats": (PassPosition(after=5, started_ms=1), page(5, 6)),
    "twice": (PassPosition(), page(1, 1)),
    "too many": (PassPosition(), page(1, 2, 3, 4)),
    "short": (PassPosition(), page(1, 2, total=9)),
    "empty": (PassPosition(), page(total=9)),
    "no ids": (PassPosition(), Page(SERVER, 9, [{}, {}, {}])),
    "total": (PassPosition(), page(1, 2, 3, total=0)),
}


def read(position: PassPosition, answer: Page, tolerated: Collection[str] = ()) -> ReadPage:
    class Api:
        def read(self, request: PageRequest) -> Page:
            assert request.size == SIZE
            return answer

    options = PassOptions(PACE, SIZE, tolerated)
    return next(read_pass(Api(), FULL, cursor(record_full=position), options, FakeClock(SERVER)))


def read_twice(position: PassPosition, answer: Page) -> ReadPage:
    with pytest.raises(ContradictoryPageError) as odd:
        read(position, answer)
    return read(position, answer, odd.value.contradictions)


@pytest.mark.parametrize("case", [*NOT_ASKED_FOR, *ODD])
def test_a_page_that_does_not_match_its_request_moves_nothing(case: str) -> None:
    """A page that does not match its request, or contradicts itself, moves nothing."""
    with pytest.raises(RetryableError):
        read(*(NOT_ASKED_FOR | ODD)[case])


@pytest.mark.parametrize("case", ODD)
def test_a_page_with_the_same_contradiction_twice_is_accepted_and_the_pass_advances(
    case: str,
) -> None:
    """A page with the same contradiction twice is accepted, and the pass advances."""
    position, answer = ODD[case]
    taken = read_twice(position, answer)
    assert taken.page is answer
    assert taken.contradictions
    before, after = (
        (position.after or 0, position.rows_before),
        (taken.position_after.after or 0, taken.position_after.rows_before),
    )
    assert taken.is_last or after > before


@pytest.mark.parametrize("case", NOT_ASKED_FOR)
def test_a_page_from_another_position_is_never_accepted(case: str) -> None:
    """A page from another position is never accepted."""
    for _ in range(2):
        with pytest.raises(RetryableError) as error:
            read(*NOT_ASKED_FOR[case])
        assert not isinstance(error.value, ContradictoryPageError)


def test_a_page_with_another_contradiction_than_before_is_requested_again() -> None:
    """A page with another contradiction than the one before is requested again.

    First a total that is one too low, then a page without rows: the API is not always like
    either.
    """
    with pytest.raises(ContradictoryPageError) as odd:
        read(*ODD["total"])
    with pytest.raises(ContradictoryPageError):
        read(*ODD["empty"], odd.value.contradictions)


def test_a_snapshot_that_lacks_rows_is_read_again_soon_a_sweep_is_not() -> None:
    """A snapshot that lacks rows is read again soon; a sweep is not."""
    lacking = replace(page(1, 2, total=3), size=3)
    snapshot = advance(FULL, advance(FULL, PassPosition(), lacking, PACE, 0), page(), PACE, 0)
    assert (snapshot.passes, snapshot.is_short, snapshot.is_hurried) == (1, True, True)
    sweep = advance(FULL, advance(FULL, snapshot, lacking, PACE, 0), page(), PACE, 0)
    assert (sweep.passes, sweep.is_short, sweep.is_hurried) == (2, True, False)


def test_a_total_that_is_too_low_hides_no_row_behind_a_full_page() -> None:
    """A total that is too low hides no row behind a full page."""
    full = replace(page(1, 2, 3, total=3), size=3)
    position = advance(FULL, PassPosition(), full, PACE, 0)
    assert position.in_pass
    rest = replace(page(4, total=0), size=3)
    assert not advance(FULL, position, rest, PACE, 0, tolerant=True).in_pass


def test_a_full_last_page_is_followed_by_an_empty_one_that_ends_the_pass() -> None:
    """A full last page is followed by an empty one, which ends the pass."""
    position = advance(FULL, PassPosition(), replace(page(1, 2, 3), size=3), PACE, 0)
    after = advance(FULL, position, replace(page(), size=3), PACE, 0)
    assert (after.in_pass, after.passes, after.is_short) == (False, 1, False)


def test_a_total_that_is_too_high_ends_the_pass_as_short() -> None:
    """A total that is too high ends the pass as short.

    An API that announces a row that never comes may hide another one, so nothing is deleted.
    """
    position = advance(FULL, PassPosition(), page(1, 2, total=3), PACE, 0, tolerant=True)
    after = advance(FULL, position, page(total=1), PACE, 0, tolerant=True)
    assert (after.in_pass, after.is_short) == (False, True)


def test_a_list_that_lacks_a_row_in_its_middle_continues_with_the_next_page() -> None:
    """A list that lacks a row in its middle continues with the next page."""
    position = advance(
        LIST, PassPosition(), replace(page(1, 2, total=9), size=3), PACE, 0, tolerant=True
    )
    assert next_request(LIST, cursor(subject_full=position), SIZE).page == 1


def test_an_api_that_allows_smaller_pages_only_is_read_by_its_own_size() -> None:
    """An API that allows only smaller_page_size pages is read with its own page size."""
    asked: list[PageRequest] = []

    class Api:
        def read(self, request: PageRequest) -> Page:
            asked.append(request)
            first = request.page * 2
            rows = [{"studyKey": "S1", "subjectId": first + each} for each in (1, 2)]
            return Page(SERVER, 6, rows, first, size=2)

    pages = read_pass(Api(), LIST, cursor(), PassOptions(PACE, 4), FakeClock(SERVER))
    for _ in range(3):
        next(pages)
    assert [(each.page, each.size) for each in asked] == [(0, 4), (1, 2), (2, 2)]


def test_the_watermark_is_the_clock_at_the_request_not_at_the_answer() -> None:
    """The watermark is the clock at the request, not at the answer.

    A change that commits while the API is answering may be on neither page nor in the next
    window.
    """
    slow = replace(page(1, server_ms=SERVER), took_ms=20_000)
    assert advance(FULL, PassPosition(), slow, PACE, 0).watermark_ms == SERVER - 20_000 - 60_000


def test_after_a_rebuild_of_the_known_states_full_passes_under_way_begin_again() -> None:
    """After a rebuild of the known states, full passes in progress start again."""
    under_way = PassPosition(after=7, started_ms=1, rows=7, passes=2, finished_ms=5)
    at_rest = PassPosition(passes=2, finished_ms=5, watermark_ms=3)
    now = cursor(record_full=under_way, record_window=under_way, subject_full=at_rest)
    found = full_passes_restarted(now, due=False)
    assert found.position("record.full") == PassPosition(passes=2, finished_ms=5)
    assert found.position("record.window") == under_way
    assert found.position("subject.full") == at_rest
    due = full_passes_restarted(now, due=True)
    assert due.position("record.full").finished_ms is None
    assert due_ms(LIST, due, PACE, Moment(6)) == 0


def test_an_unknown_study_stops_with_what_to_do() -> None:
    """An unknown study is fatal, and the error names the setting."""
    track = Track(ENTITIES["study"], Mode.FULL)
    request = next_request(track, cursor(), SIZE)
    assert request.filter == "studyKey==S1"
    with pytest.raises(FatalError, match="SOURCE_STUDIES"):
        check_page(track, request, PassPosition(), page(), [])


def test_due_tracks_take_turns_so_that_a_sweep_does_not_hold_up_windows() -> None:
    """Due tracks take turns, so a sweep does not hold up the windows."""
    done = PassPosition(watermark_ms=0, passes=1, finished_ms=0)
    positions = {track.name: done for track in TRACKS} | {
        "record.full": PassPosition(after=3, started_ms=1, passes=1, watermark_ms=0),
    }
    state, names, previous = Cursor(study_key="S1", positions=positions), [], ""
    for _ in TRACKS:
        track, _ = next_track(state, PACE, Moment(10_000), previous)
        assert track is not None
        names.append(previous := track.name)
    assert {"record.full", "record.window", "site.window"} <= set(names)


def test_nothing_is_due_between_intervals_and_the_next_due_time_is_told() -> None:
    """Between intervals nothing is due, and the next due time is returned."""
    done = PassPosition(watermark_ms=0, passes=1, finished_ms=1000)
    positions = {f"{name}.{mode.value}": done for name in ENTITIES for mode in Mode}
    track, due = next_track(Cursor(study_key="S1", positions=positions), PACE, Moment(2000), "")
    assert (track, due) == (None, 11_000)


def test_a_track_that_finished_in_the_future_is_due_at_once() -> None:
    """A track whose last pass finished in the future is due at once.

    The cursor was written under a clock that was ahead; waiting for that time would stop
    reading.
    """
    done = PassPosition(watermark_ms=0, passes=1, finished_ms=86_400_000)
    positions = {f"{name}.{mode.value}": done for name in ENTITIES for mode in Mode}
    track, _ = next_track(Cursor(study_key="S1", positions=positions), PACE, Moment(2000), "")
    assert track is not None


def test_an_empty_page_where_more_was_announced_is_asked_for_again_and_ends_a_short_pass() -> None:
    """An empty page where more was announced is requested again, then ends a short pass.

    It may be wrong, and a short pass deletes nothing. To request it forever would be a loop.
    """
    position = advance(FULL, PassPosition(passes=1), page(1, 2, 3, total=7), PACE, 0)
    with pytest.raises(RetryableError):
        read(position, page())
    after = read_twice(position, page()).position_after
    assert (after.in_pass, after.passes, after.is_short) == (False, 2, True)


def test_a_pass_that_lacked_rows_in_its_middle_is_short_to_its_end() -> None:
    """A pass that lacked rows in its middle stays short to its end.

    The pass misses those rows, but they may exist.
    """
    lacking = replace(page(1, 2, total=5), size=3)
    for track in (FULL, LIST):
        position = advance(track, PassPosition(), lacking, PACE, 0, tolerant=True)
        last = replace(page(4, 5, total=2 if track is FULL else 5, rows_before=0), size=3)
        last = replace(last, rows_before=0 if track is FULL else 3)
        after = advance(track, position, last, PACE, 0, tolerant=True)
        assert (after.in_pass, after.is_short) == (False, True)
    assert not advance(FULL, after, replace(page(1), size=3), PACE, 0).is_short


def test_a_pass_with_a_row_without_an_id_is_short() -> None:
    """A pass with a row without an id is short.

    That row may be any of those that the pass misses.
    """
    nameless = Page(SERVER, 2, [record_row(1), record_row(2) | {"recordId": None}], size=3)
    assert read(PassPosition(), nameless).position_after.is_short


def test_totals_that_go_up_and_down_do_not_hold_up_a_list_for_ever() -> None:
    """Totals that go up and down do not hold up a list forever."""
    position, steps = PassPosition(), 0
    while steps == 0 or position.in_pass:
        steps += 1
        assert steps < 100
        at = next_request(LIST, cursor(subject_full=position), SIZE).page
        total = 10 if at == 0 else 9
        rows = [
            {"studyKey": "S1", "subjectId": each + 1} for each in range(at * 3, min(9, at * 3 + 3))
        ]
        position = advance(
            LIST, position, Page(SERVER, total, rows, at * 3, size=3), PACE, 0, tolerant=True
        )
    assert position.is_short


def test_the_page_size_shrinks_to_divisors_so_that_numbered_pages_stay_in_step() -> None:
    """The page size shrinks to divisors of itself, so numbered pages stay aligned."""
    sizes = [500]
    while sizes[-1] > 1:
        sizes.append(smaller_page_size(sizes[-1]))
    assert sizes == [500, 250, 125, 25, 5, 1]
    position = PassPosition(rows_before=1000, started_ms=1, total=5000)
    assert [next_request(LIST, cursor(subject_full=position), size).page for size in sizes] == [
        2, 4, 8, 40, 200, 1000,
    ]  # fmt: skip


def test_an_append_only_kind_is_read_from_a_little_before_its_newest_id() -> None:
    """The window of an append-only kind begins a little before its newest id."""
    done = cursor(record_revision_full=PassPosition(passes=1, newest=500))
    assert next_request(APPENDED, done, SIZE).filter == "recordRevisionId>400"
    position = PassPosition(started_ms=1, after=402)
    onward = cursor(
        record_revision_full=PassPosition(passes=1, newest=500), record_revision_window=position
    )
    assert next_request(APPENDED, onward, SIZE).filter == "recordRevisionId>402"


def test_a_kind_that_fails_does_not_hold_up_the_snapshot_of_the_others() -> None:
    """A kind that fails does not hold up the snapshot of the others."""
    track, _ = next_track(cursor(), PACE, Moment(0, excluded={"study.full"}), "")
    assert track is not None
    assert track.name == "site.full"


def all_done(finished_ms: int) -> Cursor:
    done = PassPosition(
        watermark_ms=0, passes=1, began_ms=finished_ms - 100, finished_ms=finished_ms
    )
    return Cursor(
        study_key="S1",
        positions={f"{name}.{mode.value}": done for name in ENTITIES for mode in Mode},
    )


def test_a_requested_sweep_reads_every_kind_once() -> None:
    """A requested sweep reads every kind once, from after the request."""
    now = Moment(2000, sweep_since_ms=1500)
    track, _ = next_track(all_done(1000), PACE, now, "")
    assert track is not None
    assert track.mode is Mode.FULL
    assert next_track(all_done(1700), PACE, now, "")[0] is None
    began_before = next_track(all_done(1550), PACE, now, "")[0]
    assert began_before is not None


def test_a_request_from_before_the_clock_went_back_does_not_repeat_passes() -> None:
    """Until the clock has caught up with the request, each new pass would seem to be older."""
    requested = Moment(1400, sweep_since_ms=1500)
    assert next_track(all_done(1350), PACE, requested, "")[0] is None
    assert next_track(all_done(1350), PACE, Moment(1500, sweep_since_ms=1500), "")[0] is not None


def test_each_kind_has_its_own_schedule() -> None:
    """Each kind has its own schedule."""
    pace = Pace(10, 300, 3600, 86_400, overlap=60, page_size=3, kind_intervals={"visit": 7})
    site = Track(ENTITIES["site"], Mode.WINDOW)
    visit = Track(ENTITIES["visit"], Mode.FULL)
    wanted = {WINDOW: 10, LIST: 300, site: 3600, FULL: 86_400, visit: 7, APPENDED: 10}
    assert {track: pace.interval(track) for track in wanted} == wanted


def test_a_pass_that_missed_rows_is_soon_followed_by_a_confirming_one() -> None:
    """A pass that missed rows is soon followed by a confirming one."""
    position = PassPosition(watermark_ms=0, passes=1, finished_ms=1000, is_hurried=True)
    state = all_done(1000).moved("record.full", position)
    assert due_ms(FULL, state, PACE, Moment(2000)) == 1000 + 300_000


def test_a_server_clock_that_went_back_is_noticed() -> None:
    """A server clock that went back is noticed."""
    before = PassPosition(watermark_ms=0, passes=1, finished_ms=0, skew_ms=5000)
    for now_ms, went_back in ((SERVER, False), (SERVER + 100_000, True), (SERVER - 100_000, False)):
        after = advance(WINDOW, before, page(), PACE, now_ms)
        assert clock_went_back(before, after, PACE.overlap) is went_back


def test_a_hurry_set_during_a_pass_applies_to_the_next_pass() -> None:
    """A hurry that is set during a pass applies to the next pass."""
    hurried = PassPosition(passes=1, is_hurried=True)
    begun = advance(FULL, hurried, page(1, 2, 3, total=7), PACE, 0)
    assert not begun.is_hurried
    again = begun.model_copy(update={"is_hurried": True})
    assert advance(FULL, again, page(4, 5, 6), PACE, 0).is_hurried


def test_a_window_that_lacks_rows_is_read_again_from_where_it_began_for_an_hour() -> None:
    """A window that lacks rows is read again from where it began, for up to an hour."""
    lacking, rest = page(1, 2, total=9), page(total=7)
    position, begins = PassPosition(watermark_ms=SERVER - 10_000), []
    for minutes in (0, 30, 90):
        at = SERVER + minutes * 60_000
        for answer in (lacking, rest):
            position = advance(
                WINDOW, position, replace(answer, server_ms=at, size=3), PACE, 0, tolerant=True
            )
        begins.append(position.watermark_ms)
    hour_before = SERVER + 90 * 60_000 - 60_000 - 3_600_000
    assert begins == [SERVER - 60_000, SERVER - 60_000, hour_before]
    whole = advance(WINDOW, position, page(1, 2, server_ms=SERVER + 95 * 60_000), PACE, 0)
    assert whole.watermark_ms == SERVER + 94 * 60_000


def test_a_first_window_that_lacks_rows_is_read_again_for_an_hour_too() -> None:
    """A first window that lacks rows is read again for up to an hour, too."""
    answers = (page(1, 2, total=9), page(total=7))
    position = PassPosition()
    for answer in answers:
        position = advance(WINDOW, position, replace(answer, size=3), PACE, 0, tolerant=True)
    assert (position.passes, position.watermark_ms) == (1, SERVER - 60_000 - 3_600_000)


def test_a_window_of_an_append_only_kind_that_lacks_rows_begins_where_it_began() -> None:
    """A window of an append-only kind that lacks rows begins where it began, within bounds."""
    position = PassPosition(passes=1, newest=1000, watermark_ms=0)
    lacking = Page(SERVER, 300, [{"recordRevisionId": 1300}], size=500)
    short = advance(APPENDED, position, lacking, PACE, 0, tolerant=True)
    while short.in_pass:
        short = advance(APPENDED, short, page(total=1), PACE, 0, tolerant=True)
    assert (short.is_short, short.newest) == (True, 1000)
    far = advance(
        APPENDED, short, Page(SERVER, 300, [{"recordRevisionId": 50_000}], size=500), PACE, 0
    )
    while far.in_pass:
        far = advance(APPENDED, far, page(total=1), PACE, 0, tolerant=True)
    assert far.newest == 40_000
    whole = Page(SERVER, 1, [{"recordRevisionId": 50_001}], size=500)
    assert advance(APPENDED, far, whole, PACE, 0).newest == 50_001
