"""Batches of records into Neo4j: the stream's model, versions and guard, without the stream."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from connector.clock import SystemClock
from connector.entities import ENTITIES, Entity
from connector.errors import ConnectorError, RetryableError
from connector.export.config import Neo4jSinkConfig, SinkConfig
from connector.export.connecting import connected, redacted
from connector.export.errors import (
    ExportBatchError,
    ExportConfigurationError,
    ExportError,
    RecordsRefusedError,
)
from connector.export.rows import (
    Refused,
    api_objects,
    changes_of,
    derived_changes,
    handed_over_version,
    visits_of,
    with_own_visit_only,
)
from connector.export.sink import ExportSink
from connector.graph import NodeChange
from connector.interfaces import Probed
from connector.neo4j.export_places import ExportPlaces
from connector.neo4j.writer import Neo4jGraphWriter
from connector.retry import Backoff
from connector.sink.batch import TransactionSize
from connector.sink.isolate import write_isolated

log = structlog.stdlib.get_logger("connector.export")
T = TypeVar("T")

_BEHIND_MS = 1000
"""The API's clock says whole seconds: what a stream reads within the same second is newer."""
_WAIT_SECONDS_MAX = 60.0
_CLOSE_SECONDS_MAX = 60.0
_NAMED_MAX = 10
_RECORD = ENTITIES["record"]


