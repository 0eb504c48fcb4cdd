"""Scheduling: which track to read next, and when. Pure.

Each track has an interval. Until every kind has been read once, kinds are read in order, parents
first; after that, due tracks take turns.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from connector.model.cursor import Cursor
from connector.source.tracks import TRACKS, Mode, Track


@dataclass(frozen=True, slots=True)
class Pace:
    """The settings that windows and schedule depend on; times in seconds."""

    poll_interval: float
    list_interval: float
    metadata_interval: float
    sweep_interval: float
    overlap: float
    page_size: int
    kind_intervals: Mapping[str, float] = field(default_factory=dict)
    """Intervals of single kinds, which replace the poll, list or metadata interval."""

    def interval(self, track: Track) -> float:
        """Seconds between two passes of the track."""
        entity = track.entity
        if track.mode is Mode.FULL and track.is_keyset:
            return self.sweep_interval
        if entity.name in self.kind_intervals:
            return self.kind_intervals[entity.name]
        if entity.is_metadata:
            return self.metadata_interval
        return self.poll_interval if track.is_keyset else self.list_interval


@dataclass(frozen=True, slots=True)
class Moment:
    """The inputs of a scheduling decision that are not in the cursor."""

    ms: int
    """This machine's clock: milliseconds since the epoch."""
    sweep_since_ms: int | None = None
    """When a sweep was last requested: every full pass that began before is due again."""
    excluded: Collection[str] = ()
    """Names of tracks not to read now: they back off, or their kind has another pass open."""


def due_ms(track: Track, cursor: Cursor, pace: Pace, now: Moment) -> int | None:
    """When the track's next page is due (0: now); None before its kind's snapshot is complete.

    The first window starts where the snapshot started, so it has to wait for the snapshot.
    """
    position = cursor.position(track.name)
    if position.in_pass:
        return 0
    if track.mode is Mode.WINDOW and cursor.position(track.full.name).passes == 0:
        return None
    if position.finished_ms is None or position.finished_ms > now.ms:
        return 0  # an end in the future was recorded while this machine's clock was ahead
    if track.mode is Mode.FULL and (position.began_ms or 0) < (now.sweep_since_ms or 0) <= now.ms:
        return 0  # a request in the future, from before the clock went back, would repeat passes
    interval = pace.interval(track)
    if position.is_hurried:
        interval = min(interval, pace.list_interval)
    return position.finished_ms + round(interval * 1000)


def hurried(cursor: Cursor, tracks: Iterable[Track]) -> Cursor:
    """The cursor with the next passes of these tracks due early; passes in progress continue."""
    for track in tracks:
        position = cursor.position(track.name).model_copy(update={"is_hurried": True})
        cursor = cursor.moved(track.name, position)
    return cursor


def next_track(cursor: Cursor, pace: Pace, now: Moment, previous: str) -> tuple[Track | None, int]:
    """Return the track to read now (None: none is due), and when a track is next due.

    Until every kind has been read once, kinds go in order, parents first. After that, due tracks
    take turns, so that a long sweep does not hold up the windows.
    """
    due = [
        (at, track)
        for track in TRACKS
        if track.name not in now.excluded and (at := due_ms(track, cursor, pace, now)) is not None
    ]
    ready = [track for at, track in due if at <= now.ms]
    if not ready:
        return None, min((at for at, _ in due), default=now.ms + round(pace.poll_interval * 1000))
    for track in ready:
        if track.mode is Mode.FULL and cursor.position(track.name).passes == 0:
            return track, now.ms
    names = [track.name for track in TRACKS]
    start = names.index(previous) + 1 if previous in names else 0
    turn = {name: (index - start) % len(names) for index, name in enumerate(names)}
    return min(ready, key=lambda track: turn[track.name]), now.ms
