"""Converts graph changes to Cypher statements with parameters. Pure text and values.

Names in statements come from `connector.model.entities`. Statements that create many nodes of one
form also contain that form's property names, which must be plain identifiers. Every value is a
parameter.
"""

import re
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from connector.model.entities import ENTITIES
from connector.model.entity import Entity, Reference
from connector.model.events import EntityId, Identity
from connector.model.graph import NodeChange, key_values
from connector.model.properties import LINKS, MODEL
from connector.neo4j.moments import Moment, assignments, moments_of, values_with_texts
from connector.neo4j.probes import is_outdated, node_pattern

DELETED_LABEL = "Deleted"
_REMOVE_OTHERS = (
    "FOREACH (name IN [name IN keys(n) WHERE row.properties[name] IS NULL"
    " AND NOT name STARTS WITH 'x_'] | REMOVE n[name])"
)
_ORDER = {name: index for index, name in enumerate(ENTITIES)}
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SAME_SHAPE_MIN = 64
"""This many nodes of one shape, or more, get their own CREATE statement; for fewer it costs more
than it saves (measured with 53 properties, on 5.26.30)."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Cypher with one parameter, ``rows``; run it with the prefix `KEEP_PLAN`.

    ``created``: the changes whose nodes it creates; it fails if one of the nodes exists.
    """

    cypher: str
    rows: Sequence[Any]
    created: Sequence[NodeChange] = ()

    @property
    def count(self) -> int:
        """The number of changes that the statement makes."""
        return len(self.created or self.rows)


class _WriteMode(IntEnum):
    """How nodes are written, in the order in which a kind's statements run."""

    CREATE = 1
    MERGE = 2
    DELETE = 3


def statements(changes: Sequence[NodeChange], absent: Container[Identity] = ()) -> list[Statement]:
    """Build one statement, and so one round trip, for each kind and write mode; parents first.

    ``absent`` entities are created, unless another change in the batch may have made a stub of them
    first. Many nodes of one shape get their own statement.
    """
    targets = {link.target for change in changes for link in change.links}
    groups: dict[tuple[int, _WriteMode], list[NodeChange]] = defaultdict(list)
    for change in changes:
        mode = _WriteMode.MERGE
        if change.is_delete:
            mode = _WriteMode.DELETE
        elif change.identity in absent and change.identity not in targets:
            mode = _WriteMode.CREATE
        groups[_ORDER[change.identity.entity], mode].append(change)
    result = []
    for (_, mode), group in sorted(groups.items()):
        if mode is _WriteMode.CREATE:
            result += _create_statements(group)
        else:
            cypher = _merge if mode is _WriteMode.MERGE else _delete
            result.append(Statement(cypher(group[0].identity.entity), _rows(group)))
    return result


class _Shape(NamedTuple):
    """The shape shared by nodes that one statement can create: kind, properties, targets."""

    entity: str
    names: tuple[str, ...]
    """Property names."""
    targets: tuple[str | None, ...]
    """The target kind of each reference; None: no target."""


def _create_statements(group: list[NodeChange]) -> list[Statement]:
    """Build one statement for each shape that many nodes share, and one for all others."""
    entity = group[0].identity.entity
    shapes: dict[_Shape, list[NodeChange]] = defaultdict(list)
    others: list[NodeChange] = []
    for change in group:
        targets = tuple([link.target and link.target.entity for link in change.links])
        has_more = any(change.listed) or any(change.parts)
        (others if has_more else shapes[_Shape(entity, change.names, targets)]).append(change)
    result = []
    for shape, changes in shapes.items():
        moments = moments_of(changes)
        if len(changes) >= _SAME_SHAPE_MIN and (cypher := _create_same_shape(shape, moments)):
            result.append(Statement(cypher, _rows_by_targets(changes, moments), changes))
        else:
            others += changes
    if others:
        result.append(Statement(_create(entity), _rows(others), others))
    return result


def _rows_by_targets(changes: list[NodeChange], moments: Sequence[Moment]) -> list[list[Any]]:
    """Build rows ``[study_key, target ids, [values of a node, ...]]``, in the order of `_rows`."""
    grouped: dict[tuple[EntityId | None, ...], list[list[Any]]] = defaultdict(list)
    for change in changes:
        ids = [link.target and link.target.id for link in change.links]
        grouped[change.identity.study_key, *ids].append(values_with_texts(change, moments))
    return [
        [study, ids, nodes] for (study, *ids), nodes in sorted(grouped.items(), key=itemgetter(0))
    ]


def _rows(group: list[NodeChange]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "key": key_values(change.identity),
            "version": change.version,
            "properties": change.properties,
            "to": [list(link.target[1:]) if link.target else [] for link in change.links],
            "listed": [
                [[link.target.id, link.properties] for link in each] for each in change.listed
            ],
            "parts": change.parts,
            "links": change.value(LINKS) or "",
            "count": sum(link.target is not None for link in change.links)
            + sum(map(len, change.listed)),
        }
        for change in group
    ]
    # A new relationship locks its target until the commit. Transactions that share targets take
    # the locks in the same order, so they cannot deadlock.
    rows.sort(key=lambda row: (row["key"][0], row["to"], row["key"][-1]))
    return rows


@cache
def _create(entity_name: str) -> str:
    """Create each row's node without comparing: the constraint rejects nodes that exist."""
    entity = ENTITIES[entity_name]
    create = f"UNWIND $rows AS row CREATE (n:{entity.label}) SET n = row.properties"
    return "\n".join([create, *_links(entity, "true"), *_new_parts(entity)])


