"""What to read next, whether the answer is what was asked for, and where that leaves us. Pure.

A kind is read along tracks. ``full`` goes through all rows in id order: the snapshot, and later
the sweeps. ``window`` reads what changed since the watermark, in id order too, for rows never
leave an id-ordered page by being changed. The watermark is the server's clock at the start of the
pass minus an overlap, so that a change committed late, or in the same second, is read again.

Kinds with a documented filter on id page by keyset (``recordId>LAST``): no deletion can shift
their pages. The others page by number; when the total shrinks between two pages the pass starts
again.
"""

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from connector.cursor import Cursor, Place
from connector.dates import filter_text
from connector.entities import ENTITIES, Entity, Reading
from connector.errors import FatalError, RetryableError
from connector.events import EntityId, Origin, valid_id
from connector.interfaces import Page, PageRequest


class Mode(Enum):
    """How a track reads."""

    FULL = "full"
    WINDOW = "window"


@dataclass(frozen=True, slots=True)
class Track:
    """One way of reading one kind."""

    entity: Entity
    mode: Mode

    @property
    def name(self) -> str:
        """Its name in the cursor."""
        return f"{self.entity.name}.{self.mode.value}"

    @property
    def is_keyset(self) -> bool:
        """Whether pages are asked for by id rather than by number."""
        return self.entity.reading is Reading.WINDOWED


@dataclass(frozen=True, slots=True)
class Pace:
    """The settings that windows and schedule depend on, in seconds."""

    poll_interval: float
    list_interval: float
    sweep_interval: float
    overlap: float
    page_size: int


TRACKS: tuple[Track, ...] = tuple(
    Track(entity, mode)
    for entity in ENTITIES.values()
    for mode in Mode
    if mode is Mode.FULL or entity.reading is Reading.WINDOWED
)


def due_ms(track: Track, cursor: Cursor, pace: Pace, now_ms: int) -> int | None:
    """When (this machine's clock) the track's next page is wanted; None: not before the snapshot.

    A window waits for the snapshot of its kind, whose start is where the first window begins.
    """
    place = cursor.place(track.name)
    if place.in_pass:
        return 0
    if track.mode is Mode.WINDOW:
        if cursor.place(Track(track.entity, Mode.FULL).name).passes == 0:
            return None
        interval = pace.poll_interval
    else:
        interval = pace.sweep_interval if track.is_keyset else pace.list_interval
    if place.finished_ms is None or place.finished_ms > now_ms:
        return 0  # a finish in the future was written under a clock that was ahead
    return place.finished_ms + round(interval * 1000)


def next_track(cursor: Cursor, pace: Pace, now_ms: int, previous: str) -> tuple[Track | None, int]:
    """The track to read a page of now (None: none is due) and when the next one is due.

    Before everything is known once, kinds go in order, parents first; later due tracks take
    turns, so that a long sweep does not hold up the windows.
    """
    due = [
        (at, track) for track in TRACKS if (at := due_ms(track, cursor, pace, now_ms)) is not None
    ]
    ready = [track for at, track in due if at <= now_ms]
    if not ready:
        return None, min(at for at, _ in due)
    for track in ready:
        if track.mode is Mode.FULL and cursor.place(track.name).passes == 0:
            return track, now_ms
    names = [track.name for track in TRACKS]
    start = names.index(previous) + 1 if previous in names else 0
    turn = {name: (index - start) % len(names) for index, name in enumerate(names)}
    return min(ready, key=lambda track: turn[track.name]), now_ms


def next_request(track: Track, cursor: Cursor, pace: Pace) -> PageRequest:
    """The next page of this track."""
    place = cursor.place(track.name)
    terms = []
    if track.mode is Mode.WINDOW:
        terms.append(f"dateModified>={filter_text(_window_start_ms(track, cursor))}")
    if track.is_keyset and place.after is not None:
        terms.append(f"{track.entity.id_field}>{place.after}")
    if track.entity.name == "study":
        terms.append(f"studyKey=={cursor.study_key}")
    return PageRequest(
        study_key=cursor.study_key,
        resource=track.entity.resource,
        filter=";".join(terms) or None,
        sort=f"{track.entity.id_field},asc",
        size=pace.page_size,
        page=0 if track.is_keyset else place.page,
    )


def _window_start_ms(track: Track, cursor: Cursor) -> int:
    watermark = cursor.place(track.name).watermark_ms
    if watermark is None:
        watermark = cursor.place(Track(track.entity, Mode.FULL).name).watermark_ms
    if watermark is None:
        raise FatalError("the cursor has a window without a snapshot; it is not this program's")
    return watermark


def check_page(track: Track, request: PageRequest, place: Place, page: Page) -> None:
    """Accept only a page that is what was asked for; any other moves nothing.

    Raises:
        RetryableError: too many rows, rows of another place or order, or fewer than announced.
        FatalError: the study is not there.
    """
    ids = valid_ids(track.entity, page)
    after = place.after if track.is_keyset else None
    expected = [after, *ids] if after is not None else ids
    if any(not low < high for low, high in pairwise(expected)):  # type: ignore[operator]
        raise RetryableError(f"{track.name}: page is not in id order after its predecessor")
    if len(page.rows) > request.size:
        raise RetryableError(f"{track.name}: page has more rows than were asked for")
    before = request.page * request.size
    left = page.total_elements - before
    if len(page.rows) < min(request.size, left):
        raise RetryableError(f"{track.name}: page has fewer rows than its total announces")
    if page.rows and not ids and left > len(page.rows):
        raise RetryableError(f"{track.name}: no row of the page has an id")
    if track.entity.name == "study" and not ids:
        raise FatalError(
            f"study {request.study_key} is not known to the API: check SOURCE_STUDIES and the"
            " permissions of the API key"
        )


def valid_ids(entity: Entity, page: Page) -> list[EntityId]:
    """The ids of the rows that have one, in their order."""
    rows = (row for row in page.rows if isinstance(row, dict))
    ids = (valid_id(entity.name, row.get(entity.id_field)) for row in rows)
    return [entity_id for entity_id in ids if entity_id is not None]


def advance(track: Track, place: Place, page: Page, pace: Pace, now_ms: int) -> Place:
    """The place after this page; between passes when the page was the last of its pass."""
    if place.total is not None and page.total_elements < place.total:
        # Rows were deleted between two numbered pages: later ones shifted left past the reader.
        return Place(
            watermark_ms=place.watermark_ms, passes=place.passes, finished_ms=place.finished_ms
        )
    started = page.server_ms if place.started_ms is None else place.started_ms
    if is_last(track, place, page, pace):
        return Place(
            watermark_ms=started - round(pace.overlap * 1000),
            passes=place.passes + 1,
            finished_ms=now_ms,
        )
    ids = valid_ids(track.entity, page)
    keyset = (
        {"after": ids[-1]}
        if track.is_keyset
        else {"page": place.page + 1, "total": page.total_elements}
    )
    return place.model_copy(update={"started_ms": started, **keyset})


def is_last(track: Track, place: Place, page: Page, pace: Pace) -> bool:
    """Whether nothing follows this page in its pass."""
    before = 0 if track.is_keyset else place.page * pace.page_size
    return before + len(page.rows) >= page.total_elements


def ends_pass(place: Place, after: Place) -> bool:
    """Whether the step from ``place`` to ``after`` completed a pass."""
    return after.passes > place.passes


def origin(track: Track, place: Place) -> Origin:
    """What an event found on this track says of its origin."""
    if track.mode is Mode.WINDOW:
        return Origin.POLL
    return Origin.SWEEP if place.passes else Origin.SNAPSHOT
