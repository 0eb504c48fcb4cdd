"""The sink's graph: `connector.interfaces.GraphWriter` on Neo4j."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from connector.events import Identity
from connector.graph import NodeChange
from connector.neo4j import cypher
from connector.neo4j.database import Neo4jDatabase


class Neo4jGraphWriter:
    """See `connector.interfaces.GraphWriter` for the contract of each call."""

    def __init__(self, database: Neo4jDatabase, metadata: Mapping[str, Any]) -> None:
        self._database = database
        self._metadata = dict(metadata)

    def newer(self, versions: Mapping[Identity, int]) -> set[Identity]:
        """One read-only query for each kind of entity."""
        by_entity: dict[str, list[Identity]] = defaultdict(list)
        for identity in versions:
            by_entity[identity.entity].append(identity)
        wanted: set[Identity] = set()
        for entity, identities in by_entity.items():
            rows = cypher.probe_rows(versions, identities)
            found = self._database.read(cypher.probe(entity), rows=rows)
            wanted.update(identities[index] for (index,) in found)
        return wanted

    def write(self, changes: Sequence[NodeChange]) -> None:
        """One transaction of one statement for each kind, parents first."""
        for statement in cypher.statements(changes):
            self._database.write(statement, {**self._metadata, "changes": len(statement.rows)})
