"""The expected graph, derived from API rows by a second implementation of the graph model.

It is independent of `connector.model.graph` and of the Cypher, so that a mistake in those shows
up: comparisons and tests use it as their oracle.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

from pydantic import alias_generators

from connector.model.graph_state import GraphState, NodeKey, Relationship, relationship

to_snake, to_pascal = cache(alias_generators.to_snake), cache(alias_generators.to_pascal)

# Fields of every record in the API, even where a given row omits some.
_RECORD_FIELDS = {
    "study_key", "interval_id", "form_id", "form_key", "site_id", "record_id", "record_oid",
    "record_type", "record_status", "deleted", "date_created", "date_modified", "subject_id",
    "subject_oid", "subject_key", "visit_id", "parent_record_id", "keywords", "record_data",
}  # fmt: skip

_BOOLEANS = ("true", "false")
_WORDS = {  # of the API and the SDK for each type; all others stay text
    "number": ("number", "int", "integer", "float", "decimal"),
    "boolean": ("checkbox", "boolean", "bool"),
    "date": ("date",),
    "datetime": ("datetime",),
}
_CODING_KEY = ("recordId", "variable", "revision")  # of a coding without an id
_VISIT, _SUBJECT, _SITE = ("Visit", "visitId"), ("Subject", "subjectId"), ("Site", "siteId")
_RECORD = ("Record", "recordId")

# From the first parent that the row names, else from the study.
_FROM_PARENT: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "site": ("HAS_SITE", []),
    "form": ("HAS_FORM", []),
    "interval": ("HAS_INTERVAL", []),
    "user": ("HAS_USER", []),
    "variable": ("HAS_VARIABLE", [("Form", "formId")]),
    "subject": ("HAS_SUBJECT", []),
    "visit": ("HAS_VISIT", [_SUBJECT]),
    "record": ("HAS_RECORD", [_VISIT, _SUBJECT, _SITE]),
    "record_revision": ("HAS_REVISION", [_RECORD, _SUBJECT]),
    "query": ("HAS_QUERY", [_RECORD, _SUBJECT]),
    "coding": ("HAS_CODING", [_RECORD, _SUBJECT]),
}
_TO_OTHERS = {
    "subject": [("AT_SITE", *_SITE)],
    "visit": [("IN_INTERVAL", "Interval", "intervalId")],
    "record": [("CHILD_OF", "Record", "parentRecordId")],
}
_TO_EACH = {
    "subject": [("HAS_KEYWORD", "Keyword", "keywords", "keywordId")],
    "record": [("HAS_KEYWORD", "Keyword", "keywords", "keywordId")],
    "interval": [("SCHEDULES", "Form", "forms", "formId")],
    "user": [("HAS_ROLE", "Role", "roles", "roleId")],
}


def add_row(
    state: GraphState,
    entity: str,
    study_key: str,
    row: dict[str, Any],
    types: Mapping[str, str] | None = None,
) -> NodeKey:
    """Add the node of a live API row and what belongs to it; return the node's key.

    ``types``: the types of its variables, by name; others stay text.
    """
    key = _key(entity, study_key, row)
    own = dict(zip(_key_names(entity), key.values, strict=True))
    state.nodes[key] = _node_properties(row, types or {}) | own

    def node(label: str, field: str, owner: dict[str, Any] = row) -> NodeKey | None:
        value = _without_blank(owner.get(field))
        own_id = str(value) if label == "Role" else value  # the API does not say of which type
        return NodeKey(label, (study_key, own_id)) if value else None

    if entity in _FROM_PARENT:
        kind, parents = _FROM_PARENT[entity]
        named = [found for label, field in parents if (found := node(label, field)) is not None]
        parent = named[0] if named else NodeKey("Study", (study_key,))
        state.relationships.add(Relationship(parent, kind, key))
    for kind, label, field in _TO_OTHERS.get(entity, []):
        if (other := node(label, field)) is not None:
            state.relationships.add(Relationship(key, kind, other))
    for kind, label, field, id_field in _TO_EACH.get(entity, []):
        for element in _without_blank(row.get(field)) or []:
            if (other := node(label, id_field, element)) is not None:
                properties = _node_properties(element)
                del properties[to_snake(id_field)]
                state.relationships.add(relationship(key, kind, other, properties))
    if entity == "query":
        for index, comment in enumerate(_without_blank(row.get("queryComments")) or [], 1):
            part = NodeKey("QueryComment", (*key.values, index))
            state.nodes[part] = _node_properties(comment) | own | {"position": index}
            state.relationships.add(Relationship(key, "HAS_COMMENT", part))
    return key


def add_deleted(state: GraphState, entity: str, study_key: str, entity_id: Any) -> NodeKey:
    """Add the node that remains of a deleted entity; return its key."""
    key = _key(entity, study_key, {_id_field(entity): entity_id})
    names = _key_names(entity)
    state.nodes[key] = dict(zip(names, key.values, strict=True)) | {"deleted": True}
    return key


def add_stubs(state: GraphState) -> None:
    """Add a stub for every node that a relationship refers to and that does not exist yet."""
    for each in state.relationships:
        for key in (each.start, each.end):
            if key not in state.nodes:
                names = _key_names(to_snake(key.label))
                state.nodes[key] = dict(zip(names, key.values, strict=False))


def _key(entity: str, study_key: str, row: dict[str, Any]) -> NodeKey:
    label = to_pascal(entity)
    if entity == "study":
        return NodeKey(label, (study_key,))
    own = row.get(_id_field(entity))
    if entity == "coding":
        own = str(own) if own else "/".join(str(row[name]) for name in _CODING_KEY)
    return NodeKey(label, (study_key, own))  # type: ignore[arg-type]


@cache
def _key_names(entity: str) -> tuple[str, ...]:
    if entity == "study":
        return ("study_key",)
    return ("study_key", to_snake(_id_field(entity)))


@cache
def _id_field(entity: str) -> str:
    return "annotationId" if entity == "query" else f"{alias_generators.to_camel(entity)}Id"


def variable_types(rows: Iterable[dict[str, Any]]) -> dict[tuple[int, str], str]:
    """The type of each variable, by form id and lower-case name, from all rows of variables."""
    types: dict[tuple[int, str], str] = {}
    for row in rows:
        form, name, word = row.get("formId"), row.get("variableName"), row.get("variableType")
        if type(form) is not int or not isinstance(name, str) or not isinstance(word, str):
            continue
        place = (form, name.lower())
        kind = next((kind for kind, words in _WORDS.items() if word.strip().lower() in words), "")
        if types.setdefault(place, kind) != kind:
            types[place] = ""
    return types


def types_of(row: dict[str, Any], types: Mapping[tuple[int, str], str]) -> dict[str, str]:
    """The types of a record's variables, by name."""
    variables = _without_blank(row.get("recordData")) or {}
    places = {name: (row.get("formId", 0), name.lower()) for name in variables}
    return {name: types[place] for name, place in places.items() if place in types}


