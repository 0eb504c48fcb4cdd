"""Exports a whole study to a sink, page by page: constant memory, and resumable."""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import structlog
from rich.progress import Progress as Bar
from rich.progress import TaskID

from connector.clock import SystemClock
from connector.errors import (
    BatchTooLargeError,
    ContradictoryPageError,
    FatalError,
    ResourceDeniedError,
    RetryableError,
)
from connector.export.config import MAX_DELETE_RATIO, types_values
from connector.export.errors import ExportError, RecordsRefusedError
from connector.export.in_flight import Part, PartsInFlight, Refusal
from connector.export.neo4j_sink import Neo4jExportSink
from connector.export.outcome import raise_if_incomplete
from connector.export.reading import batches_of, parts_of, progress_bar
from connector.export.resume import ExportProgress, export_start
from connector.export.rows import ReadRows
from connector.export.sweep import Sweep
from connector.export.vanished import ALL_IDS
from connector.interfaces import ApiReader, Clock
from connector.model.cursor import Cursor, PassPosition
from connector.model.entities import DEFINING_KINDS, READ_KINDS
from connector.model.entity import Entity
from connector.model.typed_values import NO_DEFINITIONS, Definitions
from connector.neo4j.export_positions import StoredPosition
from connector.retry import Backoff, retry
from connector.source import window
from connector.source.personal_data import WithoutPersonalData
from connector.source.reading import PassOptions, ReadAhead, ReadPage, read_pass
from connector.source.schedule import Pace
from connector.source.tracks import TYPED, Mode, Track

log = structlog.stdlib.get_logger("connector.export")

T = TypeVar("T")

_WRITERS = 4
_WAIT_SECONDS_MAX = 60.0
_PAGE_SIZE = 500
_REFUSED_MAX = 100
_SHORT = (
    "exported, but not all: the API listed fewer rows than it announced; check the API, then export"
    " again"
)
_PACE = Pace(1, 1, 1, 1, overlap=0, page_size=_PAGE_SIZE)
"""An export reads each kind once: nothing is ever due again."""


