"""The source's loop: pass -> pages read ahead -> what is new? -> one transaction with the cursor.

The cursor and the cache move only after the transaction is acknowledged. After an unknown outcome
the truth is read back from the topic.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from connector.cursor import Cursor, Place
from connector.errors import BatchTooLargeError, ConnectorError, FatalError, RetryableError
from connector.interfaces import ApiReader, Clock, EventLog, KnownStore, KnownUpdate
from connector.retry import Backoff
from connector.source import changes, window
from connector.source.changes import Changes, Sighting
from connector.source.reading import OpenStream, PageStream, ReadAhead, ReadPage, read_pass
from connector.source.window import Mode, Now, Pace, Track

log = structlog.stdlib.get_logger("connector.source")

_WAIT_SECONDS = 0.5
"""For pages that are still to come, all streams together."""
_TRANSACTION_ROWS = 4000
"""Rows of the API whose events go into one transaction, about: a commit costs some 20 ms."""


@dataclass(slots=True)
class SourceProgress:
    """What a source has done since it started."""

    rows: int = 0
    events: int = 0
    invalid: int = 0
    undated: int = 0
    """Events published although their row has no usable ``dateModified``."""
    retries: int = 0
    passes: int = 0
    """Of the track that has completed fewest since the start."""


@dataclass(slots=True)
class SnapshotProgress:
    """Which kind is being read for the first time, and how far."""

    kind: str = ""
    rows: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class SourcePorts:
    """What the task is wired to."""

    reader: ApiReader
    event_log: EventLog
    known: KnownStore
    clock: Clock
    open_stream: OpenStream = ReadAhead


@dataclass(slots=True)
class _Hold:
    """A track that failed: not before then (monotonic seconds), longer each time."""

    until: float
    backoff: Backoff


@dataclass(slots=True)
class _Open:
    """The pass of one kind that is being read."""

    track: Track
    stream: PageStream
    rows: int = 0
    """Taken so far."""

    @property
    def may_be_closed(self) -> bool:
        """Whether the kind's other track may take over: it has had its turn, not only its wait."""
        return self.rows >= _TRANSACTION_ROWS


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """What is beyond a pace."""

    max_delete_ratio: float
    new_backoff: Callable[[], Backoff] = field(default=lambda: Backoff(60.0))


