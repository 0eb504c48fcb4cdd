"""Property names and values: what the graph can hold of an API object. Pure."""

import math
from collections.abc import Mapping
from datetime import date
from functools import cache, lru_cache
from typing import Any, NamedTuple

import orjson

from connector.errors import InvalidEventError
from connector.model.entities import ENTITIES
from connector.model.entity import snake_case

MODEL = "_model"
"""Reserved property: the revision of the kind's model that wrote the node."""
LINKS = "_links"
"""Reserved property: the relationships that the node owns, as text."""
VARIABLES_FIELD = "recordData"
VARIABLE_PREFIX = "var_"
_TAKEN_PREFIXES = ("_", "x_", VARIABLE_PREFIX)
"""Reserved by the connector, by the graph's users, and by the prefix itself (so that no two
variables can get the same name)."""


PropertyValue = (
    str | int | float | bool | date | list[str] | list[int] | list[float] | list[bool] | None
)
"""A value that Neo4j stores; a ``date`` may be a ``datetime``."""
_SCALARS = {str, bool, int, float}
_ALWAYS_STORABLE = {bool, type(None)}
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_NAME_BYTES_MAX = 65_535
"""Neo4j's documented limit (Cypher manual, naming rules). 5.26.30 stores longer names in its
default format; the Enterprise Edition's block format takes 16 383 characters (not checked here)."""


def is_blank(value: Any) -> bool:
    """Whether this is one of the empty values that JSON has."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, list | dict) and not value)


def storables(values: list[Any]) -> list[PropertyValue]:
    """Convert values for Neo4j; fastest if all of them are text, as in nearly all forms."""
    try:
        text = "".join(values)
    except TypeError:
        return mixed_storables(values)
    if not text.isascii():
        _check_utf8(text)
    return values


def mixed_storables(values: list[Any]) -> list[PropertyValue]:
    """Convert values of any type for Neo4j.

    Raises:
        InvalidEventError: Neo4j cannot store one of them.
    """
    return [
        value
        if ((kind := type(value)) is str and value.isascii())
        or (kind is int and INT64_MIN <= value <= INT64_MAX)
        or kind in _ALWAYS_STORABLE
        else storable(value)
        for value in values
    ]


def _check_utf8(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidEventError("text is not valid Unicode", reason="text") from None


class Layout(NamedTuple):
    """The property layout that all nodes of one form share."""

    fields: tuple[str, ...]
    """The fields that become properties, without those of the key."""
    names: tuple[str, ...]
    """All property names: variables, fields, key, version, hash."""
    positions: dict[str, int]
    """The index of each variable's name and value."""


# All records of a form have the same fields and variables: names are derived once per form.
@lru_cache(maxsize=4096)
def layout_of(entity_name: str, fields: tuple[str, ...], variables: tuple[str, ...]) -> Layout:
    """Return the layout of nodes with these fields and variables.

    Raises:
        InvalidEventError: Neo4j does not allow one of the names.
    """
    key = ENTITIES[entity_name].key_properties
    own = {name: _field_property(entity_name, name) for name in fields if name != VARIABLES_FIELD}
    taken = set(own.values())
    of_variables = {
        name: checked_name(VARIABLE_PREFIX + name)
        if name in taken
        else variable_property(entity_name, name)
        for name in variables
    }
    if len({*own.values(), *of_variables.values()}) < len(own) + len(of_variables):
        own, of_variables = _told_apart(entity_name, own, of_variables)
    rest = {field: name for field, name in own.items() if name not in key}
    return Layout(
        tuple(rest),
        (*of_variables.values(), *rest.values(), *key, "_version", "_hash", MODEL, LINKS),
        {name: index for index, name in enumerate(variables)},
    )


def _told_apart(
    entity_name: str, own: Mapping[str, str], of_variables: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Prefix names until no two are equal, in an order that does not depend on the row's."""
    documented, taken = ENTITIES[entity_name].fields, set[str]()
    found: tuple[dict[str, str], dict[str, str]] = dict(own), dict(of_variables)
    order = [
        *(
            (found[0], name)
            for name in sorted(own, key=lambda each: (each not in documented, each))
        ),
        *((found[1], name) for name in sorted(of_variables)),
    ]
    for names, name in order:
        while names[name] in taken:
            names[name] = checked_name(VARIABLE_PREFIX + names[name])
        taken.add(names[name])
    return found


@lru_cache(maxsize=4096)
def _field_property(entity_name: str, field: str) -> str:
    """The property for an API field; an unknown field never takes the name of another field."""
    name = snake_case(field)
    if field in ENTITIES[entity_name].fields:
        return name
    return checked_name(VARIABLE_PREFIX + name if _is_taken(entity_name, name) else name)


@lru_cache(maxsize=8192)  # records of one form may omit variables: then no layout is shared
def variable_property(entity_name: str, variable: str) -> str:
    """The property for a form's variable: its own name, prefixed if that name is taken.

    Raises:
        InvalidEventError: Neo4j does not allow a property of this name.
    """
    if _is_taken(entity_name, variable):
        return checked_name(VARIABLE_PREFIX + variable)
    return checked_name(variable)


@cache
def _documented(entity_name: str) -> frozenset[str]:
    return frozenset(snake_case(field) for field in ENTITIES[entity_name].fields)


def _is_taken(entity_name: str, name: str) -> bool:
    return name in _documented(entity_name) or name.startswith(_TAKEN_PREFIXES)


def checked_name(name: str) -> str:
    """Return the name of a property, if Neo4j allows it.

    Raises:
        InvalidEventError: it does not.
    """
    # Neo4j rejects each of these as a property key, and with it the whole batch.
    if not name or "\0" in name:
        raise InvalidEventError("a property name is empty or contains NUL", reason="property_name")
    _check_utf8(name)
    if len(name.encode()) > _NAME_BYTES_MAX:
        raise InvalidEventError("a property name is too long", reason="property_name")
    return name


def storable(value: Any) -> PropertyValue:
    """Return ``value`` if Neo4j can store it, else its JSON text (maps, mixed or nested lists)."""
    if isinstance(value, list):
        kinds = set(map(type, value))
        if len(kinds) <= 1 and kinds <= _SCALARS:
            if kinds == {str}:
                _check_utf8("".join(value))
            return [_checked_scalar(item) for item in value]
        return json_text(value)
    if isinstance(value, dict):
        return json_text(value)
    if isinstance(value, str):
        _check_utf8(value)
        return str.__str__(value)  # of a subclass, such as an enum: the text itself
    if isinstance(value, int) and type(value) is not bool:
        value = int(value)
    scalar: PropertyValue = _checked_scalar(value)
    return scalar


def _checked_scalar(value: Any) -> Any:
    kind = type(value)
    if kind is int and not INT64_MIN <= value <= INT64_MAX:
        raise InvalidEventError("an integer does not fit into 64 bits", reason="integer")
    if kind is float and not math.isfinite(value):
        raise InvalidEventError("a number is not finite", reason="number")
    if kind not in _SCALARS and value is not None:
        raise InvalidEventError("a value has a type that Neo4j cannot store", reason="type")
    return value


def json_text(value: Any) -> str:
    """Return the canonical JSON of a nested value.

    Raises:
        InvalidEventError: it has no exact JSON form.
    """
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
