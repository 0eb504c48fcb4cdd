"""A graph in memory with the promises of `connector.interfaces.GraphWriter`."""

import threading
from collections.abc import Container, Mapping, Sequence
from typing import Any

from connector.entities import ENTITIES
from connector.events import Identity
from connector.graph import NodeChange, key_values
from connector.graph_state import GraphState, NodeKey, Relationship
from connector.interfaces import Probed


def key_of(identity: Identity) -> NodeKey:
    return NodeKey(ENTITIES[identity.entity].label, tuple(key_values(identity)))


def stub_of(identity: Identity) -> dict[str, Any]:
    """What a node has that is only referred to."""
    names = ENTITIES[identity.entity].key_properties
    return dict(zip(names, key_values(identity), strict=True))


class InMemoryGraph:
    """Fails with the errors that were put into ``failures``, one a write, first in first out."""

    def __init__(self) -> None:
        self.graph = GraphState()
        self.failures: list[Exception | None] = []
        self.writes = 0
        self._lock = threading.Lock()

    def probe(self, versions: Mapping[Identity, int]) -> Probed:
        with self._lock:
            newer = {who for who, version in versions.items() if self._version(who) < version}
            absent = {who for who in newer if key_of(who) not in self.graph.nodes}
            return Probed(absent, newer - absent)

    def write(self, changes: Sequence[NodeChange], absent: Container[Identity] = ()) -> bool:
        with self._lock:
            met = any(
                each.identity in absent and key_of(each.identity) in self.graph.nodes
                for each in changes
            )
            self._write(changes)
            return not met

    def _write(self, changes: Sequence[NodeChange]) -> None:
        self.writes += 1
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        for change in changes:
            if self._version(change.identity) < change.version:
                self._apply(change)

    def state(self, study_key: str) -> GraphState:
        nodes = {key: node for key, node in self.graph.nodes.items() if key.values[0] == study_key}
        links = {each for each in self.graph.relationships if each.start.values[0] == study_key}
        return GraphState(nodes, links)

    def _version(self, identity: Identity) -> int:
        version: int = self.graph.nodes.get(key_of(identity), {}).get("_version", -1)
        return version

    def _apply(self, change: NodeChange) -> None:
        key = key_of(change.identity)
        before = self.graph.nodes.get(key, {})
        users = {name: value for name, value in before.items() if name.startswith("x_")}
        self.graph.nodes[key] = users | change.properties
        for link in change.links:
            self._link(key, link.reference.relationship, link.reference.outgoing, link.target)

    def _link(self, key: NodeKey, kind: str, outgoing: bool, target: Identity | None) -> None:  # noqa: FBT001
        own = {
            each
            for each in self.graph.relationships
            if each.kind == kind and (each.start if outgoing else each.end) == key
        }
        self.graph.relationships -= own
        if target is not None:
            other = key_of(target)
            self.graph.nodes.setdefault(other, stub_of(target))
            start, end = (key, other) if outgoing else (other, key)
            self.graph.relationships.add(Relationship(start, kind, end))
