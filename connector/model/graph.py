"""The graph model: from an event to its node and relationships. Pure; no Cypher, no driver.

A relationship belongs to the entity whose field it comes from: only that entity's events create,
move or remove it. So the graph is a function of each entity's newest event, in whatever order the
events of different entities arrive.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import orjson

from connector.errors import InvalidEventError
from connector.model.entities import (
    ENTITIES,
    Entity,
    PartList,
    Reference,
    ReferenceList,
    snake_case,
)
from connector.model.events import VERSION_MAX, EntityId, Identity, RecordEvent, valid_id

MODEL = "_model"
"""Reserved property: the revision of the kind's model that wrote the node."""
LINKS = "_links"
"""Reserved property: the relationships that the node owns, as `links_text`."""
VARIABLES_FIELD = "recordData"
VARIABLE_PREFIX = "var_"
_TAKEN_PREFIXES = ("_", "x_", VARIABLE_PREFIX)
"""Reserved by the connector, by the graph's users, and by the prefix itself (so that no two
variables can get the same name)."""

_LINKS_LENGTH_MAX = 100
_NO_LISTS: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {
    entity.name: (((),) * len(entity.reference_lists), ((),) * len(entity.parts))
    for entity in ENTITIES.values()
}
"""Shared by all events without elements, which are nearly all: fewer objects to collect."""
PropertyValue = str | int | float | bool | list[str] | list[int] | list[float] | list[bool] | None
_SCALARS = {str, bool, int, float}
_ALWAYS_STORABLE = {bool, type(None)}
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_NAME_BYTES_MAX = 65_535
"""Neo4j's documented limit (Cypher manual, naming rules). 5.26.30 stores longer names in its
default format; the Enterprise Edition's block format takes 16 383 characters (not checked here)."""


class Link(NamedTuple):
    """The desired target of one reference; None: no relationship."""

    reference: Reference
    target: Identity | None


class ListedLink(NamedTuple):
    """The desired relationship of one element of a `ReferenceList`."""

    target: Identity
    properties: dict[str, PropertyValue]


class NodeChange(NamedTuple):
    """One entity's newest state in the form of the graph.

    ``names`` and ``values`` are its properties; all nodes of a form share one tuple of names. A
    value of None means that the node does not have the property.

    ``links``, ``listed`` and ``parts`` have one element for each of the kind's ``references``,
    ``reference_lists`` and ``parts``.
    """

    identity: Identity
    version: int
    names: tuple[str, ...]
    values: list[PropertyValue]
    links: list[Link]
    content_hash: str | None = None
    is_delete: bool = False
    listed: Sequence[Sequence[ListedLink]] = ()
    parts: Sequence[Sequence[dict[str, PropertyValue]]] = ()

    @property
    def properties(self) -> dict[str, PropertyValue]:
        """The properties that it has, by name."""
        named = zip(self.names, self.values, strict=True)
        return {name: value for name, value in named if value is not None}

    def value(self, name: str) -> PropertyValue:
        """The value of this property; None if it does not have it."""
        return self.values[self.names.index(name)] if name in self.names else None

    def relinked(self, links: list[Link]) -> "NodeChange":
        """Return the change with other links, as the node will record them."""
        values = list(self.values)
        values[self.names.index(LINKS)] = links_text(links, self.listed)
        return self._replace(links=links, values=values)


def node_change(event: RecordEvent) -> NodeChange:
    """Derive the node and relationships from an event.

    Every name and value of the result can be sent to Neo4j: the driver never has to reject one.

    Raises:
        InvalidEventError: the graph cannot hold one of its values, names or references.
    """
    entity, identity, data = ENTITIES[event.entity], event.identity, event.data
    if data is None:
        return _delete(entity, event)
    variables = _variables(data)
    layout = _layout(entity.name, tuple(data), tuple(variables))
    values = _storables(list(variables.values()))
    own = [data[field] for field in layout.fields]
    study_key = identity.study_key
    links = [
        Link(reference, _target(study_key, reference, data)) for reference in entity.references
    ]
    listed, parts = _NO_LISTS[entity.name]
    if any(data.get(each.field) for each in entity.reference_lists):
        listed = [_listed(study_key, each, data) for each in entity.reference_lists]
    if any(data.get(each.field) for each in entity.parts):
        parts = [_parts(entity, identity, each, data) for each in entity.parts]
    own += key_values(identity)
    own += (event.version, event.content_hash, entity.model_revision, links_text(links, listed))
    values += _mixed_storables(own)
    return NodeChange(
        identity, event.version, layout.names, values, links, event.content_hash, False, listed,
        parts,
    )  # fmt: skip


