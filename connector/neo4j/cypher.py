"""Graph changes to Cypher statements with parameters. Pure text and values.

Names in statements come from `connector.model.entities`, and where many nodes of one form are
created from that form, if they are plain identifiers. Every value is a parameter.
"""

import re
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from connector.model.entities import ENTITIES, Entity, Reference, snake_case
from connector.model.events import EntityId, Identity
from connector.model.graph import REDIRECTED, NodeChange, key_values

DELETED_LABEL = "Deleted"
_REMOVE_OTHERS = (
    "FOREACH (name IN [name IN keys(n) WHERE row.properties[name] IS NULL"
    " AND NOT name STARTS WITH 'x_'] | REMOVE n[name])"
)
KEEP_PLAN = "CYPHER replan=skip"
"""Each statement has one sensible plan: the constraints' index seeks, which it gets on an empty
graph too. To make it anew because the graph has grown would hold events up (150 ms measured)."""
_ORDER = {name: index for index, name in enumerate(ENTITIES)}
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ALIKE_MIN = 64
"""So many nodes alike are created by a statement of their own; for fewer it costs more than it
saves (measured with 53 properties, on 5.26.30)."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Cypher with one parameter, ``rows``; to be run with `KEEP_PLAN` before it.

    ``created``: the changes it makes nodes for; it fails where one of them is there already.
    """

    cypher: str
    rows: Sequence[Any]
    created: Sequence[NodeChange] = ()

    @property
    def count(self) -> int:
        """How many changes it makes."""
        return len(self.created or self.rows)


# ------------------------------------------------------------------------------------------ probe


@cache
def probe(entity_name: str) -> str:
    """Rows ``[key values..., version]`` to the indexes of those that must be written.

    One answer of two lists, absent and there: the driver takes longer over a row of an answer
    than the database does.

    Reads take no lock, and need none: versions only grow, so what is stale stays stale.
    """
    last = len(ENTITIES[entity_name].key_properties)
    return _probe(entity_name, f"coalesce(n._version, -1) < row[{last}]")


def _probe(entity_name: str, is_outdated: str) -> str:
    return (
        f"{KEEP_PLAN} UNWIND range(0, size($rows) - 1) AS i WITH i, $rows[i] AS row"
        f" OPTIONAL MATCH {_node('n', ENTITIES[entity_name], 'row[0]', 'row[1]')}"
        f" WITH i, row, n WHERE n IS NULL OR {is_outdated}"
        " RETURN collect(CASE WHEN n IS NULL THEN i END),"
        " collect(CASE WHEN n IS NOT NULL THEN i END)"
    )


@cache
def probe_content(entity_name: str) -> str:
    """As `probe`, of rows ``[key values..., version, hash]``: what has this content is there.

    A node whose link was redirected is outdated even so: its content says where the link belongs.
    """
    last = len(ENTITIES[entity_name].key_properties)
    return _probe(
        entity_name,
        f"coalesce(n._version, -1) < row[{last}]"
        f" AND (coalesce(n._hash, '') <> row[{last + 1}] OR n.{REDIRECTED} IS NOT NULL)",
    )


OWNERS = (
    f"{KEEP_PLAN} UNWIND $rows AS row MATCH (n:Visit {{study_key: row[0], visit_id: row[1]}})"
    " WHERE n.subject_id > 0 RETURN n.visit_id, n.subject_id"
)
"""Which subject each visit belongs to; those that belong to none (0, blank text) are left out."""


# ------------------------------------------------------------------------------------------ write


class _Way(IntEnum):
    """How nodes are written, in the order in which it is done for a kind."""

    CREATE = 1
    MERGE = 2
    DELETE = 3


