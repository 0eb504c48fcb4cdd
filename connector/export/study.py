"""A whole study, page by page, into an export sink: constant memory, and resumable."""

import sys
import threading
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import structlog
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from connector.clock import SystemClock
from connector.cursor import Cursor
from connector.entities import ENTITIES, Entity, Reading
from connector.errors import BatchTooLargeError, FatalError, RetryableError
from connector.export.config import SinkConfig
from connector.export.errors import ExportBatchError, ExportError, RecordsRefusedError
from connector.export.neo4j_sink import Neo4jExportSink
from connector.export.sink import iter_batches
from connector.imednet.reader import SdkReader
from connector.interfaces import ApiReader
from connector.retry import Backoff
from connector.source import window
from connector.source.reading import ReadAhead, ReadPage, read_pass
from connector.source.window import Mode, Pace, Track

log = structlog.stdlib.get_logger("connector.export")

_WRITERS = 4
_PAGE_SIZE = 500
_NAMED_MAX = 5
_ROWS_AT_ONCE = 2000
_WAIT_SECONDS = 0.5
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
    """Bring a study into Neo4j; how many records of it were read. Blocks.

    All kinds, page by page: the graph is the one that the stream makes, whichever comes first.
    An export that was interrupted goes on where it was when it is called again. On a terminal a
    bar shows how far it is.

    Raises:
        ExportConfigurationError: the database cannot be used.
        ExportBatchError: some records cannot be stored (it names their ids); all others are.
        ExportError: the API cannot be read, or does not know the study.
    """
    with Neo4jExportSink(uri, auth, study_key, config=config) as sink:
        return StudyExport(SdkReader(sdk), sink).run()


