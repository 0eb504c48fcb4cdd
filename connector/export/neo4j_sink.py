"""Writes batches of records to Neo4j by the stream's model, versions and guard, without Kafka."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from connector.clock import SystemClock
from connector.export.attempts import Attempts
from connector.export.config import Neo4jSinkConfig, SinkConfig, types_values
from connector.export.connecting import connected, redacted
from connector.export.errors import ExportConfigurationError
from connector.export.outcome import raise_refused
from connector.export.rows import (
    ReadRows,
    RefusedRow,
    api_objects,
    changes_of,
    parent_changes,
    visits_of,
    without_foreign_visit,
)
from connector.export.sink import ExportSink, iter_batches
from connector.export.supplied_records import (
    BEHIND_MS,
    decide,
    refer_to_each_other,
    subject_keys_without_id,
    versions,
    with_subject_ids,
)
from connector.export.vanished import IdRange
from connector.interfaces import ProbeResult, WriteResult
from connector.model.entities import ENTITIES
from connector.model.entity import Entity
from connector.model.events import Identity
from connector.model.graph import NodeChange, deletion
from connector.model.typed_values import NO_DEFINITIONS, Definitions
from connector.neo4j.export_positions import ExportPositions, StoredPosition
from connector.neo4j.export_queries import ExportQueries
from connector.neo4j.writer import Neo4jGraphWriter
from connector.sink.batch import TransactionSize
from connector.sink.bisection import write_bisecting
from connector.sink.first_load import FirstLoad

log = structlog.stdlib.get_logger("connector.export")

_CLOSE_SECONDS_MAX = 60.0
_RECORD = ENTITIES["record"]


class Neo4jExportSink(ExportSink):
    """Writes records of one study. Thread-safe.

    Usage::

        with Neo4jExportSink("bolt://localhost:7687", ("neo4j", password), "MYSTUDY") as sink:
            sink.write_batch(records, batch_id="MYSTUDY/records/0")

    Records are SDK models, their dicts, or API objects. A record that is written twice, even
    concurrently, is stored once. A record whose content the graph already has is left alone, and
    a newer state from a stream is never overwritten. Missing constraints are created.

    With ``idempotent=False`` nodes are created without probing from the first batch on; otherwise
    from the second on, while all are new. That saves one query. It is as safe as the default, 1.0
    times as fast on an empty graph (measured: docs/benchmarks.md), and as slow on a full one.
    """

    def __init__(
        self,
        uri: str,
        auth: Any,
        study_key: str,
        *,
        config: SinkConfig | None = None,
    ) -> None:
        """Connect, and create missing constraints. Blocks.

        ``auth`` is whatever the driver accepts: ``(user, password)``, ``(user, password, realm)``,
        a ``neo4j.Auth`` (basic, bearer, custom ...), an ``AuthManager``, or None.

        Raises:
            ExportConfigurationError: no server, wrong password, no such database, empty study key,
                or a study that the SDK's own export module wrote; the message says what to do.
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
        self._positions = ExportPositions(self._database)
        self._size = TransactionSize(self.config.batch_size)
        self._first_load = FirstLoad(is_assumed=not self.config.idempotent)

    def __repr__(self) -> str:
        return f"Neo4jExportSink({self._where!r}, study_key={self.study_key!r})"

    def write_batch(
        self, records: Iterable[Any], *, batch_id: str, read_at_ms: int | None = None
    ) -> int:
        """See `ExportSink.write_batch`. Also creates the path from the study to each record.

        A record that names its subject by ``subject_key`` alone is attached to the subject that
        has this key in the graph; if none has it, or several have, to its study.

        ``read_at_ms``: the API's clock when these were read, in milliseconds since the epoch.
        Without it each record's ``dateModified`` orders its states; of two states with the same
        date, the one handed over later is the newer one. A record with a newer state in the graph
        is left alone: it is not counted, and a warning gives the number of such records.

        Values are typed by the definitions that the graph has, as a stream's are.
        """
        written, refused, definitions = 0, list[RefusedRow](), self.definitions()
        for part in iter_batches(records, self._size.events):
            written += self._write_part(part, refused, batch_id, read_at_ms, definitions)
        raise_refused(_RECORD, refused, written, batch_id)
        return written

    def write_kind(
        self, entity: Entity, batch: Sequence[ReadRows], *, batch_id: str,
        definitions: Definitions = NO_DEFINITIONS,
    ) -> None:  # fmt: skip
        """Like `write_batch`, for API rows of any kind; ``definitions`` type form variables."""
        newest, refused = dict[Identity, NodeChange](), list[RefusedRow]()
        for rows, at_ms in batch:
            version_of = versions(at_ms, self._clock.now_ms())
            found = changes_of(entity, rows, self.study_key, version_of, definitions)
            for identity, change in found.newest.items():
                before = newest.setdefault(identity, change)
                if before.version <= change.version:
                    newest[identity] = change
            refused += found.refused
        for part in iter_batches(newest.values(), self._size.events):
            refused += self._write_bisecting(self._write, part, batch_id)
        count = sum(len(rows) for rows, _ in batch)
        raise_refused(entity, refused, count - len(refused), batch_id)

    def definitions(self) -> Definitions:
        """The variable definitions that the graph has now, unless values are to stay text.

        The graph's, not the API's: so that an export types as the stream that also writes the study
        does, even if the API refuses or misses them at this moment. Raises as `write_kind`.
        """
        if not types_values(self.config):
            return NO_DEFINITIONS
        queries, study = self._queries, self.study_key
        return self._attempts.until_done(lambda: queries.definitions(study), study)

    def unlisted(self, entity: Entity, span: IdRange, limit: int) -> list[int]:
        """The ids of live nodes in this range that no page listed. Raises as `write_kind`."""
        queries, study = self._queries, self.study_key
        return self._attempts.until_done(
            lambda: queries.unlisted(entity, study, span.low, span.high, span.listed, limit), study
        )

    def delete_kind(self, entity: Entity, gone: Mapping[int, int]) -> None:
        """Delete these entities; nodes with a newer state are kept. Raises as `write_kind`.

        ``gone``: the API's clock (ms) when each was found missing, by id.
        """
        deletions = (
            deletion(Identity(self.study_key, entity.name, each), at_ms - BEHIND_MS)
            for each, at_ms in sorted(gone.items())
        )
        for number, part in enumerate(iter_batches(deletions, self.config.batch_size)):
            batch_id = f"{self.study_key}/{entity.plural}/deleted/{number}"
            refused = self._write_bisecting(self._writer.write, part, batch_id)
            raise_refused(entity, refused, len(part) - len(refused), batch_id)

    def _write_part(
        self, records: list[Any], refused: list[RefusedRow], batch_id: str,
        read_at_ms: int | None, definitions: Definitions,
    ) -> int:  # fmt: skip
        """Write records of one batch; returns how many of them the graph now has."""
        rows, not_records = api_objects(_RECORD, records)
        rows = self._resolve_subjects(rows, batch_id)
        version_of = versions(read_at_ms, self._clock.now_ms())
        found = changes_of(_RECORD, rows, self.study_key, version_of, definitions)
        changes = self._write_path(found.rows, list(found.newest.values()), batch_id)
        left_alone: set[Identity] = set()

        def write(part: Sequence[NodeChange]) -> None:
            left_alone.update(self._write_decided(part, are_dated=read_at_ms is None))

        isolated = self._write_bisecting(write, changes, batch_id)
        refused += [*not_records, *found.refused, *isolated]
        stale = found.superseded + sum(found.counts[each] for each in left_alone)
        if stale:
            log.warning(
                "records left alone: the graph has a newer state", records=stale, batch_id=batch_id
            )
        return len(records) - len(not_records) - len(found.refused) - len(isolated) - stale

    def _resolve_subjects(self, rows: list[dict[str, Any]], batch_id: str) -> list[dict[str, Any]]:
        keys = subject_keys_without_id(rows)
        if not keys:
            return rows
        in_graph = self._attempts.until_done(
            lambda: self._queries.subjects_of_keys(self.study_key, keys), batch_id
        )
        resolved = with_subject_ids(rows, in_graph)
        if resolved.unresolved_rows:
            log.warning(
                "subjects not resolved: no subject, or several, with the key",
                records=resolved.unresolved_rows,
                subject_keys=resolved.unresolved_keys,
                batch_id=batch_id,
            )
        return resolved.rows

    def _write_path(
        self, rows: list[dict[str, Any]], changes: list[NodeChange], batch_id: str
    ) -> list[NodeChange]:
        """Write the nodes between study and records; returns the changes with links to them."""
        derived = parent_changes(rows, self.study_key)
        if not derived:
            return changes
        self._write_bisecting(self._write_newer, derived, batch_id)
        owners = self._attempts.until_done(
            lambda: self._writer.subjects_of_visits(self.study_key, visits_of(rows)), batch_id
        )
        return [without_foreign_visit(change, owners) for change in changes]

    def _write_bisecting(
        self,
        write: Callable[[Sequence[NodeChange]], object],
        changes: Sequence[NodeChange],
        batch_id: str,
    ) -> list[RefusedRow]:
        """Write all changes that the database accepts; returns the refused rows."""
        if not changes:
            return []
        isolated = self._attempts.until_done(
            lambda: write_bisecting(write, changes, self._size), batch_id
        )
        return [RefusedRow(each.item.identity.id, each.error.reason) for each in isolated]

    def flush(self) -> None:
        """Does nothing: each batch is acknowledged when its call returns."""

    def close(self) -> None:
        """See `ExportSink.close`. Waits up to a minute for calls of other threads to end."""
        if not self._attempts.is_closed:
            self._attempts.close()
            self._database.close(_CLOSE_SECONDS_MAX)

    def stored_position(self) -> StoredPosition | None:
        """The position of this study's export, as `store_position` stored it."""
        positions, study = self._positions, self.study_key
        return self._attempts.until_done(lambda: positions.read(study), study)

    def store_position(self, position: StoredPosition | None) -> None:
        """Store the export's position in the graph; None (export complete) deletes it."""
        positions, study = self._positions, self.study_key
        self._attempts.until_done(
            lambda: positions.keep(study, position) if position else positions.forget(study), study
        )

    def _write(self, changes: Sequence[NodeChange]) -> None:
        """Write changes, one transaction per kind; nodes with the same content are left alone.

        While batches are all new, as in a first load, they are not probed.
        """
        if self._first_load.is_assumed and self._create(changes):
            return
        probed = self._writer.probe_content(changes)
        self._first_load.note_probe(all_absent=len(probed.absent) == len(changes))
        self._write_probed(changes, probed)

    def _write_decided(self, changes: Sequence[NodeChange], *, are_dated: bool) -> set[Identity]:
        """Like `_write`, for records handed over; returns those with a newer state in the graph."""
        is_assumed = self._first_load.is_assumed and not refer_to_each_other(changes)
        if is_assumed and self._create(changes):
            return set()
        states = self._queries.states(change.identity for change in changes)
        self._first_load.note_probe(all_absent=not states)
        decision = decide(changes, states, are_dated=are_dated)
        if decision.changes:
            self._writer.write(decision.changes, decision.absent)
        return decision.left_alone

    def _create(self, changes: Sequence[NodeChange]) -> bool:
        are_written = self._writer.create(changes)
        self._first_load.note_write(WriteResult(are_written))
        return are_written

    def _write_newer(self, changes: Sequence[NodeChange]) -> None:
        wanted = {change.identity: change.version for change in changes}
        self._write_probed(changes, self._writer.probe(wanted))

    def _write_probed(self, changes: Sequence[NodeChange], probed: ProbeResult) -> None:
        needed = probed.absent | probed.outdated
        if needed:
            self._writer.write([each for each in changes if each.identity in needed], probed.absent)
