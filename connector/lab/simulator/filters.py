"""The API's filter grammar: ``name op value``, ``;`` or ``and``, ``,`` or ``or``."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from connector.model.dates import parse_api_date

# `and` and `or` need white space around them; `;` and `,` none. Quotes protect all of it.
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
    """The filter is not of the grammar, or names what cannot be filtered: HTTP 400."""

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
"""Any of these groups must hold, all terms of it."""


def parse(text: str, *, mixed: bool = True) -> Alternatives:
    """The filter as alternatives of conjunctions; ``;`` binds tighter than ``,``.

    Raises:
        FilterError: not of the grammar; or both connectors where they may not be mixed.
    """
    alternatives: Alternatives = [[]]
    joins = set()
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.end() == at:
            raise FilterError("filter", text)
        value = match["quoted"] if match["quoted"] is not None else match["bare"]
        alternatives[-1].append(Term(match["name"], match["op"], value))
        join = match["join"].strip()
        if join in {",", "or"}:
            alternatives.append([])
        joins.add({"and": ";", "or": ","}.get(join, join))
        at = match.end()
    if not mixed and {";", ","} <= joins:
        raise FilterError("recordDataFilter", text)
    return alternatives


def holds(term: Term, row: Mapping[str, Any]) -> bool:
    """Whether the row fulfils the term."""
    actual = row.get(term.name)
    if term.op in {"=~", "~="}:
        return re.search(term.value, str(actual or ""), re.IGNORECASE) is not None
    try:
        wanted = literal(term.value, actual)
        return _COMPARE[term.op](actual, wanted)
    except (TypeError, ValueError):
        raise FilterError(term.name, term.value) from None


def literal(text: str, actual: object) -> object:
    """The filter's text as a value of the row's kind; dates in the form that rows have."""
    if isinstance(actual, bool):
        return text.lower() == "true"
    if isinstance(actual, int):
        return int(text)
    if (date := parse_api_date(text)) is not None and "T" in text:
        return date.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return None if actual is None and text == "null" else text