def _delete(entity: Entity, event: RecordEvent) -> NodeChange:
    """Build the marker that remains of a deleted entity: no older event can bring it back."""
    names = (*entity.key_properties, "_version", MODEL, "deleted")
    keys = key_values(event.identity)
    values = _mixed_storables([*keys, event.version, entity.model_revision, True])
    links = [Link(reference, None) for reference in entity.references]
    return NodeChange(
        event.identity, event.version, names, values, links, None, True, *_NO_LISTS[entity.name]
    )


def key_values(identity: Identity) -> list[EntityId]:
    """The values of the key properties, in order."""
    if identity.entity == "study":
        return [identity.study_key]
    return [identity.study_key, identity.id]


def _target(study_key: str, reference: Reference, data: dict[str, Any]) -> Identity | None:
    for target in reference.targets:
        if target.field is None:
            return Identity(study_key, target.entity, study_key)
        value = data.get(target.field)
        if type(value) is int and 0 < value <= VERSION_MAX:
            return Identity(study_key, target.entity, value)
        if not _is_blank(value) and (value != 0 or type(value) is not int):  # 0 also means none
            raise InvalidEventError(f"{target.field} is not an id", reason="reference")
    return None


def _listed(study_key: str, reference: ReferenceList, data: dict[str, Any]) -> list[ListedLink]:
    """Derive one relationship for each element with an id; equal ones are one."""
    found: dict[str, ListedLink] = {}
    for element in _elements(reference.field, data):
        target = valid_id(reference.target, element.get(reference.id_field))
        if target is None:
            if _is_blank(element.get(reference.id_field)) or element[reference.id_field] == 0:
                continue
            raise InvalidEventError(f"{reference.field} has no valid id", reason="reference")
        properties = _element_properties(element, reference.id_field)
        identity = Identity(study_key, reference.target, target)
        found[_json_text([target, properties])] = ListedLink(identity, properties)
    return [link for _, link in sorted(found.items())]


def _parts(
    entity: Entity, identity: Identity, part: PartList, data: dict[str, Any]
) -> list[dict[str, PropertyValue]]:
    """Derive the properties of each part: the owner's key, its position, and its own fields."""
    key = dict(zip(entity.key_properties, key_values(identity), strict=True))
    return [
        {**_element_properties(element), **key, "position": position}
        for position, element in enumerate(_elements(part.field, data), 1)
    ]


def _elements(field: str, data: dict[str, Any]) -> list[dict[str, Any]]:
    elements = data.get(field)
    if _is_blank(elements):
        return []
    if not isinstance(elements, list) or not all(isinstance(each, dict) for each in elements):
        raise InvalidEventError(f"{field} is not a list of objects", reason="list")
    return elements


def _element_properties(element: dict[str, Any], omitted: str = "") -> dict[str, PropertyValue]:
    return {
        _checked_name(snake_case(name)): _storable(value)
        for name, value in element.items()
        if value is not None and name != omitted
    }


def links_text(links: Sequence[Link], listed: Sequence[Sequence[ListedLink]]) -> str | None:
    """Return how a node records its relationships: equal texts mean equal relationships.

    None if it has none. A long text is replaced by its hash.
    """
    text = "|".join([f"{target.entity} {target.id}" if target else "" for _, target in links])
    if any(listed):
        text += _json_text([[[*link.target, link.properties] for link in each] for each in listed])
    if len(text) > _LINKS_LENGTH_MAX:
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return text if text.strip("|") else None


def _variables(data: dict[str, Any]) -> dict[str, Any]:
    variables = data.get(VARIABLES_FIELD)
    if isinstance(variables, dict):
        return variables
    if _is_blank(variables):
        return {}
    raise InvalidEventError("recordData is not an object", reason="record_data")


