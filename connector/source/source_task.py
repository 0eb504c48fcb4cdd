"""The source's loop: take pages, detect changes, publish them with the cursor in one transaction.

Cursor and cache advance only after the transaction is acknowledged. If its outcome is in doubt,
the committed state is read back from Kafka.
"""

import threading

import structlog

from connector.defects import describe
from connector.errors import BatchTooLargeError, ConnectorError, FatalError, RetryableError
from connector.heartbeat import Heartbeat
from connector.interfaces import KnownUpdate
from connector.model.cursor import Cursor, PassPosition
from connector.model.typed_values import NO_DEFINITIONS, Definitions
from connector.outage import LogPace, Outage
from connector.retry import AbandonedError, retry
from connector.source import changes, tracks, window
from connector.source.changes import Changes, PageContext
from connector.source.full_pass import finish_full_pass
from connector.source.passes import Passes
from connector.source.ports import SourceOptions, SourcePorts
from connector.source.progress import CompletedPasses, SnapshotProgress, SourceProgress
from connector.source.reading import ReadPage, after_repeats
from connector.source.schedule import Pace, hurried
from connector.source.tracks import Mode, Track

log = structlog.stdlib.get_logger("connector.source")

_RECOVERY_SECONDS_MAX = 3600.0  # it may have to read the whole topic
_IDLE_COMMIT_SECONDS = 60.0  # how long the position of windows without changes may wait


