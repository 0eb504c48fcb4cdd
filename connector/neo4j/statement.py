"""A Cypher statement with its rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connector.model.graph import NodeChange

ROWS = "$batch.rows"
"""The rows in a statement or query. They are inside a map, because Neo4j (5.26) plans a query again
for each order of magnitude of a list parameter's length: 0.3 - 0.9 s each for a cold server."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Cypher that reads its rows from `ROWS`; run it with the prefix `KEEP_PLAN`.

    ``created``: the changes whose nodes it creates; it fails if one of the nodes exists.
    """

    cypher: str
    rows: Sequence[Any]
    created: Sequence[NodeChange] = ()

    @property
    def count(self) -> int:
        """The number of changes that the statement makes."""
        return len(self.created or self.rows)
