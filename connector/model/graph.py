"""The graph model: what an event means for the graph. Pure; no Cypher, no driver.

A relationship belongs to the entity whose field it comes from: it is made, moved and removed with
that entity's events only. So the graph is a function of each entity's newest event, whatever the
order in which events of different entities arrive.
"""

import math
from functools import cache, lru_cache
from typing import Any, NamedTuple

import orjson

from connector.errors import InvalidEventError
from connector.model.entities import ENTITIES, Entity, Reference, snake_case
from connector.model.events import VERSION_MAX, EntityId, Identity, RecordEvent

VARIABLES_FIELD = "recordData"
VARIABLE_PREFIX = "var_"
_TAKEN_PREFIXES = ("_", "x_", VARIABLE_PREFIX)
"""Reserved by the connector, by the graph's users, and by the prefix itself (so that no two
variables can get one name)."""

REDIRECTED = "_redirected"
"""Reserved property of a node whose link does not go where its own properties say."""

PropertyValue = str | int | float | bool | list[str] | list[int] | list[float] | list[bool] | None
_SCALARS = {str, bool, int, float}
_AS_THEY_ARE = {bool, type(None)}
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_NAME_BYTES_MAX = 65_535
"""Neo4j's documented limit (Cypher manual, naming rules). 5.26.30 stores longer names in its
default format; the Enterprise Edition's block format takes 16 383 characters (not checked here)."""


class Link(NamedTuple):
    """The wanted state of one reference: where it goes, or that it goes nowhere."""

    reference: Reference
    target: Identity | None


class NodeChange(NamedTuple):
    """One entity's newest state as the graph holds it.

    ``names`` and ``values`` are its properties: the names are one tuple for all of a form. A value
    that is None is a property that the node has not got.
    """

    identity: Identity
    version: int
    names: tuple[str, ...]
    values: list[PropertyValue]
    links: list[Link]
    content_hash: str | None = None
    is_delete: bool = False

    @property
    def properties(self) -> dict[str, PropertyValue]:
        """Value by name, of those that it has."""
        named = zip(self.names, self.values, strict=True)
        return {name: value for name, value in named if value is not None}

    def value(self, name: str) -> PropertyValue:
        """The value of this property; None: it has none."""
        return self.values[self.names.index(name)] if name in self.names else None


def node_change(event: RecordEvent) -> NodeChange:
    """The node and relationships that this event asks for.

    Every name and value of the result can be sent to Neo4j: the driver never finds out otherwise.

    Raises:
        InvalidEventError: the graph cannot hold a value, a name or a reference of it.
    """
    entity, identity, data = ENTITIES[event.entity], event.identity, event.data
    if data is None:
        return _delete(entity, event)
    variables = _variables(data)
    layout = _layout(entity.name, tuple(data), tuple(variables))
    values = _storables(list(variables.values()))
    own = [data[field] for field in layout.fields]
    own += key_values(identity)
    own += (event.version, event.content_hash)
    values += _mixed_storables(own)
    links = [
        Link(reference, _target(identity.study_key, reference, data))
        for reference in entity.references
    ]
    return NodeChange(identity, event.version, layout.names, values, links, event.content_hash)


def _delete(entity: Entity, event: RecordEvent) -> NodeChange:
    """What stays of a deleted entity, so that an older event cannot bring it back."""
    names = (*entity.key_properties, "_version", "deleted")
    values = _mixed_storables([*key_values(event.identity), event.version, True])
    links = [Link(reference, None) for reference in entity.references]
    return NodeChange(event.identity, event.version, names, values, links, is_delete=True)


def key_values(identity: Identity) -> list[EntityId]:
    """The values of the key properties, in their order."""
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
        if not _is_blank(value) and (value != 0 or type(value) is not int):  # 0 means none too
            raise InvalidEventError(f"{target.field} is not an id", reason="reference")
    return None


def _variables(data: dict[str, Any]) -> dict[str, Any]:
    variables = data.get(VARIABLES_FIELD)
    if isinstance(variables, dict):
        return variables
    if _is_blank(variables):
        return {}
    raise InvalidEventError("recordData is not an object", reason="record_data")


def _is_blank(value: Any) -> bool:
    """Whether this is one of the ways in which JSON says that there is nothing."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, list | dict) and not value)


def _storables(values: list[Any]) -> list[PropertyValue]:
    """These values as Neo4j can store them; fastest where all are text, as in nearly all forms."""
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
        or kind in _AS_THEY_ARE
        else _storable(value)
        for value in values
    ]


def _check_utf8(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidEventError("text is not valid Unicode", reason="text") from None


class _Layout(NamedTuple):
    """What the nodes of one form have in common."""

    fields: tuple[str, ...]
    """Those that are properties, without the key's."""
    names: tuple[str, ...]
    """Of all properties: variables, fields, key, version, hash."""


# A form's records all have the same fields and variables: names are found once for each form.
@lru_cache(maxsize=4096)
def _layout(entity_name: str, fields: tuple[str, ...], variables: tuple[str, ...]) -> _Layout:
    key = ENTITIES[entity_name].key_properties
    own = {name: _field_property(entity_name, name) for name in fields if name != VARIABLES_FIELD}
    taken = set(own.values())
    rest = {field: name for field, name in own.items() if name not in key}
    named = (
        _checked_name(VARIABLE_PREFIX + name)
        if name in taken
        else variable_property(entity_name, name)
        for name in variables
    )
    return _Layout(tuple(rest), (*named, *rest.values(), *key, "_version", "_hash"))


def _field_property(entity_name: str, field: str) -> str:
    """The property that holds an API field; an unknown field never takes another one's name."""
    name = snake_case(field)
    if field in ENTITIES[entity_name].fields:
        return name
    return _checked_name(VARIABLE_PREFIX + name if _is_taken(entity_name, name) else name)


def variable_property(entity_name: str, variable: str) -> str:
    """The property that holds a form's variable: its own name, prefixed where that is taken.

    Raises:
        InvalidEventError: Neo4j has no property of this name.
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
    # Neo4j refuses all of these as a property key, and would refuse the whole batch.
    if not name or "\0" in name:
        raise InvalidEventError("a property name is empty or holds NUL", reason="property_name")
    _check_utf8(name)
    if len(name.encode()) > _NAME_BYTES_MAX:
        raise InvalidEventError("a property name is too long", reason="property_name")
    return name


def _storable(value: Any) -> PropertyValue:
    """``value`` where Neo4j can store it, else its JSON text (maps, mixed or nested lists)."""
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
        return str.__str__(value)  # of a subclass, such as an enumeration: the text itself
    if isinstance(value, int) and type(value) is not bool:
        value = int(value)
    scalar: PropertyValue = _checked_scalar(value)
    return scalar


def _checked_scalar(value: Any) -> Any:
    kind = type(value)
    if kind is int and not _INT64_MIN <= value <= _INT64_MAX:
        raise InvalidEventError("an integer is beyond 64 bits", reason="integer")
    if kind is float and not math.isfinite(value):
        raise InvalidEventError("a number is not finite", reason="number")
    if kind not in _SCALARS and value is not None:
        raise InvalidEventError("a value is of no type that Neo4j has", reason="type")
    return value


def _json_text(value: Any) -> str:
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        raise InvalidEventError("a nested value has no exact JSON form", reason="nested") from None
    _check_nested(value)  # after orjson has refused what is nested too deeply for it
    return text


def _check_nested(value: Any) -> None:
    """Refuse what JSON cannot say exactly: orjson would write null for an infinite number."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _check_nested(each)
    else:
        _checked_scalar(value)
