"""The sink's graph: `connector.interfaces.GraphWriter` on Neo4j."""

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from connector.errors import InvalidEventError
from connector.events import Identity
from connector.graph import NodeChange
from connector.interfaces import Probed
from connector.neo4j import cypher
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.failures import NODE_EXISTS


class Neo4jGraphWriter:
    """See `connector.interfaces.GraphWriter` for the contract of each call."""

    def __init__(self, database: Neo4jDatabase, metadata: Mapping[str, Any]) -> None:
        self._database = database
        self._metadata = dict(metadata)

    def probe(self, versions: Mapping[Identity, int]) -> Probed:
        """One read-only query for each kind of entity."""
        by_entity: dict[str, list[Identity]] = defaultdict(list)
        for identity in versions:
            by_entity[identity.entity].append(identity)
        probed = Probed(set(), set())
        for entity, identities in by_entity.items():
            rows = cypher.probe_rows(versions, identities)
            ((absent, there),) = self._database.read(cypher.probe(entity), rows)
            probed.absent.update(identities[index] for index in absent)
            probed.outdated.update(identities[index] for index in there)
        return probed

    def write(self, changes: Sequence[NodeChange], absent: Container[Identity] = ()) -> None:
        """One transaction of one statement for each kind, parents first."""
        for statement in cypher.statements(changes, absent):
            metadata = {**self._metadata, "changes": len(statement.rows)}
            try:
                self._database.write(statement, metadata)
            except InvalidEventError as error:
                if statement.guarded is None or error.reason != NODE_EXISTS:
                    raise
                self._database.write(replace(statement, cypher=statement.guarded), metadata)
