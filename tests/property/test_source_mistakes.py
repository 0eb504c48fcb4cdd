"""Planted classic polling mistakes, each of which the simulation must find (-rP: the seeds)."""

from collections.abc import Callable, Collection, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from unittest.mock import patch

import pytest
import structlog

from connector.interfaces import InvalidRow, Page, PageRequest
from connector.model.cursor import Cursor, PassPosition, TopicMark
from connector.model.dates import parse_api_date
from connector.model.events import Identity, KnownState, RecordEvent
from connector.source import changes, page_checks, window
from connector.source.passes import OpenPass, Passes
from connector.source.reading import ReadPage
from connector.source.schedule import Pace
from connector.source.tracks import Mode, Track
from connector.store import known_store
from tests.fakes.in_memory_kafka import InMemoryEventLog
from tests.property.test_source_simulation import failure, quiet

_SEEDS_MAX = 600
_TRY_FIRST = {
    "the_watermark_is_the_clock_at_the_answer": 42,
    "version_is_the_clock": 31,
    "pages_wait_while_others_are_read": 651,
    "bounds_alone_tell_what_is_lost": 535,
}
"""Seeds that have found a mistake; others are tried if the simulation has changed since."""
request, advance, publish = window.next_request, window.advance, InMemoryEventLog.publish


@pytest.fixture(autouse=True)
def _silent_log() -> Iterator[None]:
    """Silence the log, and restore it: other tests of this process look at it."""
    before = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)


@contextmanager
def strictly_later() -> Iterator[None]:
    """With ``dateModified>`` instead of ``>=``, later changes of the same second are lost."""

    def asked(track: Track, cursor: Cursor, size: int) -> PageRequest:
        right = request(track, cursor, size)
        return replace(right, filter=right.filter.replace(">=", ">") if right.filter else None)

    with patch.object(window, "next_request", asked):
        yield


@contextmanager
def watermark_is_the_latest_seen() -> Iterator[None]:
    """A change on a page that was already read is older than the latest date seen."""
    latest: dict[str, int] = {}

    def moved(
        track: Track,
        position: PassPosition,
        page: Page,
        pace: Pace,
        now_ms: int,
        *,
        tolerant: bool = False,
    ) -> PassPosition:
        after = advance(track, position, page, pace, now_ms, tolerant=tolerant)
        dates = (
            parse_api_date(row.get("dateModified")) for row in page.rows if isinstance(row, dict)
        )
        seen = [round(date.timestamp() * 1000) for date in dates if date]
        if not position.in_pass:
            latest.pop(track.name, None)
        latest[track.name] = max([latest.get(track.name, 0), *seen])
        if after.in_pass:
            return after
        watermark = max(latest[track.name], position.watermark_ms or 0)
        return after.model_copy(update={"watermark_ms": watermark})

    with patch.object(window, "advance", moved):
        yield


@contextmanager
def sorted_by_date() -> Iterator[None]:
    """A row that changes leaves its page, and the rows behind it move up unseen."""

    def is_keyset(track: Track) -> bool:
        return track.mode is Mode.FULL and track.entity.reading is not window.Reading.LISTED

    def asked(track: Track, cursor: Cursor, size: int) -> PageRequest:
        right = request(track, cursor, size)
        has_date = track.mode is Mode.WINDOW and "dateModified" in track.entity.fields
        return replace(right, sort="dateModified,asc") if has_date else right

    with (
        patch.object(Track, "is_keyset", property(is_keyset)),
        patch.object(window, "next_request", asked),
        patch.object(page_checks, "check_page", lambda *_: []),
    ):
        yield


@contextmanager
def cursor_outside_the_transaction() -> Iterator[None]:
    """If the cursor is saved first, events of a failed transaction are never read again."""

    def cursor_first(
        log: InMemoryEventLog,
        events: Sequence[tuple[RecordEvent, int | None]],
        invalid: Sequence[InvalidRow],
        cursor: Cursor,
        dead_lettered: Container[Identity] = (),
    ) -> Collection[Identity]:
        log.cursors[log.study_key] = cursor.to_bytes()
        return publish(log, events, invalid, cursor, dead_lettered)

    with patch.object(InMemoryEventLog, "publish", cursor_first):
        yield