def statements(changes: Sequence[NodeChange], absent: Container[Identity] = ()) -> list[Statement]:
    """One statement, so one round trip, for each kind and way; parents first.

    What is ``absent`` is created, unless a change among these may make a stub of it before. Many
    that are alike are a statement of their own.
    """
    targets = {link.target for change in changes for link in change.links}
    groups: dict[tuple[int, _Way], list[NodeChange]] = defaultdict(list)
    for change in changes:
        way = _Way.MERGE
        if change.is_delete:
            way = _Way.DELETE
        elif change.identity in absent and change.identity not in targets:
            way = _Way.CREATE
        groups[_ORDER[change.identity.entity], way].append(change)
    made = []
    for (_, way), group in sorted(groups.items()):
        if way is _Way.CREATE:
            made += _creates(group)
        else:
            cypher = _merge if way is _Way.MERGE else _delete
            made.append(Statement(cypher(group[0].identity.entity), _rows(group)))
    return made


class _Shape(NamedTuple):
    """What nodes that are alike have in common."""

    entity: str
    names: tuple[str, ...]
    """Of their properties."""
    targets: tuple[str | None, ...]
    """The kind of entity that each reference goes to."""


def _creates(group: list[NodeChange]) -> list[Statement]:
    """A statement for each shape that many have, and one for all others."""
    entity = group[0].identity.entity
    shapes: dict[_Shape, list[NodeChange]] = defaultdict(list)
    for change in group:
        targets = tuple([link.target and link.target.entity for link in change.links])
        shapes[_Shape(entity, change.names, targets)].append(change)
    made, others = [], []
    for shape, alike in shapes.items():
        if len(alike) >= _ALIKE_MIN and (cypher := _create_alike(shape)):
            made.append(Statement(cypher, _by_targets(alike), alike))
        else:
            others += alike
    if others:
        made.append(Statement(_create(entity), _rows(others), others))
    return made


def _by_targets(alike: list[NodeChange]) -> list[list[Any]]:
    """Rows ``[study_key, target ids, [values of a node, ...]]``, in the order of `_rows`."""
    grouped: dict[tuple[EntityId | None, ...], list[list[Any]]] = defaultdict(list)
    for change in alike:
        ids = [link.target and link.target.id for link in change.links]
        grouped[change.identity.study_key, *ids].append(change.values)
    return [
        [study, ids, nodes] for (study, *ids), nodes in sorted(grouped.items(), key=itemgetter(0))
    ]


def _rows(group: list[NodeChange]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "key": key_values(change.identity),
            "version": change.version,
            "properties": change.properties,
            "to": [_target(link.target) for link in change.links],
        }
        for change in group
    ]
    # A new relationship locks its target until the commit: transactions that share targets take
    # them in one order, so that none waits for the other in a circle.
    rows.sort(key=lambda row: (row["key"][0], row["to"], row["key"][-1]))
    return rows


def _target(target: Identity | None) -> list[Any]:
    return [] if target is None else [target.entity, target.id]


@cache
def _create(entity_name: str) -> str:
    """Make each row's node: the constraint refuses what is there, and nothing is to be compared."""
    entity = ENTITIES[entity_name]
    links = _links(entity, "row.to[{0}][0] = '{1}'")
    create = f"UNWIND $rows AS row CREATE (n:{entity.label}) SET n = row.properties"
    return "\n".join([create, *links])


@lru_cache(maxsize=512)
def _create_alike(shape: _Shape) -> str | None:
    """As `_create`, from rows as `_by_targets` has them; None: the names are not plain.

    The database is spared the names of each value, and looks up what the nodes of a row refer to
    once. Plain names cannot end the quotes that they stand in, by whatever escape.
    """
    if not all(map(_PLAIN_NAME.fullmatch, shape.names)):
        return None
    entity = ENTITIES[shape.entity]
    values = (f"n.`{name}` = properties[{index}]" for index, name in enumerate(shape.names))
    referred = [
        (index, reference, target)
        for index, (reference, target) in enumerate(
            zip(entity.references, shape.targets, strict=True)
        )
        if target is not None
    ]
    return "\n".join(
        [
            "UNWIND $rows AS row",
            *(
                f"MERGE {_node(f'p{index}', ENTITIES[target], 'row[0]', f'row[1][{index}]')}"
                for index, _, target in referred
            ),
            f"WITH * UNWIND row[2] AS properties CREATE (n:{entity.label})",
            f"SET {', '.join(values)}",
            *(f"CREATE {_path(f'p{index}', reference)}" for index, reference, _ in referred),
        ]
    )


