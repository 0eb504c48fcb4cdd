"""Creates many nodes of one shape with one statement that names their properties. Pure text."""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from connector.model.entities import ENTITIES
from connector.model.graph import NodeChange
from connector.neo4j.moments import Moment, assignments, moments_of, values_with_texts
from connector.neo4j.patterns import node_pattern, relationship_pattern
from connector.neo4j.shapes import Shape, by_shape
from connector.neo4j.statement import ROWS, Statement

_ALIKE_MIN = 64
"""This many nodes of one shape, or more, get their own CREATE statement; for fewer it costs more
than it saves (measured with 53 properties, on 5.26.30)."""


def create_in_bulk(changes: Sequence[NodeChange]) -> tuple[list[Statement], list[NodeChange]]:
    """Build a statement for each shape that many of these nodes of one kind share.

    Returns also the changes that no statement creates.
    """
    shapes, others = by_shape(changes, _ALIKE_MIN)
    created: list[Statement] = []
    for shape, alike in shapes.items():
        moments = moments_of(shape, alike)
        created.append(Statement(_create(shape, moments), _rows_by_targets(alike, moments), alike))
    return created, others


def _rows_by_targets(changes: list[NodeChange], moments: Sequence[Moment]) -> list[list[Any]]:
    """Build rows ``[study_key, target ids, [values of a node, ...]]``, sorted by target.

    Transactions that share targets take the locks in this order, as those of `cypher` do.
    """
    grouped: dict[tuple[Any, ...], list[list[Any]]] = defaultdict(list)
    for change in changes:
        ids = [link.target and link.target.id for link in change.links]
        grouped[change.identity.study_key, *ids].append(values_with_texts(change, moments))
    return [
        [study, ids, nodes] for (study, *ids), nodes in sorted(grouped.items(), key=itemgetter(0))
    ]


@lru_cache(maxsize=512)
def _create(shape: Shape, moments: tuple[Moment, ...]) -> str:
    """Build the statement for the rows of `_rows_by_targets`.

    The database looks up the targets of a row once.
    """
    entity = ENTITIES[shape.entity]
    targets = [
        (index, reference, target)
        for index, (reference, target) in enumerate(
            zip(entity.references, shape.targets, strict=True)
        )
        if target is not None
    ]
    return "\n".join(
        [
            f"UNWIND {ROWS} AS row",
            *(
                f"MERGE {node_pattern(f'p{index}', ENTITIES[target], 'row[0]', f'row[1][{index}]')}"
                for index, _, target in targets
            ),
            f"WITH * UNWIND row[2] AS properties CREATE (n:{entity.label})",
            f"SET {assignments(shape.names, moments, 'properties')}",
            *(
                f"CREATE {relationship_pattern(f'p{index}', reference)}"
                for index, reference, _ in targets
            ),
        ]
    )
