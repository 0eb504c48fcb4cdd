"""What to read next, and where an answer leaves us. Pure.

A kind is read along tracks. ``full`` goes through all rows in id order: the snapshot, and later
the sweeps. ``window`` reads what changed since the watermark, in id order too, for rows never
leave an id-ordered page by being changed. The watermark is the server's clock at the start of the
pass minus an overlap, so that a change committed late, or in the same second, is read again.

Kinds with a documented filter on id page by keyset (``recordId>LAST``): no deletion can shift
their pages. The others page by number; when the total shrinks between two pages the pass steps back
by as much. The window of an append-only kind is what comes after its newest id, and a little
before: ids may become visible out of order.
"""

from typing import Any

from connector.errors import FatalError
from connector.interfaces import Page, PageRequest
from connector.model.cursor import Cursor, PassPosition
from connector.model.dates import filter_text
from connector.model.entities import Entity, Reading
from connector.model.events import EntityId, Origin
from connector.source.page_checks import row_id
from connector.source.schedule import Pace
from connector.source.tracks import TRACKS, Mode, Track, was_announced

_STEPS_BACK_MAX = 10
"""Of a pass: an API whose totals go up and down would be read for ever."""
_SHORT_WINDOW_MS_MAX = 3_600_000
_SHORT_WINDOW_IDS_MAX = 10_000
_CLOCK_NOISE_MS = 2_000
"""The API says whole seconds, and an answer takes its time."""
APPENDED_OVERLAP_IDS = 100
"""How far back of the newest id the window of an append-only kind reaches."""


def next_request(track: Track, cursor: Cursor, size: int) -> PageRequest:
    """The next page of this track, of so many rows.

    ``size`` may shrink within a pass to a divisor of itself: pages by number stay in step.
    """
    place, entity = cursor.place(track.name), track.entity
    terms = []
    if track.mode is Mode.WINDOW and entity.reading is Reading.WINDOWED:
        terms.append(f"dateModified>={filter_text(_window_start_ms(track, cursor))}")
    if track.is_keyset and (after := _after(track, cursor)) is not None:
        terms.append(f"{entity.id_field}>{after}")
    if entity.name == "study":
        terms.append(f"studyKey=={cursor.study_key}")
    return PageRequest(
        study_key=cursor.study_key,
        resource=entity.resource,
        filter=";".join(terms) or None,
        sort=f"{entity.sort_field},asc",
        size=size,
        page=place.offset // size,
        id_field=entity.id_field,
        parameters=entity.query_parameters,
    )


def smaller(size: int) -> int:
    """A page size for an API that was too slow with this one: a divisor of it."""
    return at_most(size, size - 1)