class SourceTask:
    """Publishes one study's changes until it is told to stop."""

    def __init__(
        self, study_key: str, ports: SourcePorts, pace: Pace, limits: SourceLimits
    ) -> None:
        self._study_key = study_key
        self._ports = ports
        self._pace = pace
        self._limits = limits
        self._backoff = limits.new_backoff()
        self._cursor: Cursor | None = None
        self._open: dict[str, _Open] = {}
        """By kind."""
        self._previous = ""
        self._holds: dict[str, _Hold] = {}
        self._sizes: dict[str, int] = {}
        """Tracks that the API was too slow for, with the page size that it may manage."""
        self._sweep_since_ms: int | None = None
        self._passes = dict.fromkeys((track.name for track in window.TRACKS), 0)
        self.progress = SourceProgress()
        self.snapshot = SnapshotProgress()
        self._log = log.bind(study=study_key)

    def sweep(self) -> None:
        """Read everything fully once, beginning now. May be called from any thread."""
        self._sweep_since_ms = self._ports.clock.now_ms()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; the transaction at hand is finished first.

        Raises:
            FatalError: repeating cannot help.
        """
        try:
            while not stop.is_set():
                try:
                    wait_seconds = self.step()
                except RetryableError as error:
                    wait_seconds = self._wait_after(error, self._backoff)
                stop.wait(wait_seconds)
        finally:
            self._close_streams()

    def step(self) -> float:
        """Read and publish some pages; for how many seconds there is nothing to do then.

        Raises:
            RetryableError: nothing has moved; the next step begins where this one did.
            FatalError: repeating cannot help.
        """
        if self._cursor is None:
            self._cursor = self._recover()
        clock = self._ports.clock
        now = Now(clock.now_ms(), self._sweep_since_ms, self._held())
        track, due_ms = window.next_track(self._cursor, self._pace, now, self._previous)
        if track is None:
            return self._idle_seconds((due_ms - now.ms) / 1000)
        try:
            pages = self._take(track, self._cursor)
        except (RetryableError, BatchTooLargeError) as error:
            self._hold(track, error)
            return 0.0
        except FatalError as error:
            if self._cursor.place(window.STUDY.name).passes == 0:
                raise
            self._hold(track, error)  # the study was read: one kind's trouble is its own
            return 0.0
        if pages:
            self._publish(track, pages, self._cursor)
        return 0.0

    # -------------------------------------------------------------------------------- reading

    def _take(self, track: Track, cursor: Cursor) -> list[ReadPage]:
        """Some pages of this track's pass, none where they are still to come."""
        self._previous = track.name  # whatever comes of it: the others take their turn
        kind = track.entity.name
        if kind not in self._open or self._open[kind].track != track:
            self._close_stream(kind)
            size = self._sizes.get(track.name, self._pace.page_size)
            ports = self._ports
            pages = read_pass(ports.reader, track, cursor, self._pace, size, ports.clock)
            self._open[kind] = _Open(track, ports.open_stream(pages))
        reading = self._open[kind]
        taken = reading.stream.take(_TRANSACTION_ROWS, _WAIT_SECONDS / len(self._open))
        reading.rows += sum(len(read.page.rows) for read in taken)
        return taken

    def _close_stream(self, kind: str) -> None:
        if kind in self._open:
            self._open.pop(kind).stream.close()

    def _close_streams(self) -> None:
        for kind in list(self._open):
            self._close_stream(kind)

    def _hold(self, track: Track, error: ConnectorError) -> None:
        """This track waits; the others do not."""
        self._close_stream(track.entity.name)
        if isinstance(error, BatchTooLargeError):
            size = self._sizes.get(track.name, self._pace.page_size)
            self._sizes[track.name] = window.smaller(size)
        held = self._holds.setdefault(track.name, _Hold(0.0, self._limits.new_backoff()))
        wait_seconds = self._wait_after(error, held.backoff)
        held.until = self._ports.clock.monotonic() + wait_seconds

    def _held(self) -> set[str]:
        """Tracks that have failed, and those whose kind is being read by its other track."""
        now = self._ports.clock.monotonic()
        held = {name for name, hold in self._holds.items() if hold.until > now}
        for reading in self._open.values():
            if not reading.may_be_closed:
                held |= {each.name for each in reading.track.others}
        return held

    def _idle_seconds(self, due_seconds: float) -> float:
        now = self._ports.clock.monotonic()
        until = (hold.until - now for hold in self._holds.values() if hold.until > now)
        return max(0.0, min((due_seconds, *until)))

    def _wait_after(self, error: ConnectorError, backoff: Backoff) -> float:
        self.progress.retries += 1
        after = error.retry_after_seconds if isinstance(error, RetryableError) else None
        wait_seconds = backoff.next_wait(after)
        self._log.warning(
            "failed, will be repeated", reason=str(error), wait_seconds=round(wait_seconds, 1)
        )
        return wait_seconds

    # ----------------------------------------------------------------------------- publishing

    def _publish(self, track: Track, pages: list[ReadPage], cursor: Cursor) -> None:
        """One transaction; cursor and cache follow only when it is acknowledged."""
        self._cursor = None  # unknown until then: an error means `_recover`
        try:
            with self._ports.known.update() as update:
                found = Changes()
                for read in pages:
                    found.add(self._changes(read, cursor, update))
                end = self._place_after(pages[-1], found, update)
                moved = self._moved(track, pages, end, cursor)
                update.match(moved)
                self._ports.event_log.publish(found.events, found.invalid, moved)
        except BaseException:
            self._close_streams()
            raise
        self._cursor = moved
        self._count(track, pages, found)

    def _changes(self, read: ReadPage, cursor: Cursor, update: KnownUpdate) -> Changes:
        entity, rows = read.track.entity, read.page.rows
        ids = window.valid_ids(entity, read.page)
        found = changes.detect(
            entity, rows, self._ports.known.lookup(entity.name, ids), self._sighting(read)
        )
        found.invalid = [row for row in found.invalid if update.is_new_invalid(row)]
        # A row listed by a window exists too: it counts for the full pass that is under way.
        full_pass = cursor.place(read.track.full.name).passes + 1
        update.put(entity.name, found.known, full_pass)
        update.seen(entity.name, (each for each in ids if each not in found.known), full_pass)
        return found

    def _sighting(self, read: ReadPage) -> Sighting:
        origin = window.origin(read.track, read.before)
        return Sighting(self._study_key, read.page.server_ms, origin)

    def _place_after(self, last: ReadPage, found: Changes, update: KnownUpdate) -> Place:
        """At the end of a full pass, what was missed twice is deleted."""
        if last.track.mode is not Mode.FULL or not window.ends_pass(last.before, last.after):
            return last.after
        entity = last.track.entity
        full_pass = last.before.passes + 1
        vanished = update.vanished(entity.name, full_pass)
        if not last.page.rows:  # what windows have seen meanwhile is no sighting by this pass
            vanished = replace(vanished, listed=0)
        if not changes.may_delete(vanished, self._limits.max_delete_ratio):
            self._log.error(
                "sweep deletes nothing: too many rows have vanished; check the API, then raise"
                " SOURCE_MAX_DELETE_RATIO if they are really gone",
                entity=entity.name,
                known=vanished.known,
                listed=vanished.listed,
            )
            return last.after
        update.miss(entity.name, full_pass)
        deleted = changes.deletions(entity, vanished.gone, self._sighting(last))
        update.put(entity.name, deleted.known, full_pass)
        found.add(deleted)
        is_hurried = last.after.is_hurried or vanished.missed > 0
        return last.after.model_copy(update={"is_hurried": is_hurried})

    def _moved(self, track: Track, pages: list[ReadPage], end: Place, cursor: Cursor) -> Cursor:
        moved = cursor.moved(track.name, end)
        first = pages[0]
        if window.clock_went_back(first.before, first.after, self._pace.overlap):
            self._log.warning("the API's clock went back: a sweep follows", kind=track.entity.name)
            full = moved.place(track.full.name)
            moved = moved.moved(track.full.name, full.model_copy(update={"is_hurried": True}))
        return moved

    def _count(self, track: Track, pages: list[ReadPage], found: Changes) -> None:
        last, rows = pages[-1], sum(len(read.page.rows) for read in pages)
        self.progress.rows += rows
        self.progress.events += len(found.events)
        self.progress.invalid += len(found.invalid)
        self.progress.undated += found.undated
        self._backoff.reset()
        self._holds.pop(track.name, None)
        self._count_snapshot(last, rows)
        if last.is_last:
            self._close_stream(track.entity.name)
            self._sizes.pop(track.name, None)
        if window.ends_pass(last.before, last.after):
            self._passes[track.name] += 1
            self.progress.passes = min(self._passes.values())

    def _count_snapshot(self, last: ReadPage, rows: int) -> None:
        track, snapshot = last.track, self.snapshot
        if track.mode is not Mode.FULL or last.before.passes:
            return
        if snapshot.kind != track.entity.name:
            snapshot.kind, snapshot.rows = track.entity.name, 0
        snapshot.rows += rows
        left = window.rows_left(last.page)
        snapshot.total = snapshot.rows + left
        if last.is_last:
            snapshot.kind = ""

    def _recover(self) -> Cursor:
        """The committed cursor, with a cache that matches it."""
        cursor = self._ports.event_log.open() or Cursor(study_key=self._study_key)
        if not self._ports.known.matches(cursor):
            self._ports.known.rebuild(self._ports.event_log.replay(), cursor)
            self._log.info("known states read from the topic", sequence=cursor.sequence)
        return cursor
