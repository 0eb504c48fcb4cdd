"""A whole study, page by page, into an export sink: constant memory, and resumable."""

import threading
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import structlog
from rich.progress import Progress as Bar
from rich.progress import TaskID

from connector.clock import SystemClock
from connector.errors import (
    BatchTooLargeError,
    FatalError,
    OddPageError,
    ResourceRefusedError,
    RetryableError,
)
from connector.export.config import MAX_DELETE_RATIO, Neo4jSinkConfig, SinkConfig
from connector.export.errors import ExportError, RecordsRefusedError
from connector.export.neo4j_sink import Neo4jExportSink
from connector.export.outcome import raise_failed
from connector.export.reading import parts_of, progress_bar
from connector.export.resume import ExportProgress, starting
from connector.export.sink import iter_batches
from connector.export.sweep import Sweep
from connector.export.vanished import ALL_IDS
from connector.imednet.reader import SdkReader, has_client, list_records
from connector.interfaces import ApiReader, Clock
from connector.model.cursor import Cursor, PassPosition
from connector.model.entities import ENTITIES, Entity
from connector.neo4j.export_places import KeptPlace
from connector.retry import Backoff
from connector.source import window
from connector.source.reading import PassOptions, ReadAhead, ReadPage, read_pass
from connector.source.tracks import Mode, Track
from connector.source.window import Pace

log = structlog.stdlib.get_logger("connector.export")

_WRITERS = 4
_PAGE_SIZE = 500
_REFUSED_MAX = 100
_PACE = Pace(1, 1, 1, 1, overlap=0, page_size=_PAGE_SIZE)
"""An export reads each kind once: nothing is ever due again."""


def export_to_neo4j(
    sdk: Any,
    study_key: str,
    uri: str,
    auth: Any,
    *,
    config: SinkConfig | None = None,
) -> int:
    """Export a study to Neo4j; how many records of it were read. Blocks.

    All kinds, page by page: the graph is the one that the stream makes, whichever comes first.
    An export that was interrupted less than an hour ago is resumed when it is called again, and
    counts the records that were read before. On a terminal a bar shows the progress.

    ``sdk`` is an `ImednetSDK`. Of anything else that has ``records.list(study_key=...)``, such as
    a test double, the records alone are exported, by `ExportSink.write_batch`.

    Raises:
        ExportConfigurationError: the database cannot be used.
        ExportBatchError: some records cannot be stored (it names their ids); all others are.
        ExportIncompleteError: the API refuses some kinds; all others are exported.
        ExportError: the API cannot be read, or does not know the study.
    """
    config = config or Neo4jSinkConfig()
    with Neo4jExportSink(uri, auth, study_key, config=config) as sink:
        if has_client(sdk):
            return StudyExport(SdkReader(sdk), sink).run()
        return _export_records(sdk, study_key, sink, config.batch_size)


def _export_records(sdk: Any, study_key: str, sink: Neo4jExportSink, batch_size: int) -> int:
    log.warning("the SDK has no client: its records alone are exported", study=study_key)
    try:
        records = list_records(sdk, study_key)
    except FatalError as error:
        raise ExportError(str(error)) from None
    count, refused = 0, {}
    for number, batch in enumerate(iter_batches(records, batch_size)):
        try:
            count += sink.write_batch(batch, batch_id=f"{study_key}/records/{number}")
        except RecordsRefusedError as error:
            refused[error.batch_id] = str(error)
    raise_failed(study_key, {"record": count}, {}, refused)
    return count


class _Part(NamedTuple):
    """Pages that are being written, and the place behind them."""

    futures: list[Future[None]]
    cursor: Cursor
    read: dict[str, int]
    batches: dict[str, int]


