"""The graph model: what an event means for the graph. Pure; no Cypher, no driver.

A relationship belongs to the entity whose field it comes from: it is made, moved and removed with
that entity's events only. So the graph is a function of each entity's newest event, whatever the
order in which events of different entities arrive.
"""

import math
from functools import cache, lru_cache
from typing import Any, NamedTuple

import orjson

from connector.entities import ENTITIES, Entity, Reference, snake_case
from connector.errors import InvalidEventError
from connector.events import VERSION_MAX, EntityId, Identity, RecordEvent

VARIABLES_FIELD = "recordData"
VARIABLE_PREFIX = "var_"
_TAKEN_PREFIXES = ("_", "x_", VARIABLE_PREFIX)
"""Reserved by the connector, by the graph's users, and by the prefix itself (so that no two
variables can get one name)."""

PropertyValue = str | int | float | bool | list[str] | list[int] | list[float] | list[bool]
_SCALARS = (str, bool, int, float)
_TEXT = {str}
_AS_THEY_ARE = {str, bool}
_RECORD_DATA = snake_case(VARIABLES_FIELD)


class Link(NamedTuple):
    """The wanted state of one reference: where it goes, or that it goes nowhere."""

    reference: Reference
    target: Identity | None


class NodeChange(NamedTuple):
    """One entity's newest state as the graph holds it. ``properties`` is None for a delete."""

    identity: Identity
    version: int
    properties: dict[str, PropertyValue] | None
    links: list[Link]


def node_change(event: RecordEvent) -> NodeChange:
    """The node and relationships that this event asks for.

    Raises:
        InvalidEventError: the graph cannot hold a value, a name or a reference of it.
    """
    entity, identity, data = ENTITIES[event.entity], event.identity, event.data
    if data is None:
        links = [Link(reference, None) for reference in entity.references]
        return NodeChange(identity, event.version, None, links)
    properties = _properties(entity, data)
    properties.update(key_map(identity))
    properties["_version"] = event.version
    if event.content_hash:
        properties["_hash"] = event.content_hash
    links = [
        Link(reference, _target(identity.study_key, reference, data))
        for reference in entity.references
    ]
    return NodeChange(identity, event.version, properties, links)


def key_map(identity: Identity) -> dict[str, PropertyValue]:
    """The key properties of the node that this identity names."""
    return dict(zip(ENTITIES[identity.entity].key_properties, key_values(identity), strict=True))


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
        if value is not None and (value != 0 or type(value) is not int):  # both mean: none
            raise InvalidEventError(f"{target.field} is not an id", reason="reference")
    return None


def _properties(entity: Entity, data: dict[str, Any]) -> dict[str, PropertyValue]:
    own = dict(zip(_field_properties(entity.name, tuple(data)), data.values(), strict=True))
    variables = own.pop(_RECORD_DATA, None)
    if variables is None:
        return _storables(own)
    if not isinstance(variables, dict):
        raise InvalidEventError("recordData is not an object", reason="record_data")
    renamed = _renamed_variables(entity.name, tuple(variables), frozenset(own))
    named = variables
    if renamed:
        named = {renamed.get(name, name): value for name, value in variables.items()}
    return {**_storables(named), **_storables(own)}


def _storables(values: dict[str, Any]) -> dict[str, PropertyValue]:
    if set(map(type, values.values())) <= _TEXT:  # as nearly all forms are: nothing to look at
        return values
    return {
        name: value if type(value) in _AS_THEY_ARE else _storable(value)
        for name, value in values.items()
        if value is not None
    }


# A form's records all have the same fields and variables: names are found once for each form.
@lru_cache(maxsize=4096)
def _field_properties(entity_name: str, fields: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_field_property(entity_name, field) for field in fields)


@lru_cache(maxsize=4096)
def _renamed_variables(
    entity_name: str, variables: tuple[str, ...], own: frozenset[str]
) -> dict[str, str]:
    """Those whose property has another name than they have."""
    names = (
        (name, VARIABLE_PREFIX + name if name in own else variable_property(entity_name, name))
        for name in variables
    )
    return {variable: name for variable, name in names if variable != name}


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
    # Neo4j refuses both as a property key (TokenNameError) and would refuse the whole batch.
    if not name or "\0" in name:
        raise InvalidEventError("a property name is empty or holds NUL", reason="property_name")
    return name


def _storable(value: Any) -> PropertyValue:
    """``value`` where Neo4j can store it, else its JSON text (maps, mixed or nested lists)."""
    if type(value) is int and -VERSION_MAX <= value <= VERSION_MAX:
        return value
    if isinstance(value, list):
        kinds = {type(item) for item in value}
        if len(kinds) <= 1 and kinds <= set(_SCALARS):
            return [_checked_scalar(item) for item in value]
        return _json_text(value)
    if isinstance(value, dict):
        return _json_text(value)
    scalar: PropertyValue = _checked_scalar(value)
    return scalar


def _checked_scalar(value: Any) -> Any:
    if type(value) is int and not -VERSION_MAX - 1 <= value <= VERSION_MAX:
        raise InvalidEventError("an integer is beyond 64 bits", reason="integer")
    if type(value) is float and not math.isfinite(value):
        raise InvalidEventError("a number is not finite", reason="number")
    return value


def _json_text(value: Any) -> str:
    _check_finite(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        raise InvalidEventError("a nested value has no exact JSON form", reason="nested") from None


def _check_finite(value: Any) -> None:
    """JSON has no such numbers: orjson would write null for them."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _check_finite(each)
    else:
        _checked_scalar(value)
