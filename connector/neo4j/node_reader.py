"""Reads nodes with everything they own, page by page in the order of their keys."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from connector.model.comparison import FoundLink, FoundNode, is_written
from connector.model.entities import ENTITIES, READ_KINDS
from connector.model.entity import Entity, Reference
from connector.model.events import EntityId, Identity
from connector.neo4j.cypher import DELETED_LABEL
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.patterns import node_pattern, relationship_pattern
from connector.neo4j.reader import to_native
from connector.neo4j.statement import ROWS

PAGE_NODES = 1000
_ODD_KEYS_MAX = 1000


class NodeReader:
    """The nodes of one graph. Every call blocks, and raises as `Neo4jDatabase.read`."""

    def __init__(self, database: Neo4jDatabase) -> None:
        self._database = database

    def studies(self) -> set[str]:
        """The keys of all studies of which the graph has a node."""
        found: set[str] = set()
        for entity in READ_KINDS.values():
            query = f"MATCH (n:{entity.label}) RETURN DISTINCT n.study_key"
            found.update(key for (key,) in self._database.read(query) if isinstance(key, str))
        return found

    def pages(self, entity: Entity, study_key: str) -> Iterator[list[FoundNode]]:
        """Yield all nodes of one kind in a study, in pages; those without a valid key come last."""
        after: EntityId = _lowest(entity)
        while True:
            rows = self._database.read(_page(entity.name), study=study_key, after=after)
            nodes = [_found(entity, study_key, row) for row in rows]
            yield nodes
            if len(nodes) < PAGE_NODES or entity.name == "study":
                break
            after = nodes[-1].identity.id
        if entity.name != "study":
            rows = self._database.read(
                _odd_keys(entity.name), study=study_key, after=_lowest(entity)
            )
            yield [_found(entity, study_key, row) for row in rows]

    def nodes(self, entity: Entity, study_key: str, ids: Sequence[EntityId]) -> list[FoundNode]:
        """Return the nodes with these ids; ids without a node are omitted."""
        rows = self._database.read(_by_key(entity.name), [[study_key, each] for each in ids])
        return [_found(entity, study_key, row) for row in rows]


def _lowest(entity: Entity) -> EntityId:
    """Below every valid id."""
    return 0 if entity.id_is_number else ""


@cache
def _page(entity_name: str) -> str:
    entity = ENTITIES[entity_name]
    if entity_name == "study":
        return f"MATCH (n:{entity.label} {{study_key: $study}}) {_returned(entity)}"
    own_id = f"n.{entity.key_properties[-1]}"
    return (
        f"MATCH (n:{entity.label}) WHERE n.study_key = $study AND {own_id} > $after"
        f" WITH n ORDER BY {own_id} LIMIT {PAGE_NODES} {_returned(entity)}"
    )


@cache
def _odd_keys(entity_name: str) -> str:
    """Nodes whose id no page finds: it is absent, of another type, or not positive."""
    entity = ENTITIES[entity_name]
    return (
        f"MATCH (n:{entity.label}) WHERE n.study_key = $study"
        f" AND NOT coalesce(n.{entity.key_properties[-1]} > $after, false)"
        f" WITH n LIMIT {_ODD_KEYS_MAX} {_returned(entity)}"
    )


@cache
def _by_key(entity_name: str) -> str:
    entity = ENTITIES[entity_name]
    return (
        f"UNWIND {ROWS} AS row MATCH {node_pattern('n', entity, 'row[0]', 'row[1]')}"
        f" {_returned(entity)}"
    )


def _returned(entity: Entity) -> str:
    links = ", ".join(map(_links, entity.owned_references))
    parts = ", ".join(
        f"[(n)-[:{each.relationship}]->(part:{each.label}) | properties(part)]"
        for each in entity.parts
    )
    return (
        f"RETURN n:{DELETED_LABEL} AS is_deleted, properties(n) AS properties,"
        f" [{links}] AS links, [{parts}] AS parts"
    )


def _links(reference: Reference) -> str:
    """Build the list of the node's relationships of one type: ``[kind, study, id, properties]``."""
    kinds = [ENTITIES[target.entity] for target in reference.targets]
    names = " ".join(f"WHEN p:{kind.label} THEN '{kind.name}'" for kind in kinds)
    ids = " ".join(f"WHEN p:{kind.label} THEN p.{kind.key_properties[-1]}" for kind in kinds)
    pattern = relationship_pattern("p", reference, "r")
    return f"[{pattern} | [CASE {names} ELSE '' END, p.study_key, CASE {ids} END, properties(r)]]"


def _found(entity: Entity, study_key: str, row: Sequence[Any]) -> FoundNode:
    is_deleted, properties, links, parts = row
    own_id = properties.get(entity.key_properties[-1])
    if type(own_id) not in (int, str):
        own_id = f"({own_id})"  # no event has such an id
    return FoundNode(
        Identity(study_key, entity.name, own_id),
        is_deleted,
        {name: to_native(value) for name, value in properties.items() if is_written(name)},
        [[FoundLink(*link) for link in each] for each in links],
        parts,
    )