@contextmanager
def an_empty_page_deletes() -> Iterator[None]:
    with (
        patch.object(changes, "may_delete", lambda *_: True),
        patch.object(known_store, "_SIGHTINGS_TO_DELETE", 1),
    ):
        yield


@contextmanager
def version_is_the_clock() -> Iterator[None]:
    """States of the same second, or under a clock that went back, lose their order."""

    def next_version(server_ms: int, before: KnownState | None) -> int:
        del before
        return server_ms

    with patch.object(changes, "next_version", next_version):
        yield


@contextmanager
def pages_wait_while_others_are_read() -> Iterator[None]:
    """A page that was read ahead brings back states that a window has replaced."""

    def kept_by(passes: Passes) -> dict[str, OpenPass]:
        kept: dict[str, OpenPass] = passes.__dict__.setdefault("_kept", {})
        return kept

    def take(passes: Passes, track: Track, cursor: Cursor) -> list[ReadPage]:
        passes._previous = track.name
        kept = kept_by(passes)
        if track.name not in kept:
            kept[track.name] = passes._opened(track, cursor)
        passes._open[track.entity.name] = kept[track.name]
        return kept[track.name].stream.take(2000, 0.5)

    def close(passes: Passes, kind: str) -> None:
        if kind in passes._open:
            kept_by(passes).pop(passes._open.pop(kind).track.name, None)

    def close_all(passes: Passes) -> None:
        kept_by(passes).clear()
        passes._open.clear()

    with (
        patch.object(Passes, "take", take),
        patch.object(Passes, "close", close),
        patch.object(Passes, "close_all", close_all),
        patch.object(OpenPass, "may_be_closed", property(lambda _: True)),
    ):
        yield


@contextmanager
def the_watermark_is_the_clock_at_the_answer() -> Iterator[None]:
    """A change that commits during the answer is neither on the page nor in the next window."""

    def moved(
        track: Track,
        position: PassPosition,
        page: Page,
        pace: Pace,
        now_ms: int,
        *,
        tolerant: bool = False,
    ) -> PassPosition:
        at_answer = replace(page, took_ms=0)
        return advance(track, position, at_answer, pace, now_ms, tolerant=tolerant)

    with patch.object(window, "advance", moved):
        yield


@contextmanager
def the_cache_is_the_truth() -> Iterator[None]:
    """Events that the topic has lost count as published."""
    with patch.object(TopicMark, "loss", lambda *_: None):
        yield


@contextmanager
def bounds_alone_tell_what_is_lost() -> Iterator[None]:
    """A truncated log that has grown past its former end looks intact."""
    with patch.object(TopicMark, "epochs_left_by", lambda *_: {}):
        yield


@contextmanager
def diverted_events_count_as_known() -> Iterator[None]:
    """An event that was too large is never published, even when it fits again."""
    with patch.object(known_store._Update, "divert", lambda *_: None):
        yield


@contextmanager
def a_rebuilt_cache_continues_the_pass() -> Iterator[None]:
    """Rows that were listed before the rebuild count as missed."""
    with (
        patch.object(window, "restarted", lambda position: position),
        patch.object(known_store, "_SIGHTINGS_TO_DELETE", 1),
    ):
        yield


@pytest.mark.parametrize(
    "mistake",
    [
        the_watermark_is_the_clock_at_the_answer,
        the_cache_is_the_truth,
        bounds_alone_tell_what_is_lost,
        diverted_events_count_as_known,
        a_rebuilt_cache_continues_the_pass,
        strictly_later,
        watermark_is_the_latest_seen,
        sorted_by_date,
        cursor_outside_the_transaction,
        an_empty_page_deletes,
        version_is_the_clock,
        pages_wait_while_others_are_read,
    ],
)
def test_the_simulation_finds(mistake: Callable[[], Iterator[None]]) -> None:
    """The simulation finds each planted mistake within 600 seeds."""
    with mistake():  # type: ignore[attr-defined]
        first = _TRY_FIRST.get(mistake.__name__, 0)
        seeds = chain([first], range(_SEEDS_MAX))
        found = next((report for seed in seeds if (report := failure(seed))), None)
    assert found is not None, f"{_SEEDS_MAX} seeds do not find it"
    print(f"{mistake.__name__} is found by {found}")  # noqa: T201 - what -rP shows