def at_most(size: int, rows: int) -> int:
    """The largest divisor of this page size that is at most so many rows, and 1 at least."""
    return next((size // by for by in range(1, size) if size % by == 0 and size // by <= rows), 1)


def _after(track: Track, cursor: Cursor) -> EntityId | None:
    place = cursor.place(track.name)
    if place.after is not None or track.mode is Mode.FULL:
        return place.after
    if track.entity.reading is not Reading.APPENDED:
        return None
    newest = place.newest if place.newest is not None else cursor.place(track.full.name).newest
    return max(0, newest - APPENDED_OVERLAP_IDS) if isinstance(newest, int) else None


def _window_start_ms(track: Track, cursor: Cursor) -> int:
    watermark = cursor.place(track.name).watermark_ms
    if watermark is None:
        watermark = cursor.place(track.full.name).watermark_ms
    if watermark is None:
        raise FatalError("the cursor has a window without a snapshot; it is not this program's")
    return watermark


def _last_id(entity: Entity, page: Page) -> EntityId | None:
    for row in reversed(page.rows):
        if found := row_id(entity, row):
            return found
    return None


def advance(
    track: Track,
    place: PassPosition,
    page: Page,
    pace: Pace,
    now_ms: int,
    *,
    tolerant: bool = False,
) -> PassPosition:
    """The place after this page; between passes when the page was the last of its pass.

    ``tolerant``: an empty page ends the pass, whatever was announced.
    """
    has_shrunk = place.in_pass and not track.is_keyset and page.total_elements < (place.total or 0)
    if has_shrunk and place.steps_back < _STEPS_BACK_MAX:
        # Rows were deleted between two numbered pages: as many moved left past the reader.
        back = max(0, page.offset - ((place.total or 0) - page.total_elements))
        return place.model_copy(
            update={
                "offset": back,
                "total": page.total_elements,
                "steps_back": place.steps_back + 1,
            }
        )
    is_short = has_shrunk or _is_short(track, place, page)
    # The clock at the request, not at the answer: what commits in between may be on neither.
    started = page.server_ms - page.took_ms if place.started_ms is None else place.started_ms
    skew = place.skew_ms if place.in_pass else page.server_ms - now_ms
    began = place.began_ms if place.in_pass else now_ms
    is_hurried = place.is_hurried and place.in_pass  # said meanwhile, so it is about the next one
    last_id = _last_id(track.entity, page)
    if is_last(page, tolerant=tolerant):
        watermark = started - round(pace.overlap * 1000)
        lacks_changes = is_short and track.mode is Mode.WINDOW
        return PassPosition(
            watermark_ms=_held_back(place, watermark) if lacks_changes else watermark,
            passes=place.passes + 1,
            finished_ms=now_ms,
            began_ms=began,
            skew_ms=skew,
            # A snapshot that lacks rows does not wait for the next sweep: nothing else finds them.
            is_hurried=is_hurried or (is_short and place.passes == 0),
            newest=_newest(track, place, last_id, lacks_changes=lacks_changes),
            is_short=is_short,
        )
    return place.model_copy(
        update={
            "started_ms": started,
            "began_ms": began,
            "skew_ms": skew,
            "is_hurried": is_hurried,
            "rows": place.rows + len(page.rows),
            "is_short": is_short,
            **_onward(track, page, last_id),
        }
    )


def _newest(
    track: Track, place: PassPosition, last_id: EntityId | None, *, lacks_changes: bool
) -> EntityId | None:
    """The id that the next window of an append-only kind begins at, a little before."""
    newest = place.after if last_id is None else last_id
    if track.entity.reading is not Reading.APPENDED or newest is None:
        return place.newest
    if lacks_changes and isinstance(newest, int) and isinstance(place.newest, int):
        return min(newest, max(place.newest, newest - _SHORT_WINDOW_IDS_MAX))
    return newest


def _held_back(place: PassPosition, watermark: int) -> int:
    """The watermark after a window that lacks rows: the next one asks for them again.

    For an hour, lest the windows of an API that always announces a row too many grow for ever.
    """
    hour_before = watermark - _SHORT_WINDOW_MS_MAX
    return min(watermark, max(place.watermark_ms or hour_before, hour_before))


def _is_short(track: Track, place: PassPosition, page: Page) -> bool:
    """Whether the pass so far lacks rows that were announced."""
    announced = rows_left(page) + len(page.rows)
    if not page.rows:
        announced = max(announced, (place.total or 0) if was_announced(track, place) else 0)
    lacks_rows = len(page.rows) < min(page.size or len(page.rows) or 1, announced)
    return (place.in_pass and place.is_short) or lacks_rows


def _onward(track: Track, page: Page, last_id: EntityId | None) -> dict[str, Any]:
    """Where the next page of the pass begins."""
    if track.is_keyset and last_id is not None:
        return {"after": last_id, "offset": 0, "total": rows_left(page)}
    # A page that lacks rows which its total counts: they are passed over, not asked for for ever.
    rows = max(len(page.rows), page.size or 0)
    total = rows_left(page) if track.is_keyset else page.total_elements
    return {"offset": page.offset + rows, "total": total}


def restarted(place: PassPosition) -> PassPosition:
    """The pass that is under way begins again."""
    return place.model_copy(
        update={
            "after": None,
            "offset": 0,
            "total": None,
            "rows": 0,
            "started_ms": None,
            "is_short": False,
            "steps_back": 0,
        }
    )


def full_passes_restarted(cursor: Cursor, *, due: bool) -> Cursor:
    """The cursor for known states that were just rebuilt, which say nothing of what was listed.

    ``due``: a full pass of every kind comes at once, to publish what the topic lacks.
    """
    places = dict(cursor.places)
    for track in TRACKS:
        place = places.get(track.name)
        if place is None or track.mode is not Mode.FULL:
            continue
        place = restarted(place) if place.in_pass else place
        places[track.name] = place.model_copy(update={"finished_ms": None}) if due else place
    return cursor.model_copy(update={"places": places})


def rows_left(page: Page) -> int:
    """How many rows of the pass follow this page."""
    return max(0, page.total_elements - page.offset - len(page.rows))


def is_last(page: Page, *, tolerant: bool = False) -> bool:
    """Whether nothing follows this page in its pass.

    A full page does not end it, whatever the total says: a total that is one too low would lose
    the last row.
    """
    if not page.rows:
        return tolerant or rows_left(page) == 0
    is_full = page.size is not None and len(page.rows) >= page.size
    return rows_left(page) == 0 and not is_full


def clock_went_back(place: PassPosition, after: PassPosition, overlap: float) -> bool:
    """Whether the server's clock went back since the pass before, by more than windows overlap.

    What was changed meanwhile may bear a date before the watermark: only a sweep finds it.
    """
    if place.in_pass or place.skew_ms is None or after.skew_ms is None:
        return False
    return after.skew_ms < place.skew_ms - max(_CLOCK_NOISE_MS, round(overlap * 500))


def ends_pass(place: PassPosition, after: PassPosition) -> bool:
    """Whether the step from ``place`` to ``after`` completed a pass."""
    return after.passes > place.passes


def origin(track: Track, place: PassPosition) -> Origin:
    """What an event found on this track says of its origin."""
    if track.mode is Mode.WINDOW:
        return Origin.POLL
    return Origin.SWEEP if place.passes else Origin.SNAPSHOT
