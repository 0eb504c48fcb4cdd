"""Windows and positions: a pass's next request, and the position after its response. Pure.

A kind is read along tracks. ``full`` reads all rows, in the order of a field that never changes,
for most kinds the id: first the snapshot, later the sweeps. ``window`` reads the rows changed since
the watermark, also by id, because a row that changes keeps its place in that order. The watermark
is the server's clock at the start of the previous pass minus an overlap, so a change that was
committed late, or in the same second, is read again.

Kinds with a documented filter on id are paged by keyset (``recordId>LAST``): no deletion can shift
their pages. The others are paged by number: when the total shrinks between two pages, the pass
steps back by the difference. The window of an append-only kind is the rows after its newest id,
and some before it, because ids may become visible out of order.
"""

from typing import Any

from connector.errors import FatalError
from connector.interfaces import Page, PageRequest
from connector.model.cursor import Cursor, PassPosition
from connector.model.dates import filter_text
from connector.model.entities import DEFINING_KINDS
from connector.model.entity import Entity, Reading
from connector.model.events import EntityId, Origin
from connector.source.page_checks import row_id
from connector.source.schedule import Pace
from connector.source.tracks import TRACKS, Mode, Track, has_announced_more

_STEPS_BACK_MAX = 10
"""Per pass. Without a limit, a pass would never end if the API's totals keep going up and down."""
_SHORT_WINDOW_MS_MAX = 3_600_000
_SHORT_WINDOW_IDS_MAX = 10_000
_CLOCK_NOISE_MS = 2_000
"""Differences between clocks that mean nothing: the API's has whole seconds, and requests take
time."""
APPENDED_OVERLAP_IDS = 100
"""How far before the newest id the window of an append-only kind starts."""


def next_request(track: Track, cursor: Cursor, size: int) -> PageRequest:
    """Build the request for the track's next page, of ``size`` rows.

    Within a pass, ``size`` may only shrink to one of its divisors, so that the rows already read
    are still a whole number of pages.
    """
    position, entity = cursor.position(track.name), track.entity
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
        page=position.rows_before // size,
        id_field=entity.id_field,
        parameters=entity.query_parameters,
    )


def smaller_page_size(size: int) -> int:
    """The next smaller divisor of this page size, for an API that was too slow; at least 1."""
    return page_size_at_most(size, size - 1)