class Neo4jExportSink(ExportSink):
    """Writes records of one study. Thread-safe.

    Usage::

        with Neo4jExportSink("bolt://localhost:7687", ("neo4j", password), "MYSTUDY") as sink:
            sink.write_batch(records, batch_id="MYSTUDY/records/0")

    Records are SDK models, their dicts, or objects of the API. Written twice, or by two at once,
    they are there once; a record that is there with the same content is left alone, and one that
    a stream has brought in a newer state is not put back. Missing constraints are made.

    With ``idempotent=False`` nodes are created from the first batch on without looking first; else
    from the second on, while all is new. So it saves one query: 1.0 times as fast on an empty
    graph (measured: docs/benchmarks.md), as safe, and as slow as the other way on a full one.
    """

    def __init__(
        self,
        uri: str,
        auth: Any,
        study_key: str,
        *,
        config: SinkConfig | None = None,
    ) -> None:
        """Connect, and make the constraints that are missing. Blocks.

        ``auth`` is whatever the driver accepts: ``(user, password)``, ``(user, password, realm)``,
        a ``neo4j.Auth`` (basic, bearer, custom ...), an ``AuthManager``, or None.

        Raises:
            ExportConfigurationError: no server, wrong password, no such database, no study key.
        """
        super().__init__(config or Neo4jSinkConfig())
        if not study_key or not study_key.strip():
            raise ExportConfigurationError("study_key must not be empty")
        self.study_key = study_key
        self._where = redacted(uri)
        self._closed = threading.Event()
        self._database = connected(uri, auth, getattr(self.config, "database", "neo4j"))
        self._writer = Neo4jGraphWriter(self._database, {"export": study_key})
        self._places = ExportPlaces(self._database)
        self._size = TransactionSize(self.config.batch_size)
        self._are_all_new = not self.config.idempotent
        self._clock = SystemClock()

    def __repr__(self) -> str:
        return f"Neo4jExportSink({self._where!r}, study_key={self.study_key!r})"

    def write_batch(
        self, records: Sequence[Any], *, batch_id: str, read_at_ms: int | None = None
    ) -> int:
        """See `ExportSink.write_batch`. The path from the study to each record is made, too.

        ``read_at_ms``: the API's clock when these were read, in milliseconds since the epoch.
        Without it each record's ``dateModified`` orders its states: a second change within one
        second is then only seen with the next.
        """
        version_of = self._version_of(read_at_ms)
        rows, refused = api_objects(_RECORD, records)
        changes, unfit = changes_of(_RECORD, rows, self.study_key, version_of)
        if derived := derived_changes(rows, self.study_key):
            self._until_done(
                lambda: write_isolated(self._write_newer, derived, self._size), batch_id
            )
            owners = self._until_done(
                lambda: self._writer.subjects_of_visits(self.study_key, visits_of(rows)), batch_id
            )
            changes = [with_own_visit_only(change, owners) for change in changes]
        self._write_all(_RECORD, changes, refused + unfit, batch_id)
        return len(records)

    def write_kind(
        self, entity: Entity, rows: Sequence[Any], *, batch_id: str, read_at_ms: int
    ) -> int:
        """As `write_batch`, of any kind, as the API showed them, and of these entities alone."""
        version_of = self._version_of(read_at_ms)
        changes, refused = changes_of(entity, rows, self.study_key, version_of)
        self._write_all(entity, changes, refused, batch_id)
        return len(rows)

    def _write_all(
        self, entity: Entity, changes: list[NodeChange], refused: list[Refused], batch_id: str
    ) -> None:
        written = 0
        for start in range(0, len(changes), self.config.batch_size):
            part = changes[start : start + self.config.batch_size]
            isolated = self._until_done(
                lambda part=part: write_isolated(self._write, part, self._size),  # type: ignore[misc]
                batch_id,
            )
            refused += [Refused(each.item.identity.id, each.error.reason) for each in isolated]
            written += len(part) - len(isolated)
        if refused:
            log.error(
                "records that cannot be stored",
                batch_id=batch_id,
                ids=[each.id for each in refused],
                reasons=sorted({each.reason for each in refused}),
            )
            raise RecordsRefusedError(_said(entity, refused, written), batch_id=batch_id)

    def flush(self) -> None:
        """Nothing waits: each batch is acknowledged when its call returns."""

    def close(self) -> None:
        """See `ExportSink.close`. Blocks until calls of other threads have given up or ended."""
        if not self._closed.is_set():
            self._closed.set()
            self._database.close(_CLOSE_SECONDS_MAX)

    def place(self) -> str | None:
        """What `keep_place` has kept of this study's export."""
        return self._until_done(lambda: self._places.read(self.study_key), self.study_key)

    def keep_place(self, cursor: str | None) -> None:
        """Keep how far the export is, in the graph; None: it is through."""
        places, study = self._places, self.study_key
        self._until_done(
            lambda: places.forget(study) if cursor is None else places.keep(study, cursor), study
        )

    # ---------------------------------------------------------------------------------- writing

    def _version_of(self, read_at_ms: int | None) -> Callable[[Mapping[str, Any]], int]:
        if read_at_ms is not None:
            return lambda _: read_at_ms - _BEHIND_MS
        now_ms = self._clock.now_ms() - _BEHIND_MS
        return lambda row: handed_over_version(row, now_ms)

    def _write(self, changes: Sequence[NodeChange]) -> None:
        """In a transaction a kind; what is there with the same content is left alone.

        While batches are all new, as in a first load, it is not asked whether they are.
        """
        if self._are_all_new:
            if self._writer.create(changes):
                return
            self._are_all_new = False
        probed = self._writer.probe_content(changes)
        self._are_all_new = len(probed.absent) == len(changes)
        self._write_probed(changes, probed)

    def _write_newer(self, changes: Sequence[NodeChange]) -> None:
        versions = {change.identity: change.version for change in changes}
        self._write_probed(changes, self._writer.probe(versions))

    def _write_probed(self, changes: Sequence[NodeChange], probed: Probed) -> None:
        newer = probed.absent | probed.outdated
        if newer:
            self._writer.write([each for each in changes if each.identity in newer], probed.absent)

    def _until_done(self, step: Callable[[], T], batch_id: str) -> T:
        """What ``step`` returns; repeated after errors that may pass, as often as configured.

        Raises:
            ExportBatchError: it did not succeed.
            ExportError: the sink is closed.
        """
        backoff = Backoff(_WAIT_SECONDS_MAX, self.config.retry_backoff)
        for attempt in range(self.config.max_retries + 1):
            try:
                return step()
            except RetryableError as error:
                if self._closed.is_set():
                    raise ExportError("the export sink is closed") from None
                last = error
                if attempt < self.config.max_retries:
                    wait_seconds = backoff.next_wait(error.retry_after_seconds)
                    log.warning("trying again", reason=str(error), batch_id=batch_id)
                    self._clock.wait(self._closed, wait_seconds)
            except ConnectorError as error:
                raise ExportBatchError(f"batch {batch_id}: {error}", batch_id=batch_id) from None
        tries = self.config.max_retries + 1
        raise ExportBatchError(f"batch {batch_id} failed {tries} times: {last}", batch_id=batch_id)


def _said(entity: Entity, refused: list[Refused], written: int) -> str:
    named = [f"{each.id or 'without id'} ({each.reason})" for each in refused[:_NAMED_MAX]]
    if len(refused) > _NAMED_MAX:
        named.append(f"{len(refused) - _NAMED_MAX} more")
    return (
        f"{entity.plural} that cannot be stored: {', '.join(named)}; {written} others are written"
    )
