"""The expected graph, derived from API rows by a second implementation of the graph model.

It is independent of `connector.model.graph` and of the Cypher, so that a mistake in those shows
up: comparisons and tests use it as their oracle.
"""

import json
from functools import cache
from typing import Any

from pydantic.alias_generators import to_camel, to_pascal
from pydantic.alias_generators import to_snake as _to_snake

from connector.model.graph_state import GraphState, NodeKey, Relationship

to_snake = cache(_to_snake)

# Fields of every record in the API, even where a given row omits some.
_RECORD_FIELDS = {
    "study_key", "interval_id", "form_id", "form_key", "site_id", "record_id", "record_oid",
    "record_type", "record_status", "deleted", "date_created", "date_modified", "subject_id",
    "subject_oid", "subject_key", "visit_id", "parent_record_id", "keywords", "record_data",
}  # fmt: skip


def add_row(state: GraphState, entity: str, row: dict[str, Any]) -> NodeKey:
    """Add the node of a live API row and its relationships; return the node's key."""
    key = _key(entity, row["studyKey"], row)
    state.nodes[key] = _node_properties(row)
    study = NodeKey("Study", (row["studyKey"],))

    def node(label: str, field: str) -> NodeKey | None:
        value = _without_blank(row.get(field))
        return NodeKey(label, (row["studyKey"], value)) if value else None

    def link(start: NodeKey | None, kind: str, end: NodeKey | None) -> None:
        if start is not None and end is not None:
            state.relationships.add(Relationship(start, kind, end))

    subject, site = node("Subject", "subjectId"), node("Site", "siteId")
    if entity == "site":
        link(study, "HAS_SITE", key)
    elif entity == "subject":
        link(study, "HAS_SUBJECT", key)
        link(key, "AT_SITE", site)
    elif entity == "visit":
        link(subject or study, "HAS_VISIT", key)
    elif entity == "record":
        link(node("Visit", "visitId") or subject or site or study, "HAS_RECORD", key)
        link(key, "CHILD_OF", node("Record", "parentRecordId"))
    elif entity == "record_revision":
        link(node("Record", "recordId") or subject or study, "HAS_REVISION", key)
    return key


def add_deleted(state: GraphState, entity: str, study_key: str, entity_id: Any) -> NodeKey:
    """Add the node that remains of a deleted entity; return its key."""
    key = _key(entity, study_key, {_id_field(entity): entity_id})
    names = ("study_key",) if entity == "study" else ("study_key", f"{entity}_id")
    state.nodes[key] = dict(zip(names, key.values, strict=True)) | {"deleted": True}
    return key


def add_stubs(state: GraphState) -> None:
    """Add a stub for every node that a relationship refers to and that does not exist yet."""
    for relationship in state.relationships:
        for key in (relationship.start, relationship.end):
            if key not in state.nodes:
                names = ("study_key", f"{to_snake(key.label)}_id")
                state.nodes[key] = dict(zip(names, key.values, strict=False))


def _key(entity: str, study_key: str, row: dict[str, Any]) -> NodeKey:
    label = to_pascal(entity)
    if entity == "study":
        return NodeKey(label, (study_key,))
    return NodeKey(label, (study_key, row[_id_field(entity)]))


def _id_field(entity: str) -> str:
    return f"{to_camel(entity)}Id"


def _node_properties(row: dict[str, Any]) -> dict[str, Any]:
    properties = {to_snake(name): value for name, value in row.items() if name != "recordData"}
    for name, value in (_without_blank(row.get("recordData")) or {}).items():
        is_field = name in _RECORD_FIELDS or name in properties
        is_reserved = name.startswith(("_", "x_", "var_"))
        properties[f"var_{name}" if is_field or is_reserved else name] = value
    return {name: _to_property(value) for name, value in properties.items() if value is not None}


def _without_blank(value: Any) -> Any:
    """Return the value, or None if it is blank text."""
    return None if isinstance(value, str) and (not value or value.isspace()) else value


def _to_property(value: Any) -> Any:
    if isinstance(value, dict) or (isinstance(value, list) and not _is_homogeneous(value)):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return value


def _is_homogeneous(items: list[Any]) -> bool:
    """Return whether Neo4j can store the list: one type, and no nested values or nulls."""
    types = {type(item) for item in items}
    return len(types) <= 1 and not types & {dict, list, type(None)}
