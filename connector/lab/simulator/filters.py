"""The API's filter grammar: ``name op value``, ``;`` or ``and``, ``,`` or ``or``."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from connector.model.dates import parse_api_date

# `and` and `or` need white space around them, `;` and `,` do not. Quoted text may contain any.
_TOKEN = re.compile(
    r"""\s*(?P<name>[A-Za-z_][\w.]*)\s*(?P<op>==|!=|>=|<=|=~|~=|>|<)\s*"""
    r"""(?:"(?P<quoted>[^"]*)"|(?P<bare>.*?))\s*(?P<join>;|,|\sand\s|\sor\s|$)"""
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a is not None and a > b,
    ">=": lambda a, b: a is not None and a >= b,
    "<": lambda a, b: a is not None and a < b,
    "<=": lambda a, b: a is not None and a <= b,
}


class FilterError(Exception):
    """A filter with a syntax error or an attribute that cannot be filtered: HTTP 400."""

    def __init__(self, attribute: str, value: str) -> None:
        super().__init__(attribute)
        self.attribute = attribute
        self.value = value


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison."""

    name: str
    op: str
    value: str


Alternatives = list[list[Term]]
"""A disjunction of conjunctions: all terms of at least one group must hold."""


def parse(text: str, *, mixed: bool = True) -> Alternatives:
    """Parse a filter; ``;`` binds tighter than ``,``.

    Raises:
        FilterError: a syntax error, or both connectors are used although ``mixed`` is false.
    """
    alternatives: Alternatives = [[]]
    connectors = set()
    index = 0
    while index < len(text):
        match = _TOKEN.match(text, index)
        if match is None or match.end() == index:
            raise FilterError("filter", text)
        value = match["quoted"] if match["quoted"] is not None else match["bare"]
        alternatives[-1].append(Term(match["name"], match["op"], value))
        connector = match["join"].strip()
        if connector in {",", "or"}:
            alternatives.append([])
        connectors.add({"and": ";", "or": ","}.get(connector, connector))
        index = match.end()
    if not mixed and {";", ","} <= connectors:
        raise FilterError("recordDataFilter", text)
    return alternatives


def holds(term: Term, row: Mapping[str, Any]) -> bool:
    """Return whether the row satisfies the term.

    Raises:
        FilterError: the value cannot be compared with the row's.
    """
    actual = row.get(term.name)
    if term.op in {"=~", "~="}:
        return re.search(term.value, str(actual or ""), re.IGNORECASE) is not None
    try:
        wanted = literal(term.value, actual)
        return _COMPARE[term.op](actual, wanted)
    except (TypeError, ValueError):
        raise FilterError(term.name, term.value) from None


def literal(text: str, actual: object) -> object:
    """Convert the filter's text to the type of the row's value, and dates to the rows' format."""
    if isinstance(actual, bool):
        return text.lower() == "true"
    if isinstance(actual, int):
        return int(text)
    if (date := parse_api_date(text)) is not None and "T" in text:
        return date.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return None if actual is None and text == "null" else text