class SourceTask:
    """Publishes the changes of one study until it is stopped."""

    def __init__(
        self, study_key: str, ports: SourcePorts, pace: Pace, options: SourceOptions
    ) -> None:
        self._study_key = study_key
        self._ports = ports
        self._pace = pace
        self._options = options
        self._backoff = options.new_backoff()
        self._cursor: Cursor | None = None
        self._definitions = NO_DEFINITIONS
        self._passes = Passes(
            ports.reader, ports.clock, pace, options.new_backoff, ports.open_stream
        )
        self._committed_at = 0.0
        self._sweep_since_ms: int | None = None
        self._must_reread_topic = False
        self._is_unpublished = False  # whether the latest attempt to publish has failed
        self._completed = CompletedPasses(tracks.TRACKS)
        self._log = log.bind(study=study_key)
        self.progress = SourceProgress()
        self.heartbeat = Heartbeat(study_key, ports.clock)
        self.snapshot = SnapshotProgress()
        self.outage = Outage("study", ports.clock, self._log)
        """Of everything but the reading of pages."""
        log_pace = LogPace(ports.clock)
        self.track_outages = {
            track.name: Outage(track.name, ports.clock, self._log, log_pace)
            for track in tracks.TRACKS
        }

    def sweep(self) -> None:
        """Start a sweep soon: compare all rows of the API with the topic. Thread-safe."""
        self._must_reread_topic = True  # the cache might be wrong
        self._sweep_since_ms = self._ports.clock.now_ms()

    def run(self, stop: threading.Event) -> None:
        """Run until ``stop`` is set. A transaction in flight is finished first. Blocks.

        May be called again after an error.

        Raises:
            FatalError: a retry cannot help, or not soon.
        """
        self._cursor = None
        try:
            while not stop.is_set():
                idle_seconds = retry(
                    self.step, self._backoff, self._ports.clock, stop, self._step_failed
                )
                self.heartbeat.beat(idle_seconds)
                self._ports.clock.wait(stop, idle_seconds)
        except AbandonedError:
            pass  # stopped after a failed step, which advanced nothing
        finally:
            self._passes.close_all()

    def step(self) -> float:
        """Take and publish some pages; return the seconds until a track is due. Blocks.

        A track that cannot be read backs off without delaying the others.

        Raises:
            RetryableError: nothing has advanced; the next step starts from the committed cursor.
            FatalError: a retry cannot help.
        """
        self.heartbeat.beat()
        if self._must_reread_topic:
            self._passes.close_all()
            self._cursor = None
        if self._cursor is None:
            self.heartbeat.beat(_RECOVERY_SECONDS_MAX)
            self._cursor = self._recover()
            self.progress.passes = self._completed.count(self._cursor)
            if not self._is_unpublished and self._has_been_read(self._cursor):
                self.outage.succeeded()
        track, idle_seconds = self._passes.next(self._cursor, self._sweep_since_ms)
        if track is None:
            return idle_seconds
        try:
            pages = self._passes.take(track, self._cursor)
        except Exception as error:
            if isinstance(error, FatalError) and not self._has_been_read(self._cursor):
                raise  # nothing can be read yet; later, one kind's error does not stop the others
            self._track_failed(track, error)
            return 0.0
        if pages:
            try:
                self._publish(track, pages, self._cursor)
            except ConnectorError:
                raise
            except Exception as error:  # noqa: BLE001 - so does a row that nobody foresaw
                self._track_failed(track, error)
        return 0.0

    def _has_been_read(self, cursor: Cursor) -> bool:
        return cursor.position(tracks.STUDY.name).passes > 0

    def _step_failed(self, error: Exception, delay_seconds: float) -> None:
        self.progress.retries += 1
        self.outage.failed(error, delay_seconds)
        self.heartbeat.beat(delay_seconds)

    def _track_failed(self, track: Track, error: Exception) -> None:
        if not isinstance(error, ConnectorError):
            error = FatalError(describe(error))
        self.progress.retries += 1
        self.track_outages[track.name].failed(error, self._passes.back_off(track, error))

    def _publish(self, track: Track, pages: list[ReadPage], cursor: Cursor) -> None:
        """Publish pages in one transaction, then advance cursor and cache.

        After an error the committed cursor is in doubt: the next step reads it back. All passes
        are closed, because their streams may be ahead of it.
        """
        self._cursor, self._is_unpublished = None, True
        try:
            with self._ports.known.update() as update:
                found = Changes()
                for read in pages:
                    found.extend(self._detect(read, cursor, update))
                last = after_repeats(pages[-1], cursor, has_repeats=found.has_repeats)
                context = self._context(last, cursor)
                ratio_max = self._options.max_delete_ratio
                end = finish_full_pass(last, found, update, context, ratio_max, self._log)
                found.redefines &= self._options.typed_values
                advanced = self._cursor_after(track, pages, end, found, cursor)
                if not self._may_stay_uncommitted(track, found):
                    advanced = self._commit(found, advanced, update)
        except BatchTooLargeError as error:
            self._passes.halve()
            self._passes.close_all()
            raise RetryableError(str(error)) from error
        except BaseException:
            self._passes.close_all()
            raise
        self._cursor = advanced
        self.progress.passes = self._completed.count(advanced)
        if found.redefines:
            self._redefine()
        self._count(track, pages, found)

    def _redefine(self) -> None:
        """Type values by the definitions as just published, of rows not yet published, too."""
        self._definitions = self._load_definitions()
        for track in tracks.TYPED:  # their open passes do not know that the next one is due early
            self._passes.close(track.entity.name)

    def _load_definitions(self) -> Definitions:
        known = self._ports.known
        return Definitions(known.definitions()) if self._options.typed_values else NO_DEFINITIONS

    def _may_stay_uncommitted(self, track: Track, found: Changes) -> bool:
        """Whether only a window's position has changed: if that is lost, it is read again."""
        if track.mode is Mode.FULL or found.events or found.invalid:
            return False
        return self._ports.clock.monotonic() - self._committed_at < _IDLE_COMMIT_SECONDS

    def _commit(self, found: Changes, cursor: Cursor, update: KnownUpdate) -> Cursor:
        """Publish the changes with this cursor; return the cursor as committed.

        The cache's own transaction commits after this returns, and is rolled back if it raises.
        """
        newest = max((event.version for event, _ in found.events), default=0)
        newest = max(newest, cursor.newest_version)
        cursor = cursor.model_copy(update={"newest_version": newest})
        update.match(cursor)
        event_log = self._ports.event_log
        diverted = event_log.publish(found.events, found.invalid, cursor, found.dead_lettered)
        if diverted:
            update.divert(diverted)
        self.progress.events += len(found.events) - len(diverted)
        self.progress.diverted += len(diverted)
        self._committed_at = self._ports.clock.monotonic()
        self._passes.grow()
        return cursor

    def _detect(self, read: ReadPage, cursor: Cursor, update: KnownUpdate) -> Changes:
        """Detect a page's changes, and record in the cache which rows it lists."""
        entity, ids = read.track.entity, read.ids
        known = self._ports.known.lookup(entity.name, ids)
        found = changes.detect(entity, read.page.rows, known, self._context(read, cursor))
        found.invalid = [row for row in found.invalid if update.is_new_invalid(row)]
        # A row that a window lists counts as listed by the full pass in progress; between two full
        # passes, by the earlier one. If it counted for the later one, that pass could not miss the
        # row after it vanished, and its delete would take one more pass.
        full = cursor.position(read.track.full.name)
        is_in_full_pass = full.in_pass or read.track.mode is Mode.FULL
        full_pass = full.passes + is_in_full_pass
        if not read.track.is_keyset:  # only pages by number can list a row twice
            found.has_repeats = update.has_listed(entity.name, ids, full_pass)
        update.put(entity.name, found.known, full_pass)
        update.seen(entity.name, (each for each in ids if each not in found.known), full_pass)
        return found

    def _context(self, read: ReadPage, cursor: Cursor) -> PageContext:
        return PageContext(
            self._study_key,
            read.page.server_ms,
            window.origin(read.track, read.position_before),
            self._definitions,
            version_min=cursor.version_floor,
            is_full_pass=read.track.mode is Mode.FULL,
        )

    def _cursor_after(
        self, track: Track, pages: list[ReadPage], end: PassPosition, found: Changes, cursor: Cursor
    ) -> Cursor:
        """The cursor after these pages; full passes that have become necessary are due early."""
        cursor = cursor.moved(track.name, end)
        first = pages[0]
        if window.clock_went_back(first.position_before, first.position_after, self._pace.overlap):
            self._log.warning("API clock went back, sweep scheduled", kind=track.entity.name)
            cursor = hurried(cursor, [track.full])
        return hurried(cursor, tracks.TYPED) if found.redefines else cursor

    def _count(self, track: Track, pages: list[ReadPage], found: Changes) -> None:
        last, rows = pages[-1], sum(len(read.page.rows) for read in pages)
        self.progress.read_ms = self._ports.clock.now_ms()
        self.progress.pages += len(pages)
        self.progress.rows += rows
        if contradictions := self._passes.mark_published(track, pages):
            self._log.warning(
                "contradictory pages accepted", track=track.name, contradictions=contradictions
            )
        self.progress.invalid += len(found.invalid)
        self.progress.undated += found.undated
        self.progress.untyped += found.untyped
        self._is_unpublished = False
        self._backoff.reset()
        self.outage.succeeded()
        self.track_outages[track.name].succeeded()
        self.snapshot.count(last, rows)

    def _recover(self) -> Cursor:
        """Return the committed cursor; on return the cache matches it and the topic."""
        # Reset first, so that a `sweep` called by another thread meanwhile is not lost.
        must_reread, self._must_reread_topic = self._must_reread_topic, False
        try:
            return self._read_back(must_reread=must_reread)
        except BaseException:
            self._must_reread_topic |= must_reread
            raise

    def _read_back(self, *, must_reread: bool) -> Cursor:
        opened = self._ports.event_log.open()
        cursor = opened.cursor or Cursor(study_key=self._study_key)
        if opened.loss:
            self._log.warning(
                "events topic lost events, missing ones will be republished", loss=opened.loss
            )
            # Sinks may have applied the lost events: the new ones need higher versions.
            cursor = cursor.model_copy(update={"version_floor": cursor.newest_version + 1})
        if must_reread or opened.loss or not self._ports.known.matches(cursor):
            cursor = window.full_passes_restarted(cursor, due=opened.loss is not None)
            if opened.cursor is not None:
                # Committed first, with the topic's new mark: whatever happens before the cache is
                # rebuilt, and to whichever copy of it, only a rebuilt cache matches this cursor.
                self._ports.event_log.publish([], [], cursor)
            self._ports.known.rebuild(self._ports.event_log.replay(), cursor)
            self._log.info("known states rebuilt from the topic", sequence=cursor.sequence)
        self._definitions = self._load_definitions()
        return cursor
