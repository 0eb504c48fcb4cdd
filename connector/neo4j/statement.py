"""A Cypher statement with its rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connector.model.graph import NodeChange


@dataclass(frozen=True, slots=True)
class Statement:
    """Cypher with one parameter, ``rows``; run it with the prefix `KEEP_PLAN`.

    ``created``: the changes whose nodes it creates; it fails if one of the nodes exists.
    """

    cypher: str
    rows: Sequence[Any]
    created: Sequence[NodeChange] = ()

    @property
    def count(self) -> int:
        """The number of changes that the statement makes."""
        return len(self.created or self.rows)
