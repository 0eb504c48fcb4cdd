"""Graph changes to Cypher statements with parameters, and the constraints. Pure text and values.

Names in statements come from `connector.entities` only; everything from events is a parameter.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from connector.entities import ENTITIES, Entity, Reference, snake_case
from connector.events import Identity
from connector.graph import NodeChange, key_map, key_values

DELETED_LABEL = "Deleted"
_REMOVE_OTHERS = (
    "FOREACH (name IN [name IN keys(n) WHERE row.properties[name] IS NULL"
    " AND NOT name STARTS WITH 'x_'] | REMOVE n[name])"
)
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
    return [[*key_values(each), versions[each]] for each in identities]


# ------------------------------------------------------------------------------------------ write


def statements(changes: Sequence[NodeChange]) -> list[Statement]:
    """One statement, so one round trip, for each kind and for its deletes; parents first."""
    groups: dict[tuple[int, bool], list[NodeChange]] = defaultdict(list)
    for change in changes:
        groups[_ORDER[change.identity.entity], change.properties is None].append(change)
    return [_statement(group) for _, group in sorted(groups.items())]


def _statement(group: list[NodeChange]) -> Statement:
    is_delete = group[0].properties is None
    rows: list[dict[str, Any]] = [
        {
            "key": key_values(change.identity),
            "version": change.version,
            "properties": tombstone(change) if is_delete else change.properties,
            "to": [_target(link.target) for link in change.links],
        }
        for change in group
    ]
    # A new relationship locks its target until the commit: transactions that share targets take
    # them in one order, so that none waits for the other in a circle.
    rows.sort(key=lambda row: (row["key"][0], row["to"], row["key"][-1]))
    return Statement(_write(group[0].identity.entity, is_delete), rows)


def _target(target: Identity | None) -> list[Any]:
    return [] if target is None else [target.entity, target.id]


def tombstone(change: NodeChange) -> dict[str, Any]:
    """What stays of a deleted entity, so that an older event cannot bring it back."""
    return {**key_map(change.identity), "_version": change.version, "deleted": True}


@cache
def _write(entity_name: str, is_delete: bool) -> str:  # noqa: FBT001 - cached, private
    """Let each row's node be what the row says, unless it has this version or a newer one.

    The lock comes before the guard: two writers that both evaluated the guard first would both
    pass it, and the stale one might write last. Setting a label that is there takes the lock
    and stores nothing. (Setting an absent property to null does too, but only once the database
    knows the property's name: on a new 5.26.30 it takes no lock, and the stale writer wins.)

    Relationships are touched only where a reference has moved: what the node's own properties
    say of it is compared with what the row says. ``unlinked``: a stub, or a deleted entity, has
    none of its own, so there is nothing to look for and to remove. Properties of the graph's
    users (``x_``) stay.
    """
    entity = ENTITIES[entity_name]
    references = list(enumerate(entity.references))
    label = f"SET n:{DELETED_LABEL}" if is_delete else f"REMOVE n:{DELETED_LABEL}"
    moved = "".join(
        f", unlinked OR {_reference_in_graph(reference)} <> row.to[{index}] AS moved_{index}"
        for index, reference in references
    )
    lines = [
        f"UNWIND $rows AS row MERGE (n:{entity.label} {_pattern(entity, 'row.key[{}]')})",
        f"SET n:{entity.label}",
        "WITH n, row WHERE coalesce(n._version, -1) < row.version",
        f"WITH n, row, n._version IS NULL OR n:{DELETED_LABEL} AS unlinked",
        f"WITH n, row, unlinked{moved}",
        _REMOVE_OTHERS,
        f"SET n += row.properties {label}",
        *(_unlink(index, reference) for index, reference in references),
        *(
            _link(index, reference, target.entity)
            for index, reference in references
            for target in reference.targets
            if not is_delete
        ),
    ]
    return "\n".join(lines)


def _reference_in_graph(reference: Reference) -> str:
    """Where the node's relationship goes now, by its properties: as ``to`` of a row says it.

    An id that is 0 or missing means: none, so the next target counts (as in `connector.graph`).
    """
    cases, otherwise = "", "[]"
    for target in reference.targets:
        if target.field is None:
            otherwise = f"['{target.entity}', n.study_key]"
        else:
            name = f"n.{snake_case(target.field)}"
            cases += f" WHEN {name} > 0 THEN ['{target.entity}', {name}]"
    return f"CASE{cases} ELSE {otherwise} END" if cases else otherwise


def _unlink(index: int, reference: Reference) -> str:
    return (
        f"FOREACH (r IN CASE WHEN moved_{index} AND NOT unlinked"
        f" THEN [{_path('', reference)} | r] ELSE [] END | DELETE r)"
    )


def _link(index: int, reference: Reference, target_name: str) -> str:
    """CREATE, not MERGE: the node is locked, and has no other relationship of this reference."""
    target = ENTITIES[target_name]
    key = [f"row.key[0], {name}: t[1]" for name in target.key_properties[1:]] or ["t[1]"]
    return (
        f"FOREACH (t IN CASE WHEN moved_{index} AND row.to[{index}][0] = '{target_name}'"
        f" THEN [row.to[{index}]] ELSE [] END"
        f" | MERGE (p:{target.label} {{study_key: {key[0]}}})"
        f" CREATE {_path('p', reference).replace('[r:', '[:')})"
    )


def _path(other: str, reference: Reference) -> str:
    kind = reference.relationship
    if reference.outgoing:
        return f"(n)-[r:{kind}]->({other})"
    return f"({other})-[r:{kind}]->(n)"


def _pattern(entity: Entity, place: str) -> str:
    terms: Iterable[str] = (
        f"{name}: {place.format(index)}" for index, name in enumerate(entity.key_properties)
    )
    return "{" + ", ".join(terms) + "}"
