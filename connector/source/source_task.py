"""The source's loop: window -> read page -> what is new? -> one transaction of events and cursor.

The cursor and the cache move only after the transaction is acknowledged. After an unknown outcome
the truth is read back from the topic.
"""

import threading
from dataclasses import dataclass

import structlog

from connector.cursor import Cursor
from connector.errors import RetryableError
from connector.interfaces import ApiReader, Clock, EventLog, KnownStore, KnownUpdate, Page
from connector.retry import Backoff
from connector.source import changes, window
from connector.source.changes import Changes, Sighting
from connector.source.window import Mode, Pace, Track

log = structlog.stdlib.get_logger("connector.source")

_CLOCK_SKEW_MS_MAX = 3_600_000


@dataclass(slots=True)
class SourceProgress:
    """What a source has done since it started."""

    rows: int = 0
    events: int = 0
    invalid: int = 0
    retries: int = 0
    passes: int = 0
    """Of the track that has completed fewest since the start."""


@dataclass(frozen=True, slots=True)
class SourcePorts:
    """What the task is wired to."""

    reader: ApiReader
    event_log: EventLog
    known: KnownStore
    clock: Clock


class SourceTask:
    """Publishes one study's changes until it is told to stop."""

    def __init__(
        self,
        study_key: str,
        ports: SourcePorts,
        pace: Pace,
        *,
        max_delete_ratio: float,
        backoff: Backoff,
    ) -> None:
        self._study_key = study_key
        self._ports = ports
        self._pace = pace
        self._max_delete_ratio = max_delete_ratio
        self._backoff = backoff
        self._cursor: Cursor | None = None
        self._previous = ""
        self._passes = dict.fromkeys((track.name for track in window.TRACKS), 0)
        self.progress = SourceProgress()
        self._log = log.bind(study=study_key)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; the step at hand is finished first.

        Raises:
            FatalError: repeating cannot help.
        """
        while not stop.is_set():
            try:
                wait_seconds = self.step()
                self._backoff.reset()
            except RetryableError as error:
                self.progress.retries += 1
                wait_seconds = self._backoff.next_wait(error.retry_after_seconds)
                self._log.warning(
                    "step failed, will be repeated",
                    reason=str(error),
                    wait_seconds=round(wait_seconds, 1),
                )
            stop.wait(wait_seconds)

    def step(self) -> float:
        """Read and publish one page, or say for how many seconds there is nothing to do.

        Raises:
            RetryableError: nothing has moved; the next step begins where this one did.
            FatalError: repeating cannot help.
        """
        if self._cursor is None:
            self._cursor = self._recover()
        cursor, now_ms = self._cursor, self._ports.clock.now_ms()
        track, due_ms = window.next_track(cursor, self._pace, now_ms, self._previous)
        if track is None:
            return max(0.0, (due_ms - now_ms) / 1000)
        place = cursor.place(track.name)
        request = window.next_request(track, cursor, self._pace)
        self._previous = track.name  # also when it fails: the others take their turn
        page = self._ports.reader.read(request)
        _check_clock(page.server_ms, now_ms)
        window.check_page(track, request, place, page)
        after = window.advance(track, place, page, self._pace, now_ms)
        self._publish(track, page, cursor, cursor.moved(track.name, after))
        if window.ends_pass(place, after):
            self._passes[track.name] += 1
            self.progress.passes = min(self._passes.values())
        return 0.0

    def _publish(self, track: Track, page: Page, cursor: Cursor, moved: Cursor) -> None:
        """One transaction; cursor and cache follow only when it is acknowledged."""
        self._cursor = None  # unknown until then: an error means `_recover`
        with self._ports.known.update() as update:
            found = self._changes(track, page, cursor, moved, update)
            update.match(moved)
            self._ports.event_log.publish(found.events, found.invalid, moved)
        self._cursor = moved
        self.progress.rows += len(page.rows)
        self.progress.events += len(found.events)
        self.progress.invalid += len(found.invalid)

    def _changes(
        self, track: Track, page: Page, cursor: Cursor, moved: Cursor, update: KnownUpdate
    ) -> Changes:
        entity, place = track.entity, cursor.place(track.name)
        ids = window.valid_ids(entity, page)
        sighting = Sighting(self._study_key, page.server_ms, window.origin(track, place))
        found = changes.detect(
            entity, page.rows, self._ports.known.lookup(entity.name, ids), sighting
        )
        found.invalid = [row for row in found.invalid if update.is_new_invalid(row)]
        update.put(entity.name, found.known)
        # A row listed by a window exists too: it counts for the full pass that is under way.
        full_pass = cursor.place(Track(entity, Mode.FULL).name).passes + 1
        update.seen(entity.name, ids, full_pass)
        if track.mode is Mode.FULL and window.ends_pass(place, moved.place(track.name)):
            found.events += self._deletions(track, full_pass, sighting, update).events
        return found

    def _deletions(
        self, track: Track, full_pass: int, sighting: Sighting, update: KnownUpdate
    ) -> Changes:
        vanished = update.vanished(track.entity.name, full_pass)
        if not changes.may_delete(vanished, self._max_delete_ratio):
            self._log.error(
                "sweep deletes nothing: too many rows have vanished; check the API, then raise"
                " SOURCE_MAX_DELETE_RATIO if they are really gone",
                entity=track.entity.name,
                known=vanished.known,
                listed=vanished.listed,
            )
            return Changes()
        found = changes.deletions(track.entity, vanished.gone, sighting)
        update.put(track.entity.name, found.known)
        return found

    def _recover(self) -> Cursor:
        """The committed cursor, with a cache that matches it."""
        cursor = self._ports.event_log.open() or Cursor(study_key=self._study_key)
        if not self._ports.known.matches(cursor):
            self._ports.known.rebuild(self._ports.event_log.replay(), cursor)
            self._log.info("known states read from the topic", sequence=cursor.sequence)
        return cursor


def _check_clock(server_ms: int, now_ms: int) -> None:
    """Versions come from the server's clock: one wrong answer would poison entities for good."""
    if abs(server_ms - now_ms) > _CLOCK_SKEW_MS_MAX:
        raise RetryableError(
            "the API's clock and this machine's differ by more than an hour: set the wrong one"
        )