def _typed(value: Any, kind: str) -> Any:
    """Return what the text stands for; the text itself if that would be written otherwise."""
    if not isinstance(value, str):
        return value
    try:
        meant, texts = _meant(value, kind)
    except (ValueError, ArithmeticError):
        return value
    return meant if value in texts else value


def _meant(text: str, kind: str) -> tuple[Any, Collection[str]]:
    """Return what a text of this type stands for, and the texts that stand for it exactly.

    Raises:
        ValueError, ArithmeticError: nothing.
    """
    match kind:
        case "number" if "." in text:
            meant: Any = float(text)
            is_exact = Decimal(repr(meant)) == Decimal(text) and len(text.strip("-")) <= 16  # noqa: PLR2004
            return meant, [f"{Decimal(text):f}"] if is_exact else []
        case "number":
            return (meant := int(text)), [str(meant)] if -(2**63) <= meant < 2**63 else []
        case "boolean":
            return (meant := text.lower() == "true"), [text] if text.lower() in _BOOLEANS else []
        case "date":
            return (meant := date.fromisoformat(text)), [meant.isoformat()]
        case "datetime":
            meant = datetime.fromisoformat(text)
            texts = [meant.isoformat(t, spec) for t in " T" for spec in ("minutes", "seconds")]
            return meant, texts
    return text, [text]


def _node_properties(row: dict[str, Any], types: Mapping[str, str] | None = None) -> dict[str, Any]:
    properties = {to_snake(name): value for name, value in row.items() if name != "recordData"}
    for name, text in (_without_blank(row.get("recordData")) or {}).items():
        value = _typed(text, types[name]) if types and name in types else text
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
