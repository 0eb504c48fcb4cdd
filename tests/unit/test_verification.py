"""Two looks at a graph that is being written: what they confirm, and what they do not."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import closing
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from connector.interfaces import Message, TopicPartition
from connector.model.comparison import FoundNode
from connector.model.entity import Entity
from connector.model.events import Identity
from connector.model.serde import encode
from connector.neo4j.node_reader import NodeReader
from connector.ops.verification import Verifier, wanted_change
from connector.ops.wanted import _is_consistent
from connector.sink.states import State
from connector.store.wanted_states import StoredState, WantedStates
from tests.builders import record_row, upsert

QUERY = Identity("S1", "query", 5)


class Graph:
    """A graph whose only query has another version at each look."""

    def __init__(self, versions: Iterable[int]) -> None:
        self._versions = iter(versions)

    def pages(self, entity: Entity, _: str) -> Iterator[list[FoundNode]]:
        if entity.name == "query":
            yield self.nodes()

    def strays(self, entity: Entity, _: str) -> list[FoundNode]:
        del entity
        return []

    def nodes(self, *_: object) -> list[FoundNode]:
        properties: dict[str, Any] = {"study_key": "S1", "annotation_id": 5}
        return [FoundNode(QUERY, False, properties | {"_version": next(self._versions)})]


class EmptyApi:
    """An API that never lists the query."""

    has_versions = False
    looks_max = 20
    unreadable: AbstractSet[Identity] = frozenset()

    def load(self, states: WantedStates) -> None:
        pass

    def refresh(self, states: WantedStates, wait_seconds: float) -> bool:
        del states, wait_seconds
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


def message(value: bytes | None, **headers: bytes) -> State:
    identity, at = Identity("S1", "record", 7), TopicPartition("t", 0)
    details = MagicMock(**{"headers.return_value": list(headers.items())})
    return State(identity, 5, Message(at, 1, identity.to_key(), value, details))


@pytest.mark.parametrize(
    ("headers", "is_wanted"),
    [({}, True), ({"version": b"5"}, True), ({"version": b"6"}, False), ({"version": b"x"}, False)],
)
def test_an_event_that_sinks_refuse_for_its_headers_is_not_wanted(
    headers: dict[str, bytes],
    is_wanted: bool,  # noqa: FBT001
) -> None:
    """An event whose header contradicts it is a dead letter, so the graph must not have it."""
    assert _is_consistent(message(b"{}", **headers)) is is_wanted


def test_of_states_with_one_version_the_first_that_is_an_event_is_wanted() -> None:
    """Of states with one version, the first that is an event is wanted; none with two versions."""
    event = upsert(record_row(7), 5)
    value = encode(event)[1]
    two = value.replace(b'"version":5,', b'"version":5,"version":9,')
    stored = [
        StoredState(9, value),
        StoredState(5, b"{"),
        StoredState(5, two),
        StoredState(5, value),
    ]
    change = wanted_change(event.identity, stored)
    assert change is not None
    assert change.version == 5
    assert wanted_change(event.identity, stored[:3]) is None


class OddApi(EmptyApi):
    """An API that lists the query as a row that cannot become an event."""

    unreadable = frozenset({QUERY})


def test_what_the_api_lists_but_cannot_be_an_event_is_not_compared() -> None:
    """A row that cannot become an event is neither extra nor equal: it is counted."""
    with closing(WantedStates()) as states:
        reader = cast("NodeReader", Graph([7, 7]))
        result = Verifier(reader, states, OddApi(), lambda *_: None).run("S1", 0)
    assert (result.exit_code, result.unreadable) == (0, 1)


class Strays(Graph):
    """A graph with a node that has no id."""

    def __init__(self, looks: int) -> None:
        super().__init__([])
        self._looks = looks

    def pages(self, entity: Entity, study_key: str) -> Iterator[list[FoundNode]]:
        yield self.strays(entity, study_key)

    def nodes(self, *_: object) -> list[FoundNode]:
        return []

    def strays(self, entity: Entity, _: str) -> list[FoundNode]:
        if entity.name != "query" or not self._looks:
            return []
        self._looks -= 1
        identity = Identity("S1", "query", "(None, node 4:1)")
        return [FoundNode(identity, False, {"study_key": "S1", "description": "planted"})]


@pytest.mark.parametrize(("looks", "exit_code"), [(2, 1), (1, 0)])
def test_a_node_without_an_id_is_looked_at_again(looks: int, exit_code: int) -> None:
    """A node without an id is confirmed by the second look, as any other."""
    with closing(WantedStates()) as states:
        reader = cast("NodeReader", Strays(looks))
        assert (
            Verifier(reader, states, EmptyApi(), lambda *_: None).run("S1", 0).exit_code
            == exit_code
        )
