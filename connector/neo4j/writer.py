"""The sink's graph: `connector.interfaces.GraphWriter` on Neo4j."""

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Any

from connector.errors import InvalidEventError, RetryableError
from connector.interfaces import ProbeResult, Span, WriteResult
from connector.model.events import Identity
from connector.model.graph import NodeChange, key_values
from connector.neo4j import checkpoints, cypher
from connector.neo4j.cypher import Statement
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.failures import NODE_EXISTS


class Neo4jGraphWriter:
    """See `connector.interfaces.GraphWriter` for the contract of each call."""

    def __init__(self, database: Neo4jDatabase, metadata: Mapping[str, Any]) -> None:
        self._database = database
        self._metadata = dict(metadata)

    def probe(self, versions: Mapping[Identity, int]) -> ProbeResult:
        """One read-only query for each kind of entity."""
        rows = {who: [*key_values(who), version] for who, version in versions.items()}
        return self._probed(cypher.probe, rows)

    def probe_content(self, changes: Sequence[NodeChange]) -> ProbeResult:
        """As `probe`, but what the graph has with the same content need not be written either.

        For who has no history to put in order: an export, whose next one brings what it missed.
        """
        rows = {
            change.identity: [
                *key_values(change.identity),
                change.version,
                change.content_hash or "",
            ]
            for change in changes
        }
        return self._probed(cypher.probe_content, rows)

    def _probed(
        self, query: Callable[[str], str], rows: Mapping[Identity, list[Any]]
    ) -> ProbeResult:
        """What ``query`` of each kind of entity answers."""
        by_entity: dict[str, list[Identity]] = defaultdict(list)
        for identity in rows:
            by_entity[identity.entity].append(identity)
        probed = ProbeResult(set(), set())
        for entity, identities in by_entity.items():
            asked = [rows[identity] for identity in identities]
            ((absent, there),) = self._database.read(query(entity), asked)
            probed.absent.update(identities[index] for index in absent)
            probed.outdated.update(identities[index] for index in there)
        return probed

    def subjects_of_visits(self, study_key: str, visits: Sequence[int]) -> dict[int, int]:
        """The subject that each of these visits belongs to, where the graph knows it.

        Raises:
            ConnectorError: as `probe`.
        """
        rows = [[study_key, visit] for visit in visits]
        return {row[0]: row[1] for row in self._database.read(cypher.OWNERS, rows)}

    def create(self, changes: Sequence[NodeChange]) -> WriteResult:
        """Write nodes that are not there yet. Where one is there, not all are written.

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
                return WriteResult(were_absent=False)
        return WriteResult(were_absent=True)

    def write(
        self,
        changes: Sequence[NodeChange],
        absent: Container[Identity] = (),
        span: Span | None = None,
        *,
        advance: bool = False,
    ) -> WriteResult:
        """One transaction of one statement for each kind, parents first."""
        were_absent = True
        statements = cypher.statements(changes, absent)
        for statement in statements:
            moves = advance and statement is statements[-1]
            if not self._write(statement, span, advance=moves):
                were_absent = False
        return WriteResult(were_absent)

    def _write(self, statement: Statement, span: Span | None, *, advance: bool) -> bool:
        """False where nodes that it was to create were there already: then they are merged."""
        metadata = {**self._metadata, "changes": statement.count}
        try:
            self._database.write(statement, metadata, span, advance=advance)
        except InvalidEventError as error:
            if not statement.created or error.reason != NODE_EXISTS:
                raise
            (guarded,) = cypher.statements(statement.created)
            self._database.write(guarded, metadata, span, advance=advance)
            return False
        return True

    def check_schema(self) -> None:
        """See `connector.interfaces.GraphWriter`."""
        if missing := self._database.missing_constraints():
            raise RetryableError(
                "the graph lacks constraints, so nothing is written: run"
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
        nothing = Statement("RETURN count(*)", [])
        self._database.write(nothing, self._metadata, span, advance=True)
