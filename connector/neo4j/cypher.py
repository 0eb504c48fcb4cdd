"""Converts graph changes to Cypher statements with parameters. Pure text and values.

Names in statements come from `connector.model.entities`, or from the data if they are plain
identifiers (`connector.neo4j.shapes`); every value is a parameter.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from enum import IntEnum
from functools import cache, lru_cache, partial
from operator import attrgetter
from typing import Any, NamedTuple

from connector.model.entities import ENTITIES
from connector.model.entity import Entity, Reference
from connector.model.events import Identity
from connector.model.graph import NodeChange, key_values
from connector.model.properties import LINKS, MODEL
from connector.neo4j.bulk_create import create_in_bulk
from connector.neo4j.moments import Moment, assignments, moments_of, values_with_texts
from connector.neo4j.patterns import node_pattern, relationship_pattern
from connector.neo4j.probes import is_outdated
from connector.neo4j.shapes import by_shape
from connector.neo4j.statement import ROWS, Statement

DELETED_LABEL = "Deleted"
_ALIKE_MIN = 200
"""This many nodes of one shape, or more, get their own MERGE statement; for fewer the additional
transaction costs more than it saves (measured with 57 properties, on 5.26.30)."""
_ORDER = {name: index for index, name in enumerate(ENTITIES)}


class _Content(NamedTuple):
    """The Cypher that gives node ``n`` the properties of a row."""

    assignment: str
    is_other: str
    """Whether the row does not have the property ``name``."""


_FROM_MAP = _Content("n += row.properties", "row.properties[name] IS NULL")


class _WriteMode(IntEnum):
    """How nodes are written, in the order in which a kind's statements run."""

    CREATE = 1
    MERGE = 2
    DELETE = 3


def statements(
    changes: Sequence[NodeChange], absent: Container[Identity] = (), *, force: bool = False
) -> list[Statement]:
    """Build one statement, and so one round trip, for each kind and write mode; parents first.

    ``absent`` entities are created, unless another change in the batch may have made a stub of them
    first. Many nodes of one shape get their own statement. With ``force``, nodes of the same
    version are rewritten, with their relationships.
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
        elif mode is _WriteMode.MERGE:
            result += _merge_statements(group, force=force)
        else:
            cypher = _delete(group[0].identity.entity, force=force)
            result.append(Statement(cypher, _guarded_rows(group)))
    return result


def _create_statements(group: list[NodeChange]) -> list[Statement]:
    """Build one statement for each shape that many nodes share, and one for all others."""
    result, others = create_in_bulk(group)
    if others:
        result.append(Statement(_create(group[0].identity.entity), _rows(others), others))
    return result


def _merge_statements(group: list[NodeChange], *, force: bool) -> list[Statement]:
    """Build one statement for each shape that many nodes share, and one for all others."""
    shapes, others = by_shape(group, _ALIKE_MIN)
    result = []
    for shape, alike in shapes.items():
        moments = moments_of(shape, alike)
        cypher = _merge_alike(shape.entity, shape.names, moments, force=force)
        result.append(
            Statement(cypher, _guarded_rows(alike, partial(values_with_texts, moments=moments)))
        )
    if others:
        result.append(
            Statement(_merge(group[0].identity.entity, force=force), _guarded_rows(others))
        )
    return result


def _guarded_rows(
    group: list[NodeChange], content: Callable[[NodeChange], Any] = attrgetter("properties")
) -> list[dict[str, Any]]:
    """Build rows for statements that compare each node with its row.

    ``content`` gives a node's properties as the statement expects them: a map, or a list.
    """
    rows = []
    for change in group:
        row = _row(change, content(change))
        row["version"] = change.version
        row["size"] = len(change.values) - change.values.count(None)
        row["links"] = change.value(LINKS) or ""
        row["count"] = len(row["to"]) - row["to"].count(()) + sum(map(len, change.listed))
        rows.append(row)
    return sorted(rows, key=_lock_order)


def _rows(group: list[NodeChange]) -> list[dict[str, Any]]:
    """Build rows for statements that compare nothing."""
    return sorted([_row(change, change.properties) for change in group], key=_lock_order)


def _row(change: NodeChange, properties: Any) -> dict[str, Any]:
    return {
        "key": key_values(change.identity),
        "properties": properties,
        "to": [link.target[1:] if link.target else () for link in change.links],
        "listed": [[[link.target.id, link.properties] for link in each] for each in change.listed],
        "parts": change.parts,
    }


def _lock_order(row: dict[str, Any]) -> tuple[Any, ...]:
    """Sort by target: a new relationship locks its target until the commit.

    Transactions that share targets take the locks in the same order, so they cannot deadlock.
    """
    return row["key"][0], row["to"], row["key"][-1]


@cache
def _create(entity_name: str) -> str:
    """Create each row's node without comparing: the constraint rejects nodes that exist."""
    entity = ENTITIES[entity_name]
    create = f"UNWIND {ROWS} AS row CREATE (n:{entity.label}) SET n = row.properties"
    return "\n".join([create, *_links(entity, "true"), *_new_parts(entity)])


