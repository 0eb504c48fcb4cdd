"""Reads nodes with everything they own, page by page in the order of their keys."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from connector.model.comparison import FoundLink, FoundNode, is_written
from connector.model.entities import ENTITIES, READ_KINDS
from connector.model.entity import Entity, PartList, Reference
from connector.model.events import EntityId, Identity
from connector.neo4j.cypher import DELETED_LABEL
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.patterns import node_pattern, relationship_pattern
from connector.neo4j.reader import to_native
from connector.neo4j.statement import ROWS

PAGE_NODES = 1000
_STRAYS_MAX = 1000


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
        """Yield all nodes of one kind in a study, in pages; the strays come last."""
        after: EntityId = _lowest(entity)
        while True:
            rows = self._database.read(_page(entity.name), study=study_key, after=after)
            nodes = [_found(entity, study_key, row) for row in rows]
            yield nodes
            if len(nodes) < PAGE_NODES or entity.name == "study":
                break
            after = nodes[-1].identity.id
        yield self.strays(entity, study_key)

    def strays(self, entity: Entity, study_key: str) -> list[FoundNode]:
        """Return nodes of one kind without a valid id, and parts without an owner of the kind.

        At most 1 000 of each, under ids that no entity has.
        """
        found = []
        if entity.name != "study":
            rows = self._database.read(
                _without_id(entity.name), study=study_key, after=_lowest(entity)
            )
            found += [_found(entity, study_key, row[1:], f"node {row[0]}") for row in rows]
        for part in entity.parts:
            rows = self._database.read(_without_owner(entity, part), study=study_key)
            found += [
                FoundNode(Identity(study_key, entity.name, f"({part.label} {node})"), False, own)
                for node, own in rows
            ]
        return found

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
    return (
        f"MATCH (n:{entity.label}) WHERE n.study_key = $study AND {_is_valid_id(entity)}"
        f" WITH n ORDER BY n.{entity.key_properties[-1]} LIMIT {PAGE_NODES} {_returned(entity)}"
    )


@cache
def _without_id(entity_name: str) -> str:
    entity = ENTITIES[entity_name]
    return (
        f"MATCH (n:{entity.label}) WHERE n.study_key = $study"
        f" AND NOT coalesce({_is_valid_id(entity)}, false)"
        f" WITH n LIMIT {_STRAYS_MAX} {_returned(entity, 'elementId(n)')}"
    )


def _is_valid_id(entity: Entity) -> str:
    """Whether the id is above ``$after`` and of the kind's type; a float is not, though equal."""
    own_id = f"n.{entity.key_properties[-1]}"
    kind = "INTEGER" if entity.id_is_number else "STRING"
    return f"{own_id} > $after AND {own_id} IS :: {kind} NOT NULL"


def _without_owner(entity: Entity, part: PartList) -> str:
    return (
        f"MATCH (n:{part.label}) WHERE n.study_key = $study"
        f" AND NOT EXISTS {{ (:{entity.label})-[:{part.relationship}]->(n) }}"
        f" RETURN elementId(n), properties(n) LIMIT {_STRAYS_MAX}"
    )


@cache
def _by_key(entity_name: str) -> str:
    entity = ENTITIES[entity_name]
    return (
        f"UNWIND {ROWS} AS row MATCH {node_pattern('n', entity, 'row[0]', 'row[1]')}"
        f" {_returned(entity)}"
    )


def _returned(entity: Entity, *columns: str) -> str:
    links = ", ".join(map(_links, entity.owned_references))
    parts = ", ".join(
        f"[(n)-[:{each.relationship}]->(part:{each.label}) | properties(part)]"
        for each in entity.parts
    )
    first = "".join(f"{column}, " for column in columns)
    return (
        f"RETURN {first}n:{DELETED_LABEL} AS is_deleted, properties(n) AS properties,"
        f" [{links}] AS links, [{parts}] AS parts"
    )


def _links(reference: Reference) -> str:
    """Build the list of the node's relationships of one type: ``[kind, study, id, properties]``."""
    kinds = [ENTITIES[target.entity] for target in reference.targets]
    names = " ".join(f"WHEN p:{kind.label} THEN '{kind.name}'" for kind in kinds)
    ids = " ".join(f"WHEN p:{kind.label} THEN p.{kind.key_properties[-1]}" for kind in kinds)
    pattern = relationship_pattern("p", reference, "r")
    return f"[{pattern} | [CASE {names} ELSE '' END, p.study_key, CASE {ids} END, properties(r)]]"


def _found(
    entity: Entity, study_key: str, row: Sequence[Any], stray: str | None = None
) -> FoundNode:
    """Return the node; ``stray`` tells one without a valid id from others."""
    is_deleted, properties, links, parts = row
    own_id = properties.get(entity.key_properties[-1])
    if stray is not None:
        own_id = f"({own_id}, {stray})"  # no event has such an id
    return FoundNode(
        Identity(study_key, entity.name, own_id),
        is_deleted,
        {name: to_native(value) for name, value in properties.items() if is_written(name)},
        [[FoundLink(*link) for link in each] for each in links],
        parts,
    )
