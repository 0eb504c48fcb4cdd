"""Batches of records into Neo4j: the stream's model, versions and guard, without the stream."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from connector.clock import SystemClock
from connector.export.attempts import Attempts
from connector.export.config import Neo4jSinkConfig, SinkConfig
from connector.export.connecting import connected, redacted
from connector.export.errors import (
    ExportConfigurationError,
    RecordsRefusedError,
)
from connector.export.handed_over import (
    decide,
    handed_over_version,
    subject_keys_without_id,
    with_subject_ids,
)
from connector.export.outcome import refused_text
from connector.export.rows import (
    RefusedRow,
    api_objects,
    changes_of,
    deletion_of,
    derived_changes,
    visits_of,
    with_own_visit_only,
)
from connector.export.sink import ExportSink, iter_batches
from connector.export.vanished import IdRange
from connector.interfaces import ProbeResult
from connector.model.entities import ENTITIES, Entity
from connector.model.events import Identity
from connector.model.graph import NodeChange
from connector.neo4j.export_places import ExportPlaces, KeptPlace
from connector.neo4j.export_queries import ExportQueries
from connector.neo4j.writer import Neo4jGraphWriter
from connector.sink.batch import TransactionSize
from connector.sink.isolate import write_isolated
from connector.sink.novelty import Novelty

log = structlog.stdlib.get_logger("connector.export")

_BEHIND_MS = 1000
"""The API's clock says whole seconds: what a stream reads within the same second is newer."""
_CLOSE_SECONDS_MAX = 60.0
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
            ExportConfigurationError: no server, wrong password, no such database, no study key,
                or the SDK's own export module has written the study; says what to do.
        """
        super().__init__(config or Neo4jSinkConfig())
        if not study_key or not study_key.strip():
            raise ExportConfigurationError("study_key must not be empty")
        self.study_key = study_key
        self._where = redacted(uri)
        self._clock = SystemClock()
        self._attempts = Attempts(self.config, self._clock)
        database_name = getattr(self.config, "database", "neo4j")
        self._database = connected(uri, auth, database_name, study_key)
        self._writer = Neo4jGraphWriter(self._database, {"export": study_key})
        self._queries = ExportQueries(self._database)
        self._places = ExportPlaces(self._database)
        self._size = TransactionSize(self.config.batch_size)
        self._novelty = Novelty(is_assumed=not self.config.idempotent)

    def __repr__(self) -> str:
        return f"Neo4jExportSink({self._where!r}, study_key={self.study_key!r})"

    def write_batch(
        self, records: Iterable[Any], *, batch_id: str, read_at_ms: int | None = None
    ) -> int:
        """See `ExportSink.write_batch`. The path from the study to each record is made, too.

        A record that names its subject by ``subject_key`` alone is attached to the subject that
        has this key in the graph. Where there is none, or several, it hangs on its study.

        ``read_at_ms``: the API's clock when these were read, in milliseconds since the epoch.
        Without it each record's ``dateModified`` orders its states; of two states with the same
        date, the one that is handed over later is the newer one. A record of which the graph has
        a newer state is left alone: it is not counted, and a warning says how many there were.
        """
        written, refused = 0, list[RefusedRow]()
        for part in iter_batches(records, self.config.batch_size):
            written += self._write_part(part, refused, batch_id, read_at_ms)
        self._raise_refused(_RECORD, refused, written, batch_id)
        return written

    def write_kind(
        self, entity: Entity, rows: Sequence[Any], *, batch_id: str, read_at_ms: int
    ) -> int:
        """As `write_batch`, of any kind, as the API showed them, and of these entities alone."""
        found = changes_of(entity, rows, self.study_key, self._version_of(read_at_ms))
        refused = found.refused
        for part in iter_batches(found.newest.values(), self.config.batch_size):
            refused += self._isolated(self._write, part, batch_id)
        self._raise_refused(entity, refused, len(rows) - len(refused), batch_id)
        return len(rows)

    def unlisted(self, entity: Entity, span: IdRange, limit: int) -> list[int]:
        """The ids of live nodes in this range that are not listed. Raises as `write_kind`."""
        queries, study = self._queries, self.study_key
        return self._attempts.until_done(
            lambda: queries.unlisted(entity, study, span.low, span.high, span.listed, limit), study
        )

    def delete_kind(self, entity: Entity, gone: Mapping[int, int]) -> None:
        """Delete these, each as the API showed it at this time. Raises as `write_kind`.

        A node of which the graph has a newer state stays.
        """
        deletions = (
            deletion_of(entity, each, self.study_key, at_ms - _BEHIND_MS)
            for each, at_ms in sorted(gone.items())
        )
        for number, part in enumerate(iter_batches(deletions, self.config.batch_size)):
            batch_id = f"{self.study_key}/{entity.plural}/deleted/{number}"
            refused = self._isolated(self._write_deletes, part, batch_id)
            self._raise_refused(entity, refused, len(part) - len(refused), batch_id)

    def _write_part(
        self, records: list[Any], refused: list[RefusedRow], batch_id: str, read_at_ms: int | None
    ) -> int:
        """Write records of one batch; how many the graph has now."""
        rows, no_records = api_objects(_RECORD, records)
        rows = self._with_subjects(rows, batch_id)
        found = changes_of(_RECORD, rows, self.study_key, self._version_of(read_at_ms))
        changes = self._with_path(rows, list(found.newest.values()), batch_id)
        left_alone: set[Identity] = set()

        def write(part: Sequence[NodeChange]) -> None:
            left_alone.update(self._write_decided(part, are_dated=read_at_ms is None))

        isolated = self._isolated(write, changes, batch_id)
        refused += [*no_records, *found.refused, *isolated]
        left = found.superseded + sum(found.counts[each] for each in left_alone)
        if left:
            log.warning(
                "records left alone: the graph has a newer state", records=left, batch_id=batch_id
            )
        return len(records) - len(no_records) - len(found.refused) - len(isolated) - left

    def _with_subjects(self, rows: list[dict[str, Any]], batch_id: str) -> list[dict[str, Any]]:
        keys = subject_keys_without_id(rows)
        if not keys:
            return rows
        in_graph = self._attempts.until_done(
            lambda: self._queries.subjects_of_keys(self.study_key, keys), batch_id
        )
        resolved = with_subject_ids(rows, in_graph)
        if resolved.unresolved_rows:
            log.warning(
                "records without their subject: the graph has none, or several, of its key",
                records=resolved.unresolved_rows,
                subject_keys=resolved.unresolved_keys,
                batch_id=batch_id,
            )
        return resolved.rows

    def _with_path(
        self, rows: list[dict[str, Any]], changes: list[NodeChange], batch_id: str
    ) -> list[NodeChange]:
        """Make the nodes between study and records; the changes, each with its place there."""
        derived = derived_changes(rows, self.study_key)
        if not derived:
            return changes
        self._isolated(self._write_newer, derived, batch_id)
        owners = self._attempts.until_done(
            lambda: self._writer.subjects_of_visits(self.study_key, visits_of(rows)), batch_id
        )
        return [with_own_visit_only(change, owners) for change in changes]

    def _isolated(
        self,
        write: Callable[[Sequence[NodeChange]], None],
        changes: Sequence[NodeChange],
        batch_id: str,
    ) -> list[RefusedRow]:
        """Write what can be written; what the database refuses."""
        if not changes:
            return []
        isolated = self._attempts.until_done(
            lambda: write_isolated(write, changes, self._size), batch_id
        )
        return [RefusedRow(each.item.identity.id, each.error.reason) for each in isolated]

    def _raise_refused(
        self, entity: Entity, refused: list[RefusedRow], written: int, batch_id: str
    ) -> None:
        if refused:
            log.error(
                "records that cannot be stored",
                batch_id=batch_id,
                ids=[each.id for each in refused],
                reasons=sorted({each.reason for each in refused}),
            )
            raise RecordsRefusedError(refused_text(entity, refused, written), batch_id=batch_id)

    def flush(self) -> None:
        """Nothing waits: each batch is acknowledged when its call returns."""

    def close(self) -> None:
        """See `ExportSink.close`. Blocks until calls of other threads have given up or ended."""
        if not self._attempts.is_closed:
            self._attempts.close()
            self._database.close(_CLOSE_SECONDS_MAX)

    def place(self) -> KeptPlace | None:
        """What `keep_place` has kept of this study's export."""
        return self._attempts.until_done(lambda: self._places.read(self.study_key), self.study_key)

    def keep_place(self, place: KeptPlace | None) -> None:
        """Keep how far the export is, in the graph; None: it is complete."""
        places, study = self._places, self.study_key
        self._attempts.until_done(
            lambda: places.forget(study) if place is None else places.keep(study, place), study
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
        if self._novelty.is_assumed and self._has_created(changes):
            return
        probed = self._writer.probe_content(changes)
        self._novelty.probed(all_absent=len(probed.absent) == len(changes))
        self._write_probed(changes, probed)

    def _write_decided(self, changes: Sequence[NodeChange], *, are_dated: bool) -> set[Identity]:
        """As `_write`, of records that are handed over; those that the graph has newer."""
        if self._novelty.is_assumed and self._has_created(changes):
            return set()
        states = self._queries.states(change.identity for change in changes)
        self._novelty.probed(all_absent=not states)
        decision = decide(changes, states, are_dated=are_dated)
        if decision.changes:
            self._writer.write(decision.changes, decision.absent)
        return decision.left_alone

    def _has_created(self, changes: Sequence[NodeChange]) -> bool:
        result = self._writer.create(changes)
        self._novelty.wrote(result)
        return result.were_absent

    def _write_newer(self, changes: Sequence[NodeChange]) -> None:
        versions = {change.identity: change.version for change in changes}
        self._write_probed(changes, self._writer.probe(versions))

    def _write_probed(self, changes: Sequence[NodeChange], probed: ProbeResult) -> None:
        newer = probed.absent | probed.outdated
        if newer:
            self._writer.write([each for each in changes if each.identity in newer], probed.absent)

    def _write_deletes(self, changes: Sequence[NodeChange]) -> None:
        self._writer.write(changes)
