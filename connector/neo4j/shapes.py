"""Groups nodes of one shape: one statement can name their properties. Pure.

The database then processes no name with each value, which takes it a quarter of an update's time
(57 properties, on 5.26.30). The names come from the data, so they must be plain identifiers.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from connector.model.graph import NodeChange

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Shape(NamedTuple):
    """What nodes have in common that one statement can write: kind, properties, targets."""

    entity: str
    names: tuple[str, ...]
    """Property names."""
    targets: tuple[str | None, ...]
    """The target kind of each reference; None: no target."""


def by_shape(
    changes: Sequence[NodeChange], alike_min: int
) -> tuple[dict[Shape, list[NodeChange]], list[NodeChange]]:
    """Group changes of one kind by shape, if at least ``alike_min`` share it.

    Returns also all others: nodes of rare shapes, with parts or lists of references, or with a
    property name that is not a plain identifier.
    """
    shapes: dict[Shape, list[NodeChange]] = defaultdict(list)
    others: list[NodeChange] = []
    for change in changes:
        if any(change.listed) or any(change.parts):
            others.append(change)
        else:
            shapes[_shape(change)].append(change)
    for shape, alike in list(shapes.items()):
        if len(alike) < alike_min or not _has_plain_names(shape):
            others += shapes.pop(shape)
    return dict(shapes), others


def _shape(change: NodeChange) -> Shape:
    targets = tuple([link.target and link.target.entity for link in change.links])
    return Shape(change.identity.entity, change.names, targets)


def _has_plain_names(shape: Shape) -> bool:
    """Whether every name can stand in the statement: none can close the quotes around it."""
    return all(map(_PLAIN_NAME.fullmatch, shape.names))