class StudyExport:
    """One export of one study. The study itself is always among the kinds."""

    def __init__(
        self,
        reader: ApiReader,
        sink: Neo4jExportSink,
        *,
        kinds: Collection[str] = tuple(ENTITIES),
        clock: Clock | None = None,
    ) -> None:
        self._reader, self._sink = reader, sink
        self._kinds = [name for name in ENTITIES if name == "study" or name in kinds]
        self._clock = clock or SystemClock()
        self._cursor, self._progress = Cursor(study_key=sink.study_key), ExportProgress()
        self._failed: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._odd: dict[str, frozenset[str]] = defaultdict(frozenset)
        """By kind, how its pages contradict themselves: what comes again is taken."""
        self._written: deque[_Part] = deque()

    @property
    def counts(self) -> dict[str, int]:
        """How many rows were read of each kind, with those before an interruption."""
        return {name: self._progress.read.get(name, 0) for name in self._kinds}

    def run(self) -> int:
        """See `export_to_neo4j`."""
        self._begin()
        pool = ThreadPoolExecutor(_WRITERS)
        try:
            with progress_bar() as bar:
                for name in self._kinds:
                    self._export_or_skip(ENTITIES[name], bar, pool)
        except BaseException:
            self._sink.close()  # so that no writer waits for its next try
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        self._sink.keep_place(None)
        raise_failed(self._sink.study_key, self.counts, self._failed, self._progress.refused)
        return self.counts.get("record", 0)

    def _begin(self) -> None:
        """Go to where an interrupted export was, or to the beginning."""
        study_key = self._sink.study_key
        start = starting(self._sink.place(), study_key, self._kinds, self._clock.now_ms())
        if start.why:
            event = "an export is resumed" if start.is_resumed else "an export starts over"
            log.info(event, why=start.why, study=study_key)
        self._cursor, self._progress = start.cursor, start.progress

    def _export_or_skip(self, entity: Entity, bar: Bar, pool: ThreadPoolExecutor) -> None:
        """Export one kind. If the API refuses it, the others can be exported all the same."""
        try:
            self._export(entity, bar, pool)
        except ResourceRefusedError as error:
            if entity.name == "study":
                raise ExportError(str(error)) from None
            log.warning("a kind is not exported", kind=entity.plural, reason=str(error))
            self._failed[entity.name] = f"not exported: {error}"
            self._settle(under_way=0)
        except FatalError as error:
            raise ExportError(str(error)) from None

    def _export(self, entity: Entity, bar: Bar, pool: ThreadPoolExecutor) -> None:
        """Export the rest of one kind."""
        track = Track(entity, Mode.FULL)
        sweep = self._sweep_of(track)
        shown = bar.add_task(entity.plural, total=None)
        failed = 0
        while self._cursor.place(track.name).passes == 0:
            size = self._sizes.get(entity.name, _PAGE_SIZE)
            options = self._options(entity, size)
            reading = read_pass(self._reader, track, self._cursor, options, self._clock)
            stream = ReadAhead(reading)
            try:
                for pages in parts_of(stream):
                    self._cursor = self._cursor.moved(track.name, pages[-1].after)
                    self._submit(entity, pages, pool, sweep)
                    self._settle(under_way=1)  # one part is written while the next is read
                    self._show(bar, shown, entity, pages[-1])
                    failed = 0
            except (RetryableError, BatchTooLargeError) as error:
                failed += 1
                self._wait(entity, error, failed)
            finally:
                stream.close()
        self._settle(under_way=0)  # parents are there before their children
        if sweep is not None:
            self._delete_gone(track, sweep)

    def _sweep_of(self, track: Track) -> Sweep | None:
        """A sweep, if the whole pass is still to be read, and the graph has something to lose.

        The study itself is not swept: when the API lists it no more, the export ends before.
        """
        place = self._cursor.place(track.name)
        if track.entity.name == "study" or place.passes:
            return None
        if place.in_pass:
            log.info("vanished rows are found by the next export", kind=track.entity.plural)
            return None
        if not self._sink.unlisted(track.entity, ALL_IDS, limit=1):
            return None
        return Sweep(track, self._sink)

    def _delete_gone(self, track: Track, sweep: Sweep) -> None:
        """Delete what the API lists no more, once a second look has missed it, too."""
        entity, failed = track.entity, 0
        ratio_max = getattr(self._sink.config, "max_delete_ratio", MAX_DELETE_RATIO)
        while True:
            size = self._sizes.get(entity.name, _PAGE_SIZE)
            try:
                why = sweep.delete_gone(partial(self._read_at, track, size), size, ratio_max)
            except (RetryableError, BatchTooLargeError) as error:
                failed += 1
                self._wait(entity, error, failed)
            else:
                break
        if why is not None:
            log.error("nothing is deleted", kind=entity.plural, why=why)
            self._failed[entity.name] = why

    def _read_at(self, track: Track, size: int, place: PassPosition) -> ReadPage:
        cursor = self._cursor.moved(track.name, place)
        options = self._options(track.entity, size)
        return next(read_pass(self._reader, track, cursor, options, self._clock))

    def _options(self, entity: Entity, size: int) -> PassOptions:
        return PassOptions(_PACE, size, self._odd.get(entity.name, ()))

    def _wait(
        self, entity: Entity, error: RetryableError | BatchTooLargeError, failed: int
    ) -> None:
        """Before it is read again; or give up."""
        config = self._sink.config
        if isinstance(error, OddPageError):
            self._odd[entity.name] |= error.oddities
        if failed > config.max_retries:
            self._settle(under_way=0)  # the resumed export need not read it again
            raise ExportError(f"reading {entity.plural} failed {failed} times: {error}") from None
        if isinstance(error, BatchTooLargeError):
            size = self._sizes.get(entity.name, _PAGE_SIZE)
            self._sizes[entity.name] = window.smaller(size)
        log.warning("reading again", reason=str(error))
        backoff = Backoff(60.0, config.retry_backoff * 2.0 ** (failed - 1))
        after = error.retry_after_seconds if isinstance(error, RetryableError) else None
        self._clock.wait(threading.Event(), backoff.next_wait(after))

    def _submit(
        self, entity: Entity, pages: list[ReadPage], pool: ThreadPoolExecutor, sweep: Sweep | None
    ) -> None:
        """Write the batches of some pages, each on a thread of its own."""
        batches = [
            (batch, read.page.server_ms - read.page.took_ms)
            for read in pages
            for batch in iter_batches(read.page.rows, self._sink.config.batch_size)
        ]
        name, done = entity.name, self._progress
        first = done.batches.get(name, 0)
        done.batches[name] = first + len(batches)
        done.read[name] = done.read.get(name, 0) + sum(len(rows) for rows, _ in batches)
        begins_again = pages[-1].is_last and not pages[-1].after.passes
        if begins_again:
            done.read[name] = 0
            if sweep is not None:
                sweep.begin_again()
        futures = [
            pool.submit(self._write, entity, first + index, rows, read_at_ms)
            for index, (rows, read_at_ms) in enumerate(batches)
        ]
        if sweep is not None and not begins_again:
            futures.append(pool.submit(sweep.first_look, sweep.spans(pages)))
        self._written.append(_Part(futures, self._cursor, dict(done.read), dict(done.batches)))

    def _write(self, entity: Entity, number: int, rows: Sequence[Any], read_at_ms: int) -> None:
        batch_id = f"{self._sink.study_key}/{entity.plural}/{number}"
        try:
            self._sink.write_kind(entity, rows, batch_id=batch_id, read_at_ms=read_at_ms)
        except RecordsRefusedError as error:
            if len(self._progress.refused) < _REFUSED_MAX:  # the log has all of them
                self._progress.refused[batch_id] = str(error)

    def _settle(self, under_way: int) -> None:
        """Wait until this many parts are left; what is acknowledged need not be read again."""
        while len(self._written) > under_way:
            part = self._written.popleft()
            for future in part.futures:
                future.result()
            refused = dict(self._progress.refused)
            progress = ExportProgress(read=part.read, batches=part.batches, refused=refused)
            cursor = part.cursor.to_bytes().decode()
            now_ms = self._clock.now_ms()
            self._sink.keep_place(KeptPlace(cursor, progress.model_dump_json(), now_ms))

    def _show(self, bar: Bar, shown: TaskID, entity: Entity, last: ReadPage) -> None:
        left = window.rows_left(last.page)
        done = self._progress.read[entity.name]
        bar.update(shown, completed=done, total=done + left)