@cache
def _merge(entity_name: str) -> str:
    entity = ENTITIES[entity_name]
    links = _links(entity, "moved_{0} AND row.to[{0}][0] = '{1}'")
    return _guarded(entity, f"REMOVE n:{DELETED_LABEL}", links)


@cache
def _delete(entity_name: str) -> str:
    return _guarded(ENTITIES[entity_name], f"SET n:{DELETED_LABEL}", [])


def _guarded(entity: Entity, label: str, links: list[str]) -> str:
    """Let each row's node be what the row says, unless it has this version or a newer one.

    The lock comes before the guard: two writers that both evaluated the guard first would both
    pass it, and the stale one might write last. Setting a label that is there takes the lock
    and stores nothing. (Setting an absent property to null does too, but only once the database
    knows the property's name: on a new 5.26.30 it takes no lock, and the stale writer wins.)

    Relationships are touched only where a reference has moved: what the node's own properties
    say of it is compared with what the row says. A node whose link was redirected does not say
    where the link goes, so it counts as moved. ``unlinked``: a stub, or a deleted entity, has
    none of its own, so there is nothing to look for and to remove. Properties of the graph's
    users (``x_``) stay.
    """
    references = list(enumerate(entity.references))
    moved = "".join(
        f", is_moved OR {_reference_in_graph(reference)} <> row.to[{index}] AS moved_{index}"
        for index, reference in references
    )
    lines = [
        "UNWIND $rows AS row",
        f"MERGE {_node('n', entity, 'row.key[0]', 'row.key[1]')}",
        f"SET n:{entity.label}",
        "WITH n, row WHERE coalesce(n._version, -1) < row.version",
        f"WITH n, row, n._version IS NULL OR n:{DELETED_LABEL} AS unlinked",
        f"WITH n, row, unlinked, unlinked OR n.{REDIRECTED} IS NOT NULL AS is_moved",
        f"WITH n, row, unlinked{moved}",
        _REMOVE_OTHERS,
        f"SET n += row.properties {label}",
        *(_unlink(index, reference) for index, reference in references),
        *links,
    ]
    return "\n".join(lines)


def _reference_in_graph(reference: Reference) -> str:
    """Where the node's relationship goes now, by its properties: as ``to`` of a row says it.

    An id that is 0, blank or missing means: none, so the next target counts (as in
    `connector.model.graph`). Text, a list and an absent property compared with a number give null.
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
        f" THEN [{_path('', reference, 'r')} | r] ELSE [] END | DELETE r)"
    )


def _links(entity: Entity, condition: str) -> list[str]:
    """A relationship to each reference's target where ``condition`` (index, target) holds."""
    return [
        _link(index, reference, target.entity, condition)
        for index, reference in enumerate(entity.references)
        for target in reference.targets
    ]


def _link(index: int, reference: Reference, target_name: str, condition: str) -> str:
    """CREATE, not MERGE: the node is locked, and has no other relationship of this reference."""
    return (
        f"FOREACH (t IN CASE WHEN {condition.format(index, target_name)}"
        f" THEN [row.to[{index}]] ELSE [] END"
        f" | MERGE {_node('p', ENTITIES[target_name], 'row.key[0]', 't[1]')}"
        f" CREATE {_path('p', reference)})"
    )


def _path(other: str, reference: Reference, variable: str = "") -> str:
    kind = reference.relationship
    if reference.outgoing:
        return f"(n)-[{variable}:{kind}]->({other})"
    return f"({other})-[{variable}:{kind}]->(n)"


def _node(variable: str, entity: Entity, study_key: str, own_id: str) -> str:
    """The node that has this key; a study's key is the first value alone."""
    named = zip(entity.key_properties, (study_key, own_id), strict=False)
    key = ", ".join(f"{name}: {value}" for name, value in named)
    return f"({variable}:{entity.label} {{{key}}})"
