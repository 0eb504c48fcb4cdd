"""Two looks at a graph that is being written: what they confirm, and what they do not."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, cast

import pytest

from connector.model.comparison import FoundNode
from connector.model.entity import Entity
from connector.model.events import Identity
from connector.neo4j.node_reader import NodeReader
from connector.ops.verification import Verifier
from connector.store.wanted_states import WantedStates

QUERY = Identity("S1", "query", 5)


class Graph:
    """A graph whose only query has another version at each look."""

    def __init__(self, versions: Iterable[int]) -> None:
        self._versions = iter(versions)

    def pages(self, entity: Entity, _: str) -> Iterator[list[FoundNode]]:
        if entity.name == "query":
            yield self.nodes()

    def nodes(self, *_: object) -> list[FoundNode]:
        properties: dict[str, Any] = {"study_key": "S1", "annotation_id": 5}
        return [FoundNode(QUERY, False, properties | {"_version": next(self._versions)})]


class EmptyApi:
    """An API that never lists the query."""

    has_versions = False

    def load(self, states: WantedStates) -> None:
        pass

    def refresh(self, states: WantedStates, until: float) -> bool:
        del states, until
        return True


@pytest.mark.parametrize(
    ("versions", "exit_code"),
    [([7, 7], 1), (range(7, 100), 2)],
    ids=["the node stays as it is", "the node is being written"],
)
def test_a_difference_is_confirmed_only_if_both_sides_stay(
    versions: Iterable[int], exit_code: int
) -> None:
    """A node that changes between the looks may differ for another reason at each of them."""
    found: list[int] = []
    reader = cast("NodeReader", Graph(versions))
    with closing(WantedStates()) as states:
        verifier = Verifier(reader, states, EmptyApi(), lambda _, count: found.append(count))
        result = verifier.run("S1", 0)
    assert result.exit_code == exit_code
    assert found == [1]