class StudyExport:
    """One export of one study."""

    def __init__(
        self, reader: ApiReader, sink: Neo4jExportSink, *, kinds: Collection[str] = tuple(ENTITIES)
    ) -> None:
        self._reader, self._sink, self._kinds = reader, sink, kinds
        self._clock = SystemClock()
        self._failures: list[RecordsRefusedError] = []
        self._read = dict.fromkeys(ENTITIES, 0)
        self._batches = dict.fromkeys(ENTITIES, 0)
        self._sizes: dict[str, int] = {}
        self._written: deque[tuple[list[Future[None]], Cursor]] = deque()
        """Parts that are being written, each with the cursor behind it."""

    def run(self) -> int:
        """See `export_to_neo4j`."""
        cursor = self._begin()
        pool = ThreadPoolExecutor(_WRITERS)
        try:
            with _bar() as bar:
                for name in ENTITIES:
                    if name in self._kinds:
                        cursor = self._export(ENTITIES[name], cursor, bar, pool)
        except BaseException:
            self._sink.close()  # so that no writer waits for its next try
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        self._sink.keep_place(None)
        if self._failures:
            first = self._failures[0]
            texts = [str(each) for each in self._failures[:_NAMED_MAX]]
            if len(self._failures) > _NAMED_MAX:
                texts.append(f"{len(self._failures) - _NAMED_MAX} batches more, see the log")
            raise ExportBatchError("; ".join(texts), batch_id=first.batch_id)
        return self._read["record"]

    def _begin(self) -> Cursor:
        """Where an interrupted export was; the beginning, where there is none."""
        study_key, kept = self._sink.study_key, self._sink.place()
        new = Cursor(study_key=study_key)
        if not kept:
            return new
        try:
            cursor = Cursor.from_bytes(kept.encode())
        except FatalError:
            log.warning("the place of an interrupted export cannot be read", study=study_key)
            return new
        places = {}
        for name, place in cursor.places.items():
            kind = name.partition(".")[0]
            # Numbered pages may have moved since then.
            if place.passes or ENTITIES[kind].reading is not Reading.LISTED:
                places[name] = place
        done = sum(place.passes > 0 for place in places.values())
        if done >= len(self._kinds):
            return new  # it was through, but for saying so
        log.info("going on with an export that was interrupted", study=study_key)
        return cursor.model_copy(update={"places": places})

    def _export(
        self, entity: Entity, cursor: Cursor, bar: Progress, pool: ThreadPoolExecutor
    ) -> Cursor:
        """The rest of one kind; the cursor behind it."""
        track = Track(entity, Mode.FULL)
        shown = bar.add_task(entity.plural, total=None)
        failed = 0
        while cursor.place(track.name).passes == 0:
            size = self._sizes.get(entity.name, _PAGE_SIZE)
            stream = ReadAhead(read_pass(self._reader, track, cursor, _PACE, size, self._clock))
            try:
                for pages in _taken(stream):
                    cursor = cursor.moved(track.name, pages[-1].after)
                    self._written.append((self._submit(entity, pages, pool), cursor))
                    self._settle(under_way=1)  # one part is written while the next is read
                    self._show(bar, shown, entity, pages[-1])
                    failed = 0
            except (RetryableError, BatchTooLargeError) as error:
                failed += 1
                self._wait(entity, error, failed)
            except FatalError as error:
                raise ExportError(str(error)) from None
            finally:
                stream.close()
        self._settle(under_way=0)  # parents are there before their children
        return cursor

    def _wait(
        self, entity: Entity, error: RetryableError | BatchTooLargeError, failed: int
    ) -> None:
        """Before it is read again; or give up."""
        config = self._sink.config
        if failed > config.max_retries:
            raise ExportError(f"reading {entity.plural} failed {failed} times: {error}") from None
        if isinstance(error, BatchTooLargeError):
            size = self._sizes.get(entity.name, _PAGE_SIZE)
            self._sizes[entity.name] = window.smaller(size)
        log.warning("reading again", reason=str(error))
        backoff = Backoff(60.0, config.retry_backoff * 2.0 ** (failed - 1))
        after = error.retry_after_seconds if isinstance(error, RetryableError) else None
        self._clock.wait(threading.Event(), backoff.next_wait(after))

    def _submit(
        self, entity: Entity, pages: list[ReadPage], pool: ThreadPoolExecutor
    ) -> list[Future[None]]:
        """Some batches, each on a thread of its own."""
        batches = [
            (batch, read.page.server_ms - read.page.took_ms)
            for read in pages
            for batch in iter_batches(read.page.rows, self._sink.config.batch_size)
        ]
        first = self._batches[entity.name]
        self._batches[entity.name] += len(batches)
        self._read[entity.name] += sum(len(rows) for rows, _ in batches)
        return [
            pool.submit(self._write, entity, first + index, rows, read_at_ms)
            for index, (rows, read_at_ms) in enumerate(batches)
        ]

    def _write(self, entity: Entity, number: int, rows: Sequence[Any], read_at_ms: int) -> None:
        batch_id = f"{self._sink.study_key}/{entity.plural}/{number}"
        try:
            self._sink.write_kind(entity, rows, batch_id=batch_id, read_at_ms=read_at_ms)
        except RecordsRefusedError as error:
            self._failures.append(error)

    def _settle(self, under_way: int) -> None:
        """Wait until so many parts are left; what is acknowledged need not be read again."""
        while len(self._written) > under_way:
            futures, cursor = self._written.popleft()
            for future in futures:
                future.result()
            self._sink.keep_place(cursor.to_bytes().decode())

    def _show(self, bar: Progress, shown: TaskID, entity: Entity, last: ReadPage) -> None:
        left = window.rows_left(last.page)
        done = self._read[entity.name]
        bar.update(shown, completed=done, total=done + left)


def _taken(stream: ReadAhead) -> Iterator[list[ReadPage]]:
    """The pages of a pass as they come, until its last."""
    while True:
        pages = stream.take(_ROWS_AT_ONCE, _WAIT_SECONDS)
        if pages:
            yield pages
            if pages[-1].is_last:
                return


@contextmanager
def _bar() -> Iterator[Progress]:
    console = Console(file=sys.stderr)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        yield bar