@cache
def _merge(entity_name: str, *, force: bool) -> str:
    return _merge_from(ENTITIES[entity_name], _FROM_MAP, force=force)


@lru_cache(maxsize=512)
def _merge_alike(
    entity_name: str, names: tuple[str, ...], moments: tuple[Moment, ...], *, force: bool
) -> str:
    """Build the statement for nodes with these plain property names; values come in their order."""
    assignment = assignments(names, moments, "row.properties")
    is_other = f"NOT name IN [{', '.join(repr(name) for name in names)}]"
    return _merge_from(ENTITIES[entity_name], _Content(assignment, is_other), force=force)


def _merge_from(entity: Entity, content: _Content, *, force: bool) -> str:
    tail = [*_links(entity, "is_moved"), *_new_parts(entity)]
    return _guarded(entity, content, f"REMOVE n:{DELETED_LABEL}", tail, force=force)


@cache
def _delete(entity_name: str, *, force: bool) -> str:
    entity = ENTITIES[entity_name]
    return _guarded(entity, _FROM_MAP, f"SET n:{DELETED_LABEL}", [], force=force)


def _guarded(entity: Entity, content: _Content, label: str, tail: list[str], *, force: bool) -> str:
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
    Only a node with more properties than the row is searched for those to remove: the search takes
    a fifth of an update.
    With ``force`` nothing is believed that the node records about itself.
    """
    is_unlinked = "false" if force else _is_unlinked(entity)
    is_moved = "true" if force else _is_moved(entity)
    lines = [
        f"UNWIND {ROWS} AS row",
        f"MERGE {node_pattern('n', entity, 'row.key[0]', 'row.key[1]')}",
        f"SET n:{entity.label}",
        f"WITH n, row WHERE {is_outdated(entity, 'row.version', force=force)}",
        f"WITH n, row, {is_unlinked} AS unlinked",
        f"WITH n, row, unlinked, {is_moved} AS is_moved",
        f"SET {content.assignment} {label}",
        _remove_others(content),
        *(_unlink(owned) for owned in entity.owned_references),
        *(
            f"FOREACH (part IN [(n)-[:{part.relationship}]->(part:{part.label}) | part]"
            " | DETACH DELETE part)"
            for part in entity.parts
        ),
        *tail,
    ]
    return "\n".join(lines)


def _remove_others(content: _Content) -> str:
    return (
        "FOREACH (name IN CASE WHEN size(keys(n)) > row.size THEN [name IN keys(n)"
        f" WHERE {content.is_other} AND NOT name STARTS WITH 'x_'] ELSE [] END | REMOVE n[name])"
    )


def _is_unlinked(entity: Entity) -> str:
    is_of_this_model = f"coalesce(n.{MODEL}, 0) = {entity.model_revision}"
    return f"n._version IS NULL OR (n:{DELETED_LABEL} AND {is_of_this_model})"


def _is_moved(entity: Entity) -> str:
    counts = (
        f"COUNT {{ {relationship_pattern('', reference)} }}"
        for reference in entity.owned_references
    )
    return (
        f"unlinked OR coalesce(n.{MODEL}, 0) <> {entity.model_revision}"
        f" OR coalesce(n.{LINKS}, '') <> row.links OR {' + '.join((*counts, '0'))} < row.count"
    )


def _unlink(reference: Reference) -> str:
    return (
        "FOREACH (r IN CASE WHEN is_moved AND NOT unlinked"
        f" THEN [{relationship_pattern('', reference, 'r')} | r] ELSE [] END | DELETE r)"
    )


def _links(entity: Entity, condition: str) -> list[str]:
    """Build each relationship of a row if ``condition`` holds.

    CREATE, not MERGE: the node is locked and has no other relationship of this reference.
    """
    single = [
        f"FOREACH (t IN CASE WHEN {condition} AND row.to[{index}][0] = '{target.entity}'"
        f" THEN [row.to[{index}]] ELSE [] END"
        f" | MERGE {node_pattern('p', ENTITIES[target.entity], 'row.key[0]', 't[1]')}"
        f" CREATE {relationship_pattern('p', reference)})"
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
