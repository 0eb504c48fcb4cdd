"""The source's loop: pass -> pages read ahead -> what is new? -> one transaction with the cursor.

The cursor and the cache move only after the transaction is acknowledged. After an unknown outcome
the truth is read back from the topic.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from connector.errors import BatchTooLargeError, FatalError, RetryableError
from connector.interfaces import ApiReader, Clock, EventLog, KnownStore, KnownUpdate
from connector.model.cursor import Cursor, PassPosition
from connector.retry import AbandonedError, Backoff, retry
from connector.source import changes, tracks, window
from connector.source.changes import Changes, Sighting
from connector.source.passes import Passes
from connector.source.progress import SnapshotProgress, SourceProgress
from connector.source.reading import (
    OpenStream,
    ReadAhead,
    ReadPage,
)
from connector.source.schedule import Pace
from connector.source.tracks import Mode, Track

log = structlog.stdlib.get_logger("connector.source")

_IDLE_COMMIT_SECONDS = 60.0
"""Windows that bring nothing are committed this often at most."""


@dataclass(frozen=True, slots=True)
class SourcePorts:
    """What the task is wired to."""

    reader: ApiReader
    event_log: EventLog
    known: KnownStore
    clock: Clock
    open_stream: OpenStream = ReadAhead


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
        self._passes = Passes(
            ports.reader, ports.clock, pace, limits.new_backoff, ports.open_stream
        )
        self._committed_at = 0.0
        self._sweep_since_ms: int | None = None
        self._rereads_topic = False
        self._completed = dict.fromkeys((track.name for track in tracks.TRACKS), 0)
        """Passes since the start, by track."""
        self.progress = SourceProgress()
        self.snapshot = SnapshotProgress()
        self._log = log.bind(study=study_key)

    def sweep(self) -> None:
        """Compare all that the API lists with what the topic holds, beginning now.

        May be called from any thread.
        """
        self._rereads_topic = True  # the cache may say otherwise
        self._sweep_since_ms = self._ports.clock.now_ms()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; the transaction at hand is finished first.

        Raises:
            FatalError: repeating cannot help.
        """
        try:
            while not stop.is_set():
                idle_seconds = retry(
                    self.step, self._backoff, self._ports.clock, stop, self._failed
                )
                self._ports.clock.wait(stop, idle_seconds)
        except AbandonedError:
            pass  # the failed step changed nothing
        finally:
            self._passes.close_all()

    def step(self) -> float:
        """Read and publish some pages; for how many seconds there is nothing to do then.

        Raises:
            RetryableError: nothing has moved; the next step begins where this one did.
            FatalError: repeating cannot help.
        """
        if self._rereads_topic:
            self._passes.close_all()
            self._cursor = None
        if self._cursor is None:
            self._cursor = self._recover()
        track, idle_seconds = self._passes.next(self._cursor, self._sweep_since_ms)
        if track is None:
            return idle_seconds
        try:
            pages = self._passes.take(track, self._cursor)
        except (RetryableError, BatchTooLargeError, FatalError) as error:
            is_first = self._cursor.place(tracks.STUDY.name).passes == 0
            if isinstance(error, FatalError) and is_first:
                raise  # once the study was read, one kind's trouble is its own
            self._failed(error, self._passes.hold(track, error))
            return 0.0
        if pages:
            self._publish(track, pages, self._cursor)
        return 0.0

    def _failed(self, error: Exception, delay_seconds: float) -> None:
        self.progress.retries += 1
        self._log.warning(
            "request failed, retrying", reason=str(error), delay_seconds=round(delay_seconds, 1)
        )

    # ----------------------------------------------------------------------------- publishing

    def _publish(self, track: Track, pages: list[ReadPage], cursor: Cursor) -> None:
        """One transaction; cursor and cache follow only when it is acknowledged."""
        self._cursor = None  # unknown until then: an error means `_recover`
        try:
            with self._ports.known.update() as update:
                found = Changes()
                for read in pages:
                    found.add(self._changes(read, cursor, update))
                end = self._place_after(pages[-1], found, update, cursor)
                moved = self._moved(track, pages, end, cursor)
                if not self._may_wait(track, found):
                    moved = self._commit(found, moved, update)
        except BatchTooLargeError as error:
            self._passes.halve()
            self._passes.close_all()
            raise RetryableError(str(error)) from error
        except BaseException:
            self._passes.close_all()
            raise
        self._cursor = moved
        self._count(track, pages, found)

    def _may_wait(self, track: Track, found: Changes) -> bool:
        """Whether only a window has moved: if that is lost, it is read again."""
        if track.mode is Mode.FULL or found.events or found.invalid:
            return False
        return self._ports.clock.monotonic() - self._committed_at < _IDLE_COMMIT_SECONDS

    def _commit(self, found: Changes, moved: Cursor, update: KnownUpdate) -> Cursor:
        """The committed cursor: the topic has the events, and the cache what the topic has."""
        newest = max((event.version for event, _ in found.events), default=0)
        newest = max(newest, moved.newest_version)
        moved = moved.model_copy(update={"newest_version": newest})
        update.match(moved)
        diverted = self._ports.event_log.publish(found.events, found.invalid, moved, found.lettered)
        if diverted:
            update.divert(diverted)
        self.progress.events += len(found.events) - len(diverted)
        self.progress.diverted += len(diverted)
        self._committed_at = self._ports.clock.monotonic()
        self._passes.grow()
        return moved

    def _changes(self, read: ReadPage, cursor: Cursor, update: KnownUpdate) -> Changes:
        entity, rows = read.track.entity, read.page.rows
        ids = read.ids
        found = changes.detect(
            entity, rows, self._ports.known.lookup(entity.name, ids), self._sighting(read, cursor)
        )
        found.invalid = [row for row in found.invalid if update.is_new_invalid(row)]
        # A row listed by a window exists too: it counts for a full pass that is under way. Between
        # passes it counts for the last one, or the next would miss what vanishes in the meantime.
        full = cursor.place(read.track.full.name)
        is_under_way = full.in_pass or read.track.mode is Mode.FULL
        full_pass = full.passes + is_under_way
        update.put(entity.name, found.known, full_pass)
        update.seen(entity.name, (each for each in ids if each not in found.known), full_pass)
        return found

    def _sighting(self, read: ReadPage, cursor: Cursor) -> Sighting:
        return Sighting(
            self._study_key,
            read.page.server_ms,
            window.origin(read.track, read.before),
            version_min=cursor.version_floor,
            is_full_pass=read.track.mode is Mode.FULL,
        )

    def _place_after(
        self, last: ReadPage, found: Changes, update: KnownUpdate, cursor: Cursor
    ) -> PassPosition:
        """At the end of a full pass, what was missed twice is deleted."""
        if last.track.mode is not Mode.FULL or not window.ends_pass(last.before, last.after):
            return last.after
        entity = last.track.entity
        full_pass = last.before.passes + 1
        vanished = update.vanished(entity.name, full_pass)
        if last.before.rows + len(last.page.rows) == 0:  # what windows have seen is no sighting
            vanished = replace(vanished, listed=0)
        ratio_max = self._limits.max_delete_ratio
        if reason := changes.doubts(vanished, ratio_max, is_short=last.after.is_short):
            self._log.error(
                f"sweep deletes nothing: {reason}",
                entity=entity.name,
                known=vanished.known,
                listed=vanished.listed,
                missing=vanished.missed + len(vanished.gone),
            )
            vanished = replace(vanished, missed=0, gone={})
        elif vanished.missed or vanished.gone:
            update.miss(entity.name, full_pass)
        gone = vanished.gone | vanished.undelivered
        deleted = changes.deletions(entity, gone, self._sighting(last, cursor))
        update.put(entity.name, deleted.known, full_pass)
        found.add(deleted)
        is_hurried = last.after.is_hurried or vanished.missed > 0
        return last.after.model_copy(update={"is_hurried": is_hurried})

    def _moved(
        self, track: Track, pages: list[ReadPage], end: PassPosition, cursor: Cursor
    ) -> Cursor:
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
        if odd := self._passes.published(track, pages):
            self._log.warning("odd pages are taken as they are", kind=track.name, odd=odd)
        self.progress.invalid += len(found.invalid)
        self.progress.undated += found.undated
        self._backoff.reset()
        self.snapshot.count(last, rows)
        if window.ends_pass(last.before, last.after):
            self._completed[track.name] += 1
            self.progress.passes = min(self._completed.values())

    def _recover(self) -> Cursor:
        """The committed cursor, with a cache of what the topic holds now."""
        rereads, self._rereads_topic = self._rereads_topic, False
        try:
            return self._read_back(rereads=rereads)
        except BaseException:
            self._rereads_topic |= rereads
            raise

    def _read_back(self, *, rereads: bool) -> Cursor:
        opened = self._ports.event_log.open()
        cursor = opened.cursor or Cursor(study_key=self._study_key)
        if opened.lost:
            self._log.warning(
                "the events topic has lost events: what it lacks is published again",
                lost=opened.lost,
            )
            cursor = cursor.model_copy(update={"version_floor": cursor.newest_version + 1})
        if rereads or opened.lost or not self._ports.known.matches(cursor):
            self._ports.known.rebuild(self._ports.event_log.replay(), cursor)
            cursor = window.full_passes_restarted(cursor, due=opened.lost is not None)
            self._log.info("known states read from the topic", sequence=cursor.sequence)
        if opened.lost:  # or it is forgotten, should the next source find the topic grown again
            self._ports.event_log.publish([], [], cursor)
        return cursor