def _is_blank(value: Any) -> bool:
    """Whether this is one of the empty values that JSON has."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, list | dict) and not value)


def _storables(values: list[Any]) -> list[PropertyValue]:
    """Convert values for Neo4j; fastest if all of them are text, as in nearly all forms."""
    try:
        text = "".join(values)
    except TypeError:
        return _mixed_storables(values)
    if not text.isascii():
        _check_utf8(text)
    return values


def _mixed_storables(values: list[Any]) -> list[PropertyValue]:
    return [
        value
        if ((kind := type(value)) is str and value.isascii())
        or (kind is int and _INT64_MIN <= value <= _INT64_MAX)
        or kind in _ALWAYS_STORABLE
        else _storable(value)
        for value in values
    ]


def _check_utf8(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidEventError("text is not valid Unicode", reason="text") from None


class _Layout(NamedTuple):
    """The property layout that all nodes of one form share."""

    fields: tuple[str, ...]
    """The fields that become properties, without those of the key."""
    names: tuple[str, ...]
    """All property names: variables, fields, key, version, hash."""


# All records of a form have the same fields and variables: names are derived once per form.
@lru_cache(maxsize=4096)
def _layout(entity_name: str, fields: tuple[str, ...], variables: tuple[str, ...]) -> _Layout:
    key = ENTITIES[entity_name].key_properties
    own = {name: _field_property(entity_name, name) for name in fields if name != VARIABLES_FIELD}
    taken = set(own.values())
    rest = {field: name for field, name in own.items() if name not in key}
    variable_names = (
        _checked_name(VARIABLE_PREFIX + name)
        if name in taken
        else variable_property(entity_name, name)
        for name in variables
    )
    return _Layout(
        tuple(rest), (*variable_names, *rest.values(), *key, "_version", "_hash", MODEL, LINKS)
    )


def _field_property(entity_name: str, field: str) -> str:
    """The property for an API field; an unknown field never takes the name of another field."""
    name = snake_case(field)
    if field in ENTITIES[entity_name].fields:
        return name
    return _checked_name(VARIABLE_PREFIX + name if _is_taken(entity_name, name) else name)


def variable_property(entity_name: str, variable: str) -> str:
    """The property for a form's variable: its own name, prefixed if that name is taken.

    Raises:
        InvalidEventError: Neo4j does not allow a property of this name.
    """
    if _is_taken(entity_name, variable):
        return _checked_name(VARIABLE_PREFIX + variable)
    return _checked_name(variable)


@cache
def _documented(entity_name: str) -> frozenset[str]:
    return frozenset(snake_case(field) for field in ENTITIES[entity_name].fields)


def _is_taken(entity_name: str, name: str) -> bool:
    return name in _documented(entity_name) or name.startswith(_TAKEN_PREFIXES)


def _checked_name(name: str) -> str:
    # Neo4j rejects each of these as a property key, and with it the whole batch.
    if not name or "\0" in name:
        raise InvalidEventError("a property name is empty or contains NUL", reason="property_name")
    _check_utf8(name)
    if len(name.encode()) > _NAME_BYTES_MAX:
        raise InvalidEventError("a property name is too long", reason="property_name")
    return name


def _storable(value: Any) -> PropertyValue:
    """Return ``value`` if Neo4j can store it, else its JSON text (maps, mixed or nested lists)."""
    if isinstance(value, list):
        kinds = set(map(type, value))
        if len(kinds) <= 1 and kinds <= _SCALARS:
            if kinds == {str}:
                _check_utf8("".join(value))
            return [_checked_scalar(item) for item in value]
        return _json_text(value)
    if isinstance(value, dict):
        return _json_text(value)
    if isinstance(value, str):
        _check_utf8(value)
        return str.__str__(value)  # of a subclass, such as an enum: the text itself
    if isinstance(value, int) and type(value) is not bool:
        value = int(value)
    scalar: PropertyValue = _checked_scalar(value)
    return scalar


def _checked_scalar(value: Any) -> Any:
    kind = type(value)
    if kind is int and not _INT64_MIN <= value <= _INT64_MAX:
        raise InvalidEventError("an integer does not fit into 64 bits", reason="integer")
    if kind is float and not math.isfinite(value):
        raise InvalidEventError("a number is not finite", reason="number")
    if kind not in _SCALARS and value is not None:
        raise InvalidEventError("a value has a type that Neo4j cannot store", reason="type")
    return value


def _json_text(value: Any) -> str:
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        raise InvalidEventError("a nested value has no exact JSON form", reason="nested") from None
    _check_nested(value)  # after orjson, which rejects values nested too deeply
    return text


def _check_nested(value: Any) -> None:
    """Refuse values that JSON cannot represent exactly: orjson writes null for infinity."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _check_nested(each)
    else:
        _checked_scalar(value)
