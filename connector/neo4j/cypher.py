"""Graph changes to Cypher statements with parameters, and the constraints. Pure text and values.

Names in statements come from `connector.entities` only; everything from events is a parameter.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from connector.entities import ENTITIES, Entity, Reference
from connector.events import Identity
from connector.graph import NodeChange, key_map

DELETED_LABEL = "Deleted"
_ORDER = {name: index for index, name in enumerate(ENTITIES)}


@dataclass(frozen=True, slots=True)
class Statement:
    """Cypher with one parameter, ``rows``."""

    cypher: str
    rows: list[dict[str, Any]]


# ------------------------------------------------------------------------------------ constraints


@dataclass(frozen=True, slots=True)
class SchemaItem:
    """A uniqueness constraint or an index. A sink cannot be right without the constraints."""

    name: str
    label: str
    properties: tuple[str, ...]
    is_constraint: bool

    @property
    def cypher(self) -> str:
        """The statement that makes it where it is missing."""
        names = ", ".join(f"n.{name}" for name in self.properties)
        if self.is_constraint:
            return (
                f"CREATE CONSTRAINT {self.name} IF NOT EXISTS FOR (n:{self.label})"
                f" REQUIRE ({names}) IS UNIQUE"
            )
        return f"CREATE INDEX {self.name} IF NOT EXISTS FOR (n:{self.label}) ON ({names})"


def schema() -> list[SchemaItem]:
    """All constraints and indexes, by the table of entities."""
    items = []
    for entity in ENTITIES.values():
        key = f"imednet_{entity.name}_key"
        items.append(SchemaItem(key, entity.label, entity.key_properties, is_constraint=True))
        for name in entity.indexed:
            index = f"imednet_{entity.name}_{name}"
            items.append(SchemaItem(index, entity.label, ("study_key", name), is_constraint=False))
    return items


# ------------------------------------------------------------------------------------------ probe


@cache
def probe(entity_name: str) -> str:
    """Rows ``[key values..., version]`` to the indexes of those that must be written.

    Reads take no lock, and need none: versions only grow, so what is stale stays stale.
    """
    entity = ENTITIES[entity_name]
    last = len(entity.key_properties)
    return (
        "UNWIND range(0, size($rows) - 1) AS i WITH i, $rows[i] AS row"
        f" OPTIONAL MATCH (n:{entity.label} {_pattern(entity, 'row[{}]')})"
        f" WITH i, row, n WHERE n IS NULL OR coalesce(n._version, -1) < row[{last}] RETURN i"
    )


def probe_rows(versions: Mapping[Identity, int], identities: Sequence[Identity]) -> list[list[Any]]:
    """The probe's rows, in the order of ``identities``."""
    return [[*key_map(each).values(), versions[each]] for each in identities]


# ------------------------------------------------------------------------------------------ write


def statements(changes: Sequence[NodeChange]) -> list[Statement]:
    """One transaction's statements: nodes, parents first, then relationships.

    Rows are in key order, so that concurrent transactions lock in one order.
    """
    ordered = sorted(changes, key=lambda change: _sort_key(change.identity))
    nodes: dict[tuple[int, bool], list[NodeChange]] = defaultdict(list)
    links: dict[tuple[int, int, str], list[dict[str, Any]]] = defaultdict(list)
    for change in ordered:
        rank = _ORDER[change.identity.entity]
        nodes[rank, change.properties is None].append(change)
        for index, link in enumerate(change.links):
            target = "" if link.target is None else link.target.entity
            links[rank, index, target].append(_link_row(change, link.target))
    made = [_node_statement(group) for _, group in sorted(nodes.items())]
    entities = list(ENTITIES.values())
    for (rank, index, target), rows in sorted(links.items()):
        entity = entities[rank]
        # A new relationship locks its target: two transactions take shared targets in one order.
        rows.sort(key=lambda row: str(row.get("target")))
        made.append(Statement(_link(entity.name, entity.references[index], target), rows))
    return made


def _sort_key(identity: Identity) -> tuple[str, str, int, str]:
    number = identity.id if isinstance(identity.id, int) else 0
    return identity.study_key, identity.entity, number, str(identity.id)


def _node_statement(group: list[NodeChange]) -> Statement:
    is_delete = group[0].properties is None
    rows = [
        {
            "key": list(key_map(change.identity).values()),
            "version": change.version,
            "properties": tombstone(change) if is_delete else change.properties,
        }
        for change in group
    ]
    return Statement(_node(group[0].identity.entity, is_delete), rows)


def tombstone(change: NodeChange) -> dict[str, Any]:
    """What stays of a deleted entity, so that an older event cannot bring it back."""
    return {**key_map(change.identity), "_version": change.version, "deleted": True}


@cache
def _node(entity_name: str, is_delete: bool) -> str:  # noqa: FBT001 - cached, private
    """Replace a node's properties unless it has this version or a newer one.

    The lock comes before the guard: two writers that both evaluated the guard first would both
    pass it, and the stale one might write last. Setting a label that is there takes the lock
    and stores nothing. (Setting an absent property to null does too, but only once the database
    knows the property's name: on a new 5.26.30 it takes no lock, and the stale writer wins.)
    Properties of the graph's users (``x_``) stay.
    """
    label = f"SET n:{DELETED_LABEL}" if is_delete else f"REMOVE n:{DELETED_LABEL}"
    entity = ENTITIES[entity_name]
    return (
        f"UNWIND $rows AS row MERGE (n:{entity.label} {_pattern(entity, 'row.key[{}]')})"
        f" SET n:{entity.label}"
        " WITH n, row WHERE coalesce(n._version, -1) < row.version"
        " FOREACH (name IN [name IN keys(n) WHERE row.properties[name] IS NULL"
        " AND NOT name STARTS WITH 'x_'] | REMOVE n[name])"
        f" SET n += row.properties {label}"
    )


@cache
def _link(entity_name: str, reference: Reference, target_name: str) -> str:
    """Let a reference go where the row says, and nowhere else.

    Runs after the node statement of the same transaction, which holds the node's lock: a row
    whose version is not the node's lost against a newer one, and is passed over.
    """
    entity = ENTITIES[entity_name]
    owner = (
        f"UNWIND $rows AS row MATCH (n:{entity.label} {_pattern(entity, 'row.key[{}]')})"
        " WHERE n._version = row.version"
    )
    if not target_name:
        return f"{owner} MATCH {_path('o', reference)} DELETE r"
    target = ENTITIES[target_name]
    wanted = _path("p", reference).replace("[r:", "[:")
    return (
        f"{owner} MERGE (p:{target.label} {_pattern(target, 'row.target[{}]')})"
        f" MERGE {wanted} WITH n, p MATCH {_path('o', reference)} WHERE o <> p DELETE r"
    )


def _path(other: str, reference: Reference) -> str:
    kind = reference.relationship
    if reference.outgoing:
        return f"(n)-[r:{kind}]->({other})"
    return f"({other})-[r:{kind}]->(n)"


def _link_row(change: NodeChange, target: Identity | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": list(key_map(change.identity).values()),
        "version": change.version,
    }
    if target is not None:
        row["target"] = list(key_map(target).values())
    return row


def _pattern(entity: Entity, place: str) -> str:
    terms: Iterable[str] = (
        f"{name}: {place.format(index)}" for index, name in enumerate(entity.key_properties)
    )
    return "{" + ", ".join(terms) + "}"