class StudyExport:
    """One export of one study.

    The kinds always include the study itself, and what defines the variables of those to be typed.
    """

    def __init__(
        self,
        reader: ApiReader,
        sink: Neo4jExportSink,
        *,
        kinds: Collection[str] = tuple(READ_KINDS),
        clock: Clock | None = None,
    ) -> None:
        omits = getattr(sink.config, "omit_personal_data", False)
        self._reader = WithoutPersonalData(reader) if omits else reader
        self._sink = sink
        wanted = {"study", *kinds}
        if types_values(sink.config) and any(track.entity.name in wanted for track in TYPED):
            wanted |= {entity.name for entity in DEFINING_KINDS}
        self._kinds = [name for name in READ_KINDS if name in wanted]
        self._clock = clock or SystemClock()
        self._settings = {
            "omit_personal_data": omits, "typed_values": types_values(sink.config)
        }  # fmt: skip
        self._cursor, self._progress = Cursor(study_key=sink.study_key), ExportProgress()
        self._backoff = Backoff(_WAIT_SECONDS_MAX, sink.config.retry_backoff)
        self._sizes: dict[str, int] = {}
        self._contradictions: dict[str, frozenset[str]] = defaultdict(frozenset)
        """The contradictions seen in each kind's pages; a page that repeats them is accepted."""
        self._in_flight = PartsInFlight()

    @property
    def counts(self) -> dict[str, int]:
        """Rows read of each kind, including those read before an interruption."""
        return {name: self._progress.read.get(name, 0) for name in self._kinds}

    def run(self) -> int:
        """See `export_to_neo4j`."""
        self._begin()
        pool = ThreadPoolExecutor(_WRITERS)
        try:
            with progress_bar() as bar:
                for name in self._kinds:
                    self._export_or_skip(READ_KINDS[name], bar, pool)
        except BaseException:
            self._sink.close()  # so that no writer waits for its next attempt
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        self._sink.store_position(None)
        progress = self._progress
        raise_if_incomplete(self._sink.study_key, self.counts, progress.failed, progress.refused)
        return self.counts.get("record", 0)

    def _begin(self) -> None:
        """Start from the position of an interrupted export, or from the beginning."""
        kept, now_ms = self._sink.stored_position(), self._clock.now_ms()
        study_key = self._sink.study_key
        start = export_start(kept, study_key, self._kinds, self._settings, now_ms)
        if start.why:
            event = "export resumed" if start.is_resumed else "export started over"
            log.info(event, why=start.why, study=study_key)
        self._cursor, self._progress = start.cursor, start.progress

    def _export_or_skip(self, entity: Entity, bar: Bar, pool: ThreadPoolExecutor) -> None:
        """Export one kind. If the API refuses it, the other kinds can still be exported."""
        try:
            self._export(entity, bar, pool)
        except ResourceDeniedError as error:
            if entity.name == "study":
                raise ExportError(str(error)) from None
            log.warning("kind not exported", kind=entity.plural, reason=str(error))
            self._progress.failed[entity.name] = f"not exported: {error}"
            self._settle(all_parts=True)
        except FatalError as error:
            raise ExportError(str(error)) from None

    def _export(self, entity: Entity, bar: Bar, pool: ThreadPoolExecutor) -> None:
        """Export the rest of one kind."""
        track = Track(entity, Mode.FULL)
        position = self._cursor.position(track.name)
        if position.passes == 0:
            self._progress.failed.pop(entity.name, None)  # of the export that is resumed
        sweep = self._sweep_of(track)
        task = bar.add_task(entity.plural, total=None)
        self._until_done(entity, lambda: self._read_rest(track, sweep, bar, task, pool))
        self._settle(all_parts=True)  # parents exist before their children
        if self._cursor.position(track.name).is_short:
            self._progress.failed[entity.name] = _SHORT
        if sweep is not None:
            self._delete_gone(track, sweep)
        if not position.in_pass and position.passes == 0:
            self._progress.swept.append(entity.name)
            self._store(self._cursor, self._progress.read, self._progress.batches)

    def _read_rest(
        self, track: Track, sweep: Sweep | None, bar: Bar, task: TaskID, pool: ThreadPoolExecutor
    ) -> None:
        """Read and write from the cursor to the end of the kind."""
        entity, start = track.entity, self._cursor
        while self._cursor.position(track.name).passes == 0:
            options = self._options(entity)
            stream = ReadAhead(read_pass(self._reader, track, self._cursor, options, self._clock))
            try:
                for pages in parts_of(stream):
                    self._cursor = self._cursor.moved(track.name, pages[-1].position_after)
                    self._submit(entity, pages, pool, sweep)
                    self._settle()  # parts are written while the next one is read
                    self._show(bar, task, entity, pages[-1])
                    self._backoff.reset()
            finally:
                stream.close()
        was_read_now = start.position(track.name).passes == 0
        if was_read_now and not self._progress.read.get(entity.name) and self._lists_rows(track):
            self._cursor = start
            raise RetryableError("the API listed no rows at first")

    def _lists_rows(self, track: Track) -> bool:
        """Ask again for a kind without rows: an answer that lists nothing may be a fault."""
        return bool(self._read_at(track, PassPosition()).page.rows)

    def _sweep_of(self, track: Track) -> Sweep | None:
        """Return a sweep if the whole pass is still to be read and the graph has nodes to delete.

        The study itself is not swept: if the API no longer lists it, the export ends earlier. Kinds
        with text ids are not swept either: their lists are not in id order. A stream finds
        vanished rows of all kinds.
        """
        position = self._cursor.position(track.name)
        if not track.entity.id_is_number or track.entity.name in self._progress.swept:
            return None
        if position.in_pass or position.passes:  # of the export that is resumed
            log.info("sweep deferred to the next export", kind=track.entity.plural)
            return None
        if not self._sink.unlisted(track.entity, ALL_IDS, limit=1):
            return None
        return Sweep(track, self._sink)

    def _delete_gone(self, track: Track, sweep: Sweep) -> None:
        """Delete rows that the API no longer lists, if a second look misses them, too."""
        entity = track.entity
        ratio_max = getattr(self._sink.config, "max_delete_ratio", MAX_DELETE_RATIO)
        why = self._until_done(
            entity,
            lambda: sweep.delete_gone(partial(self._read_at, track), self._size(entity), ratio_max),
        )
        if why is not None:
            log.error("vanished rows not deleted", kind=entity.plural, why=why)
            self._progress.failed[entity.name] = why

    def _read_at(self, track: Track, position: PassPosition) -> ReadPage:
        cursor = self._cursor.moved(track.name, position)
        return next(
            read_pass(self._reader, track, cursor, self._options(track.entity), self._clock)
        )

    def _options(self, entity: Entity) -> PassOptions:
        return PassOptions(_PACE, self._size(entity), self._contradictions.get(entity.name, ()))

    def _size(self, entity: Entity) -> int:
        return self._sizes.get(entity.name, _PAGE_SIZE)

    def _until_done(self, entity: Entity, step: Callable[[], T]) -> T:
        """Retry a step that reads, as often in a row as configured."""
        self._backoff.reset()
        failed = partial(self._reading_failed, entity)
        retried = (RetryableError, BatchTooLargeError)
        return retry(step, self._backoff, self._clock, threading.Event(), failed, retried)

    def _reading_failed(self, entity: Entity, error: Exception, _: float) -> None:
        if isinstance(error, ContradictoryPageError):
            self._contradictions[entity.name] |= error.contradictions
        if isinstance(error, BatchTooLargeError):
            self._sizes[entity.name] = window.smaller_page_size(self._size(entity))
        failures = self._backoff.failures
        if failures > self._sink.config.max_retries:
            self._settle(all_parts=True)  # so that a resumed export does not read it again
            raise ExportError(f"reading {entity.plural} failed {failures} times: {error}") from None
        log.warning("retrying to read", kind=entity.plural, reason=str(error))

    def _submit(
        self, entity: Entity, pages: list[ReadPage], pool: ThreadPoolExecutor, sweep: Sweep | None
    ) -> None:
        """Start writing the batches of some pages, each on its own thread."""
        batches = batches_of(pages, self._sink.config.batch_size)
        name, progress = entity.name, self._progress
        first = progress.batches.get(name, 0)
        progress.batches[name] = first + len(batches)
        rows = sum(len(read.page.rows) for read in pages)
        progress.read[name] = progress.read.get(name, 0) + rows
        # Read after the pages: a stream that types rows by newer definitions has a higher version.
        is_typed = Track(entity, Mode.FULL) in TYPED
        definitions = self._sink.definitions() if is_typed else NO_DEFINITIONS
        write = partial(self._write, entity, definitions)
        futures = [pool.submit(write, first + index, each) for index, each in enumerate(batches)]
        if sweep is not None:
            futures.append(pool.submit(sweep.first_look, sweep.spans(pages)))
        size_bytes = sum(read.page.size_bytes for read in pages)
        counts = dict(progress.read), dict(progress.batches)
        self._in_flight.add(Part(futures, size_bytes, self._cursor, *counts))

    def _write(
        self, entity: Entity, definitions: Definitions, number: int, batch: Sequence[ReadRows]
    ) -> Refusal | None:
        batch_id = f"{self._sink.study_key}/{entity.plural}/{number}"
        try:
            self._sink.write_kind(
                entity,
                batch,
                batch_id=batch_id,
                definitions=definitions,
            )
        except RecordsRefusedError as error:
            return Refusal(batch_id, str(error))
        return None

    def _settle(self, *, all_parts: bool = False) -> None:
        """Wait until another part may be read, or all are written; store the position after each.

        A refusal counts from then on, too: a resumed export writes the parts after it again.
        """
        for part, refusals in self._in_flight.ended(all_parts=all_parts):
            for batch_id, text in refusals:
                if len(self._progress.refused) < _REFUSED_MAX:  # the log has all of them
                    self._progress.refused[batch_id] = text
            self._store(part.cursor, part.read, part.batches)

    def _store(self, cursor: Cursor, read: dict[str, int], batches: dict[str, int]) -> None:
        counts = {"read": read, "batches": batches}
        progress = self._progress.model_copy(update=counts)
        text, now_ms = cursor.to_bytes().decode(), self._clock.now_ms()
        self._sink.store_position(StoredPosition(text, progress.model_dump_json(), now_ms))

    def _show(self, bar: Bar, task: TaskID, entity: Entity, last: ReadPage) -> None:
        left = window.rows_left(last.page)
        done = self._progress.read[entity.name]
        bar.update(task, completed=done, total=done + left)
