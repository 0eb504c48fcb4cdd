"""Typed values: which variables of a record are numbers, booleans or dates, and their values. Pure.

The API sends nearly all values as text. The source looks up the study's variable definitions, and
each event carries the types of those of its texts that stand for exactly one value. So the graph
stays a function of each entity's newest event.
"""

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from connector.model.entity import Entity
from connector.model.properties import (
    INT64_MAX,
    INT64_MIN,
    VARIABLES_FIELD,
    PropertyValue,
    is_blank,
)

TEXT = "text"
_FORM_FIELD = "formId"
_TYPES = {
    "number": "number",
    "int": "number",
    "integer": "number",
    "float": "number",
    "decimal": "number",
    "checkbox": "boolean",
    "boolean": "boolean",
    "bool": "boolean",
    "date": "date",
    "datetime": "datetime",
}
"""From the API's ``variableType`` in lower case, with the synonyms that the SDK knows
(imednet.testing.typed_values, imednet.form_designer). Codes of radio buttons and lists stay text.
"""
_INTEGER = re.compile("0|-?[1-9][0-9]{0,18}")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATETIME = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2})?")
_CACHED_MAX = 20_000
_KNOWN_NAMES_MAX = 4096
_EXACT_DIGITS_MAX = 15
"""A decimal with this many significant digits survives conversion to a 64-bit float and back."""
_TYPED_LENGTH_MAX = 20
"""Of the smallest 64-bit integer; longer texts would only fill the caches."""


Parser = Callable[[str], PropertyValue]
"""Returns the value that a text stands for, or None."""


class Definition(NamedTuple):
    """The definition of one variable of a form: its name in lower case, and its type."""

    form_id: int
    name: str
    type: str


def definition_of(entity: Entity, row: Mapping[str, Any]) -> Definition | None:
    """The definition in a row of this kind; None if the kind has none, or the row is malformed."""
    if not entity.definition_fields:
        return None
    form_id, name, kind = (row.get(field) for field in entity.definition_fields)
    if type(form_id) is not int or not isinstance(name, str) or not isinstance(kind, str):
        return None
    return Definition(form_id, name.lower(), _TYPES.get(kind.strip().lower(), TEXT))


class RowTypes(NamedTuple):
    """The types of a row's variables, by name, and how many texts do not fit their definitions."""

    types: dict[str, str] | None
    """Without variables that stay text; None if all do."""
    untyped: int


_NO_TYPES = RowTypes(None, 0)


class Definitions:
    """The variable definitions of a study.

    Names are compared without case, as the API's endpoints differ in it. A name that a form defines
    more than once, with different types, stays text.
    """

    def __init__(self, definitions: Iterable[Definition] = ()) -> None:
        found: dict[int, dict[str, str]] = defaultdict(dict)
        for form_id, name, kind in definitions:
            names = found[form_id]
            names[name] = kind if names.get(name, kind) == kind else TEXT
        self._forms = {
            form_id: {name: kind for name, kind in names.items() if kind != TEXT}
            for form_id, names in found.items()
        }
        # The records of a form have the same variables: their types are looked up once. No
        # lru_cache of the method: it would refer to the instance, and that to it.
        self._known_names: dict[tuple[int, tuple[str, ...]], list[tuple[str, str, Parser]]] = {}

    def types_of(self, row: Mapping[str, Any]) -> RowTypes:
        """Find the types of an API row's variables."""
        form_id, variables = row.get(_FORM_FIELD), row.get(VARIABLES_FIELD)
        if type(form_id) is not int or form_id not in self._forms:
            return _NO_TYPES
        if not isinstance(variables, dict):
            return _NO_TYPES
        types: dict[str, str] = {}
        untyped = 0
        for name, kind, parse in self._names_of(form_id, tuple(variables)):
            text = variables[name]
            if type(text) is not str or not text:
                continue
            if len(text) <= _TYPED_LENGTH_MAX and parse(text) is not None:
                types[name] = kind
            elif not is_blank(text):
                untyped += 1
        return RowTypes(types or None, untyped)

    def _names_of(self, form_id: int, variables: tuple[str, ...]) -> list[tuple[str, str, Parser]]:
        """Names, types and parsers of those variables that do not stay text."""
        found = self._known_names.get((form_id, variables))
        if found is None:
            defined = self._forms.get(form_id, {})
            kinds = ((name, defined.get(name.lower())) for name in variables)
            found = [(name, kind, _PARSERS[kind]) for name, kind in kinds if kind is not None]
            if len(self._known_names) >= _KNOWN_NAMES_MAX:
                self._known_names.clear()
            self._known_names[form_id, variables] = found
        return found


NO_DEFINITIONS = Definitions()
"""All values stay text."""


def typed_value(kind: str, text: str) -> PropertyValue:
    """The value that ``text`` stands for exactly; None if it does not, or the type is unknown.

    Exactly means: no other value fits, and none of its digits is lost, except zeros at the end of a
    decimal. ``2024-UN-UN``, ``<5``, ``007`` and 20-digit numbers have no value.
    """
    parse = _PARSERS.get(kind)
    return parse(text) if parse is not None and len(text) <= _TYPED_LENGTH_MAX else None


# Numbers, and dates even more, repeat in a study.
@lru_cache(maxsize=_CACHED_MAX)
def _number(text: str) -> int | float | None:
    if _INTEGER.fullmatch(text):
        number = int(text)
        return number if INT64_MIN <= number <= INT64_MAX else None
    if _DECIMAL.fullmatch(text) and len(text.strip("-")) - 1 <= _EXACT_DIGITS_MAX:
        return float(text)
    return None


def _boolean(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower())


def _iso_parser(
    form: re.Pattern[str], parse: Callable[[str], dt.date]
) -> Callable[[str], dt.date | None]:
    """Parse texts of this form only: ``fromisoformat`` accepts many more."""

    @lru_cache(maxsize=_CACHED_MAX)
    def parsed(text: str) -> dt.date | None:
        try:
            return parse(text) if form.fullmatch(text) else None
        except ValueError:
            return None

    return parsed


_PARSERS: dict[str, Parser] = {
    "number": _number,
    "boolean": _boolean,
    "date": _iso_parser(_DATE, dt.date.fromisoformat),
    "datetime": _iso_parser(_DATETIME, dt.datetime.fromisoformat),
}
