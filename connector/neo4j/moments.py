"""Dates and datetimes as texts on the wire, converted by the database. Pure text and values.

The driver (6.4.1) takes 9 us to send a date and 105 us to send a datetime, a text 0.1 us.
"""

import datetime as dt
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from connector.model.graph import NodeChange
from connector.neo4j.shapes import Shape

_FUNCTIONS: dict[type, str] = {dt.date: "date", dt.datetime: "localdatetime"}


class Moment(NamedTuple):
    """Values of one property that arrive as texts, and the function that converts them."""

    place: int
    """Its index among the node's values."""
    function: str


def moments_of(shape: Shape, changes: Sequence[NodeChange]) -> tuple[Moment, ...]:
    """The dates and datetimes that nodes of this shape have, these or any before.

    Earlier nodes count, too. Otherwise each combination of rare dates would need its own statement,
    and the database plans every new one.
    """
    known = _known_moments(shape)
    known |= {
        Moment(place, _FUNCTIONS[type(change.values[place])])
        for change in changes
        for place in change.temporal
    }
    return tuple(sorted(known))


@lru_cache(maxsize=512)
def _known_moments(_shape: Shape) -> set[Moment]:
    """The set of this shape's moments, to be added to."""
    return set()


def values_with_texts(change: NodeChange, moments: Sequence[Moment]) -> list[Any]:
    """The node's values without dates and datetimes, then a text or None for each moment."""
    if not moments:
        return change.values
    values: list[Any] = list(change.values)
    texts: list[str | None] = []
    for place, function in moments:
        value = values[place]
        if _FUNCTIONS.get(type(value)) == function:
            texts.append(value.isoformat())
            values[place] = None
        else:
            texts.append(None)
    return values + texts


def assignments(names: Sequence[str], moments: Sequence[Moment], source: str) -> str:
    """The Cypher that sets all properties of ``n`` from the list ``source``."""
    values = [f"{source}[{place}]" for place in range(len(names))]
    for offset, (place, function) in enumerate(moments, len(names)):
        values[place] = f"coalesce({function}({source}[{offset}]), {values[place]})"
    return ", ".join(f"n.`{name}` = {value}" for name, value in zip(names, values, strict=True))
