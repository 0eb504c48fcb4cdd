"""Which track is read next, and when. Pure.

Each track has its own interval. Before everything is known once, kinds are read in order, parents
first; later, due tracks take turns.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from connector.model.cursor import Cursor
from connector.source.tracks import TRACKS, Mode, Track


@dataclass(frozen=True, slots=True)
class Pace:
    """The settings that windows and schedule depend on, in seconds."""

    poll_interval: float
    list_interval: float
    metadata_interval: float
    sweep_interval: float
    overlap: float
    page_size: int
    own_intervals: Mapping[str, float] = field(default_factory=dict)
    """By kind, instead of the first three."""

    def interval(self, track: Track) -> float:
        """Between two passes of the track."""
        entity = track.entity
        if track.mode is Mode.FULL and track.is_keyset:
            return self.sweep_interval
        if entity.name in self.own_intervals:
            return self.own_intervals[entity.name]
        if entity.is_metadata:
            return self.metadata_interval
        return self.poll_interval if track.is_keyset else self.list_interval


@dataclass(frozen=True, slots=True)
class Moment:
    """When it is, and what was said meanwhile. Milliseconds of this machine's clock."""

    ms: int
    sweep_since_ms: int | None = None
    """Every kind is to be read fully once from then on."""
    held: Collection[str] = ()
    """Tracks that have just failed: not now."""


def due_ms(track: Track, cursor: Cursor, pace: Pace, now: Moment) -> int | None:
    """When the track's next page is wanted; None: not before the snapshot.

    A window waits for the snapshot of its kind, whose start is where the first window begins.
    """
    place = cursor.place(track.name)
    if place.in_pass:
        return 0
    if track.mode is Mode.WINDOW and cursor.place(track.full.name).passes == 0:
        return None
    if place.finished_ms is None or place.finished_ms > now.ms:
        return 0  # a finish in the future was written under a clock that was ahead
    if track.mode is Mode.FULL and (place.began_ms or 0) < (now.sweep_since_ms or 0):
        return 0
    interval = pace.interval(track)
    if place.is_hurried:
        interval = min(interval, pace.list_interval)
    return place.finished_ms + round(interval * 1000)


def next_track(cursor: Cursor, pace: Pace, now: Moment, previous: str) -> tuple[Track | None, int]:
    """The track to read a page of now (None: none is due) and when the next one is due.

    Before everything is known once, kinds go in order, parents first; later due tracks take
    turns, so that a long sweep does not hold up the windows.
    """
    due = [
        (at, track)
        for track in TRACKS
        if track.name not in now.held and (at := due_ms(track, cursor, pace, now)) is not None
    ]
    ready = [track for at, track in due if at <= now.ms]
    if not ready:
        return None, min((at for at, _ in due), default=now.ms + round(pace.poll_interval * 1000))
    for track in ready:
        if track.mode is Mode.FULL and cursor.place(track.name).passes == 0:
            return track, now.ms
    names = [track.name for track in TRACKS]
    start = names.index(previous) + 1 if previous in names else 0
    turn = {name: (index - start) % len(names) for index, name in enumerate(names)}
    return min(ready, key=lambda track: turn[track.name]), now.ms