def page_size_at_most(size: int, rows_max: int) -> int:
    """The largest divisor of this page size that is at most ``rows_max``; at least 1."""
    divisors = (size // by for by in range(1, size) if size % by == 0 and size // by <= rows_max)
    return next(divisors, 1)


def _after(track: Track, cursor: Cursor) -> EntityId | None:
    """The id after which the next page starts; None: at the first row."""
    position = cursor.position(track.name)
    if position.after is not None or track.mode is Mode.FULL:
        return position.after
    if track.entity.reading is not Reading.APPENDED:
        return None
    newest = position.newest
    if newest is None:
        newest = cursor.position(track.full.name).newest
    return max(0, newest - APPENDED_OVERLAP_IDS) if isinstance(newest, int) else None


def _window_start_ms(track: Track, cursor: Cursor) -> int:
    watermark = cursor.position(track.name).watermark_ms
    if watermark is None:
        watermark = cursor.position(track.full.name).watermark_ms
    if watermark is None:
        raise FatalError(
            f"Cannot resume study {cursor.study_key}: its cursor has a window of"
            f" {track.entity.plural} without a snapshot, so another program wrote it. Check"
            " KAFKA_CURSORS_TOPIC"
        )
    return watermark


def _last_id(entity: Entity, page: Page) -> EntityId | None:
    for row in reversed(page.rows):
        if found := row_id(entity, row):
            return found
    return None


def advance(
    track: Track,
    position: PassPosition,
    page: Page,
    pace: Pace,
    now_ms: int,
    *,
    tolerant: bool = False,
) -> PassPosition:
    """Return the position after this page; after a pass's last page, the one between passes.

    With ``tolerant``, an empty page ends the pass even if more rows were announced.
    """
    total = position.total or 0
    has_shrunk = position.in_pass and not track.is_keyset and page.total_elements < total
    if has_shrunk and position.steps_back < _STEPS_BACK_MAX:
        return _stepped_back(position, page)
    is_short = has_shrunk or _is_short(track, position, page)
    # The clock at the request, not at the response. A change committed in between may be missing
    # from this page, and a watermark from the response would hide it from the next window, too.
    started = page.server_ms - page.took_ms if position.started_ms is None else position.started_ms
    skew = position.skew_ms if position.in_pass else page.server_ms - now_ms
    began = position.began_ms if position.in_pass else now_ms
    # Set between passes, the flag asked for this pass; set during this pass, for the next one.
    is_hurried = position.is_hurried and position.in_pass
    begin = {"started_ms": started, "began_ms": began, "skew_ms": skew, "is_hurried": is_hurried}
    begun = position.model_copy(update=begin)
    last_id = _last_id(track.entity, page)
    if is_last(page, tolerant=tolerant):
        watermark = started - round(pace.overlap * 1000)
        return _ended(track, begun, last_id, watermark, now_ms, is_short=is_short)
    rows, next_page = begun.rows + len(page.rows), _next_page(track, page, last_id)
    return begun.model_copy(update={"rows": rows, "is_short": is_short, **next_page})


def _stepped_back(position: PassPosition, page: Page) -> PassPosition:
    """The position after rows before this page were deleted: unread rows moved to pages read."""
    shrunk_by = (position.total or 0) - page.total_elements
    return position.model_copy(
        update={
            "rows_before": max(0, page.rows_before - shrunk_by),
            "total": page.total_elements,
            "steps_back": position.steps_back + 1,
        }
    )


def _ended(
    track: Track,
    position: PassPosition,
    last_id: EntityId | None,
    watermark: int,
    now_ms: int,
    *,
    is_short: bool,
) -> PassPosition:
    """The position between passes, after this pass."""
    lacks_changes = is_short and track.mode is Mode.WINDOW
    return PassPosition(
        watermark_ms=_held_back(position, watermark) if lacks_changes else watermark,
        passes=position.passes + 1,
        finished_ms=now_ms,
        began_ms=position.began_ms,
        skew_ms=position.skew_ms,
        # Only a full pass finds rows that a snapshot lacks, so the next one is due early.
        is_hurried=position.is_hurried or (is_short and position.passes == 0),
        newest=_newest(track, position, last_id, lacks_changes=lacks_changes),
        is_short=is_short,
    )


def _newest(
    track: Track, position: PassPosition, last_id: EntityId | None, *, lacks_changes: bool
) -> EntityId | None:
    """The newest id after this pass, shortly before which an append-only kind's window starts.

    After a window that lacked rows it stays, so that the next one requests them again; but it lags
    by `_SHORT_WINDOW_IDS_MAX` at most.
    """
    newest = position.after if last_id is None else last_id
    if track.entity.reading is not Reading.APPENDED or newest is None:
        return position.newest
    if lacks_changes and isinstance(newest, int) and isinstance(position.newest, int):
        return min(newest, max(position.newest, newest - _SHORT_WINDOW_IDS_MAX))
    return newest


def _held_back(position: PassPosition, watermark: int) -> int:
    """The watermark after a window that lacked rows: unchanged, so the next one rereads them.

    It lags by an hour at most. Otherwise the windows of an API that always announces one row too
    many would grow forever.
    """
    hour_before = watermark - _SHORT_WINDOW_MS_MAX
    return min(watermark, max(position.watermark_ms or hour_before, hour_before))


def _is_short(track: Track, position: PassPosition, page: Page) -> bool:
    """Whether the pass, up to this page, lacks rows that the API announced."""
    announced = rows_left(page) + len(page.rows)
    if not page.rows:
        left_before = (position.total or 0) if has_announced_more(track, position) else 0
        announced = max(announced, left_before)
    lacks_rows = len(page.rows) < min(page.size or len(page.rows) or 1, announced)
    return (position.in_pass and position.is_short) or lacks_rows


def _next_page(track: Track, page: Page, last_id: EntityId | None) -> dict[str, Any]:
    """The fields of the position at which the pass's next page starts."""
    if track.is_keyset and last_id is not None:
        return {"after": last_id, "rows_before": 0, "total": rows_left(page)}
    # Advance by a full page even if rows are missing from it: they might never be listed.
    rows = max(len(page.rows), page.size or 0)
    total = rows_left(page) if track.is_keyset else page.total_elements
    return {"rows_before": page.rows_before + rows, "total": total}


def restarted(position: PassPosition) -> PassPosition:
    """The position with its pass in progress back at the first row."""
    return position.model_copy(
        update={
            "after": None,
            "rows_before": 0,
            "total": None,
            "rows": 0,
            "started_ms": None,
            "is_short": False,
            "steps_back": 0,
        }
    )


def full_passes_restarted(cursor: Cursor, *, due: bool) -> Cursor:
    """The cursor with its full passes in progress restarted, after a rebuild of the known states.

    The rebuilt states do not record which rows those passes had listed already. Kinds that define
    variables are due early, because diverted definitions are not in the topic. With ``due``, a full
    pass of every kind is due now, to publish the events that the topic has lost.
    """
    positions = dict(cursor.positions)
    for track in TRACKS:
        position = positions.get(track.name)
        if position is None or track.mode is not Mode.FULL:
            continue
        position = restarted(position) if position.in_pass else position
        if track.entity in DEFINING_KINDS:
            position = position.model_copy(update={"is_hurried": True})
        if due:
            position = position.model_copy(update={"finished_ms": None})
        positions[track.name] = position
    # With the next sequence: a cache that matched the cursor before no longer does.
    return cursor.model_copy(update={"positions": positions, "sequence": cursor.sequence + 1})


def rows_left(page: Page) -> int:
    """The number of the pass's rows after this page, by the page's total."""
    return max(0, page.total_elements - page.rows_before - len(page.rows))


def is_last(page: Page, *, tolerant: bool = False) -> bool:
    """Whether no page follows this one in its pass.

    After a full page another one is requested, whatever the total: a total that is one too low
    would hide the last row.
    """
    if not page.rows:
        return tolerant or rows_left(page) == 0
    is_full = page.size is not None and len(page.rows) >= page.size
    return rows_left(page) == 0 and not is_full


def clock_went_back(before: PassPosition, after: PassPosition, overlap: float) -> bool:
    """Whether the server's clock went back since the previous pass by more than half the overlap.

    Changes made since then may be dated before the watermark, so that only a sweep finds them.
    """
    if before.in_pass or before.skew_ms is None or after.skew_ms is None:
        return False
    return after.skew_ms < before.skew_ms - max(_CLOCK_NOISE_MS, round(overlap * 500))


def ends_pass(before: PassPosition, after: PassPosition) -> bool:
    """Whether the pass was completed between these two positions."""
    return after.passes > before.passes


def origin(track: Track, position: PassPosition) -> Origin:
    """The origin of events that are found at this position of the track."""
    if track.mode is Mode.WINDOW:
        return Origin.POLL
    return Origin.SWEEP if position.passes else Origin.SNAPSHOT