@lru_cache(maxsize=512)
def _create_same_shape(shape: _Shape, moments: tuple[Moment, ...]) -> str | None:
    """Like `_create`, for the rows of `_rows_by_targets`; None if a name is not a plain identifier.

    The database does not process a name with each value, and looks up the targets of a row once.
    No escape sequence lets a plain name close the quotes around it.
    """
    if not all(map(_PLAIN_NAME.fullmatch, shape.names)):
        return None
    entity = ENTITIES[shape.entity]
    targets = [
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
                f"MERGE {node_pattern(f'p{index}', ENTITIES[target], 'row[0]', f'row[1][{index}]')}"
                for index, _, target in targets
            ),
            f"WITH * UNWIND row[2] AS properties CREATE (n:{entity.label})",
            f"SET {assignments(shape.names, moments)}",
            *(f"CREATE {_path(f'p{index}', reference)}" for index, reference, _ in targets),
        ]
    )


@cache
def _merge(entity_name: str) -> str:
    entity = ENTITIES[entity_name]
    tail = [*_links(entity, "is_moved"), *_new_parts(entity)]
    return _guarded(entity, f"REMOVE n:{DELETED_LABEL}", tail)


@cache
def _delete(entity_name: str) -> str:
    return _guarded(ENTITIES[entity_name], f"SET n:{DELETED_LABEL}", [])


def _guarded(entity: Entity, label: str, tail: list[str]) -> str:
    """Make each row's node match the row, unless the node has this version or a newer one.

    The lock precedes the guard: two writers that both evaluated the guard first would both pass
    it, and the stale one might write last. Setting a label that the node already has takes the
    lock and stores nothing. (Setting an absent property to null does too, but only once the
    database knows the property's name: on a new 5.26.30 it takes no lock, and the stale writer
    wins.)

    The node records its relationships as text, and they are replaced only if the row's text
    differs: if a reference has moved, or an earlier model wrote them. They are also replaced if
    some are missing, because somebody deleted the node at the other end. ``unlinked``: a stub owns
    no relationships, nor does an entity that this model deleted (an earlier one may have left
    some). Parts are always replaced. User properties (``x_``) are kept.
    """
    lines = [
        "UNWIND $rows AS row",
        f"MERGE {node_pattern('n', entity, 'row.key[0]', 'row.key[1]')}",
        f"SET n:{entity.label}",
        f"WITH n, row WHERE {is_outdated(entity, 'row.version')}",
        f"WITH n, row, {_is_unlinked(entity)} AS unlinked",
        f"WITH n, row, unlinked, {_is_moved(entity)} AS is_moved",
        _REMOVE_OTHERS,
        f"SET n += row.properties {label}",
        *(_unlink(owned) for owned in _owned(entity)),
        *(
            f"FOREACH (part IN [(n)-[:{part.relationship}]->(part:{part.label}) | part]"
            " | DETACH DELETE part)"
            for part in entity.parts
        ),
        *tail,
    ]
    return "\n".join(lines)


def _owned(entity: Entity) -> list[Reference]:
    """The relationships that the kind's own events create, as references."""
    lists = [Reference(each.relationship, (), outgoing=True) for each in entity.reference_lists]
    return [*entity.references, *lists]


def _is_unlinked(entity: Entity) -> str:
    is_of_this_model = f"coalesce(n.{MODEL}, 0) = {entity.model_revision}"
    return f"n._version IS NULL OR (n:{DELETED_LABEL} AND {is_of_this_model})"


def _is_moved(entity: Entity) -> str:
    counts = (f"COUNT {{ {_path('', reference)} }}" for reference in _owned(entity))
    return (
        f"unlinked OR coalesce(n.{MODEL}, 0) <> {entity.model_revision}"
        f" OR coalesce(n.{LINKS}, '') <> row.links OR {' + '.join((*counts, '0'))} < row.count"
    )


def _unlink(reference: Reference) -> str:
    return (
        "FOREACH (r IN CASE WHEN is_moved AND NOT unlinked"
        f" THEN [{_path('', reference, 'r')} | r] ELSE [] END | DELETE r)"
    )


def _links(entity: Entity, condition: str) -> list[str]:
    """Build each relationship of a row if ``condition`` holds.

    CREATE, not MERGE: the node is locked and has no other relationship of this reference.
    """
    single = [
        f"FOREACH (t IN CASE WHEN {condition} AND row.to[{index}][0] = '{target.entity}'"
        f" THEN [row.to[{index}]] ELSE [] END"
        f" | MERGE {node_pattern('p', ENTITIES[target.entity], 'row.key[0]', 't[1]')}"
        f" CREATE {_path('p', reference)})"
        for index, reference in enumerate(entity.references)
        for target in reference.targets
    ]
    listed = [
        f"FOREACH (t IN CASE WHEN {condition} THEN row.listed[{index}] ELSE [] END"
        f" | MERGE {node_pattern('p', ENTITIES[each.target], 'row.key[0]', 't[0]')}"
        f" CREATE (n)-[r:{each.relationship}]->(p) SET r = t[1])"
        for index, each in enumerate(entity.reference_lists)
    ]
    return single + listed


def _new_parts(entity: Entity) -> list[str]:
    """Create the row's parts. They need no constraint: only the owner's writer makes them."""
    return [
        f"FOREACH (properties IN row.parts[{index}]"
        f" | CREATE (n)-[:{part.relationship}]->(part:{part.label}) SET part = properties)"
        for index, part in enumerate(entity.parts)
    ]


def _path(other: str, reference: Reference, variable: str = "") -> str:
    kind = reference.relationship
    if reference.outgoing:
        return f"(n)-[{variable}:{kind}]->({other})"
    return f"({other})-[{variable}:{kind}]->(n)"
