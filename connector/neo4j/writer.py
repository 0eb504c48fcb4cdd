"""The sink's graph: `connector.interfaces.GraphWriter` on Neo4j."""

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from functools import partial
from typing import Any

from connector.errors import InvalidEventError, RetryableError
from connector.interfaces import ProbeResult, Span, WriteResult
from connector.model.events import Identity
from connector.model.graph import NodeChange, key_values
from connector.model.properties import LINKS
from connector.neo4j import checkpoints, cypher, probes
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.failures import NODE_EXISTS
from connector.neo4j.statement import Statement


class Neo4jGraphWriter:
    """See `connector.interfaces.GraphWriter` for the contract of each call."""

    def __init__(
        self, database: Neo4jDatabase, metadata: Mapping[str, Any], *, force: bool = False
    ) -> None:
        """``force``: `write` also rewrites nodes that have the change's own version."""
        self._database = database
        self._metadata = dict(metadata)
        self._force = force

    def probe(self, versions: Mapping[Identity, int]) -> ProbeResult:
        """Run one read-only query for each kind of entity."""
        rows = {
            identity: [*key_values(identity), version] for identity, version in versions.items()
        }
        return self._run_probe(partial(probes.probe, force=self._force), rows)

    def probe_content(self, changes: Sequence[NodeChange]) -> ProbeResult:
        """Like `probe`, but also leaves out changes whose content the graph already has.

        For exports: they keep no history, and the next run picks up anything skipped.
        """
        rows = {
            change.identity: [
                *key_values(change.identity),
                change.version,
                change.content_hash or "",
                change.value(LINKS) or "",
            ]
            for change in changes
        }
        return self._run_probe(probes.probe_content, rows)

    def _run_probe(
        self, query: Callable[[str], str], rows: Mapping[Identity, list[Any]]
    ) -> ProbeResult:
        """Run ``query`` for each kind of entity and combine the results."""
        by_entity: dict[str, list[Identity]] = defaultdict(list)
        for identity in rows:
            by_entity[identity.entity].append(identity)
        result = ProbeResult(set(), set())
        for entity, identities in by_entity.items():
            wanted = [rows[identity] for identity in identities]
            ((absent, outdated),) = self._database.read(query(entity), wanted)
            result.absent.update(identities[index] for index in absent)
            result.outdated.update(identities[index] for index in outdated)
        return result

    def subjects_of_visits(self, study_key: str, visits: Sequence[int]) -> dict[int, int]:
        """The subject id of each of these visits, if the graph has one.

        Raises:
            ConnectorError: as `probe`.
        """
        rows = [[study_key, visit] for visit in visits]
        return {row[0]: row[1] for row in self._database.read(probes.SUBJECTS_OF_VISITS, rows)}

    def create(self, changes: Sequence[NodeChange]) -> bool:
        """Create nodes without probing; merge those that other changes refer to.

        Returns whether each change was written, unless the graph has a newer state. If a node to
        create exists, some may not be.

        Raises:
            ConnectorError: as `write`.
        """
        absent = {change.identity for change in changes}
        for statement in cypher.statements(changes, absent):
            try:
                self._database.write(statement, self._metadata)
            except InvalidEventError as error:
                if error.reason != NODE_EXISTS:
                    raise
                return False
        return True

    def write(
        self,
        changes: Sequence[NodeChange],
        absent: Container[Identity] = (),
        span: Span | None = None,
        *,
        advance: bool = False,
    ) -> WriteResult:
        """Run each statement in its own transaction, parents first."""
        were_absent = True
        statements = cypher.statements(changes, absent, force=self._force)
        for statement in statements:
            moves_checkpoint = advance and statement is statements[-1]
            if not self._write(statement, span, advance=moves_checkpoint):
                were_absent = False
        return WriteResult(were_absent)

    def _write(self, statement: Statement, span: Span | None, *, advance: bool) -> bool:
        """Run a statement; False if a node to create existed: the nodes were merged instead."""
        metadata = {**self._metadata, "changes": statement.count}
        try:
            self._database.write(statement, metadata, span, advance=advance)
        except InvalidEventError as error:
            if not statement.created or error.reason != NODE_EXISTS:
                raise
            self.write(statement.created, span=span, advance=advance)  # none absent: it merges
            return False
        return True

    def check_schema(self) -> None:
        """See `connector.interfaces.GraphWriter`."""
        if missing := self._database.missing_constraints():
            raise RetryableError(
                "Constraints are missing from the graph, so nothing is written. Run"
                f" `imednet-connector setup`, or: {'; '.join(missing)}"
            )

    def checkpoints(self, keys: Collection[str]) -> dict[str, int]:
        """See `connector.interfaces.GraphWriter`."""
        return {row[0]: row[1] for row in self._database.read(checkpoints.READ, list(keys))}

    def set_checkpoint(self, key: str, offset: int) -> None:
        """See `connector.interfaces.GraphWriter`."""
        rows = [{"key": key, "offset": offset}]
        self._database.write(Statement(checkpoints.SET, rows), self._metadata)

    def advance(self, span: Span) -> None:
        """See `connector.interfaces.GraphWriter`."""
        no_op = Statement("RETURN count(*)", [])
        self._database.write(no_op, self._metadata, span, advance=True)
