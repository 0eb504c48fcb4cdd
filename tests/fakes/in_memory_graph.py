"""`connector.interfaces.GraphWriter` in memory."""

import copy
import threading
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Any

from connector.errors import RetryableError, StaleGraphError
from connector.interfaces import ProbeResult, Span, WriteResult
from connector.model.entities import ENTITIES
from connector.model.events import Identity
from connector.model.graph import NodeChange, key_values
from connector.model.graph_state import GraphState, NodeKey, Relationship, relationship
from connector.model.properties import MODEL


def key_of(identity: Identity) -> NodeKey:
    return NodeKey(ENTITIES[identity.entity].label, tuple(key_values(identity)))


def stub_of(identity: Identity) -> dict[str, Any]:
    """Return the properties of a node that other nodes only refer to."""
    names = ENTITIES[identity.entity].key_properties
    return dict(zip(names, key_values(identity), strict=True))


class InMemoryGraph:
    """Each write raises the next error of ``failures``; None lets it succeed."""

    def __init__(self) -> None:
        self.graph = GraphState()
        self.failures: list[Exception | None] = []
        self.writes = 0
        self.offsets: dict[str, int] = {}
        """Checkpoints by key."""
        self.lacks_constraint = False
        self.before_write: Callable[[Sequence[NodeChange]], None] = lambda _: None
        self._lock = threading.Lock()

    def probe(self, versions: Mapping[Identity, int]) -> ProbeResult:
        with self._lock:
            newer = {who for who, version in versions.items() if self._is_outdated(who, version)}
            absent = {who for who in newer if key_of(who) not in self.graph.nodes}
            return ProbeResult(absent, newer - absent)

    def empty(self) -> None:
        """Delete all nodes, checkpoints included."""
        with self._lock:
            self.graph, self.offsets = GraphState(), {}

    def backup(self) -> tuple[GraphState, dict[str, int]]:
        with self._lock:
            return copy.deepcopy((self.graph, self.offsets))

    def restore(self, backup: tuple[GraphState, dict[str, int]]) -> None:
        with self._lock:
            self.graph, self.offsets = copy.deepcopy(backup)

    def check_schema(self) -> None:
        if self.lacks_constraint:
            raise RetryableError("Constraints are missing from the graph")

    def checkpoints(self, keys: Collection[str]) -> dict[str, int]:
        with self._lock:
            return {key: self.offsets[key] for key in keys if key in self.offsets}

    def set_checkpoint(self, key: str, offset: int) -> None:
        with self._lock:
            self.offsets[key] = max(offset, self.offsets.get(key, -1))

    def advance(self, span: Span) -> None:
        with self._lock:
            if not self._is_complete_to(span):
                raise StaleGraphError("behind")
            self.offsets[span.checkpoint] = max(span.end, self.offsets[span.checkpoint])

    def _is_complete_to(self, span: Span) -> bool:
        return self.offsets.get(span.checkpoint, -1) >= span.start

    def write(
        self,
        changes: Sequence[NodeChange],
        absent: Container[Identity] = (),
        span: Span | None = None,
        *,
        advance: bool = False,
    ) -> WriteResult:
        self.before_write(changes)
        with self._lock:
            if span and not self._is_complete_to(span):
                raise StaleGraphError("behind")
            met = any(
                each.identity in absent and key_of(each.identity) in self.graph.nodes
                for each in changes
            )
            self._write(changes)
            if span and advance:
                self.offsets[span.checkpoint] = max(span.end, self.offsets[span.checkpoint])
            return WriteResult(not met)

    def _write(self, changes: Sequence[NodeChange]) -> None:
        self.writes += 1
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        for change in changes:
            if self._is_outdated(change.identity, change.version):
                self._apply(change)

    def state(self, study_key: str) -> GraphState:
        nodes = {key: node for key, node in self.graph.nodes.items() if key.values[0] == study_key}
        links = {each for each in self.graph.relationships if each.start.values[0] == study_key}
        return GraphState(nodes, links)

    def _state(self, identity: Identity) -> tuple[int, int]:
        node = self.graph.nodes.get(key_of(identity), {})
        return node.get("_version", -1), node.get(MODEL, 0)

    def _is_outdated(self, identity: Identity, version: int) -> bool:
        return self._state(identity) < (version, ENTITIES[identity.entity].model_revision)

    def _apply(self, change: NodeChange) -> None:
        key, entity = key_of(change.identity), ENTITIES[change.identity.entity]
        before = self.graph.nodes.get(key, {})
        users = {name: value for name, value in before.items() if name.startswith("x_")}
        self.graph.nodes[key] = users | change.properties
        for link in change.links:
            kind, outgoing = link.reference.relationship, link.reference.outgoing
            self._unlink(key, kind, outgoing=outgoing)
            if link.target is not None:
                self._link(key, kind, link.target, outgoing=outgoing)
        for reference, listed in zip(entity.reference_lists, change.listed, strict=True):
            self._unlink(key, reference.relationship, outgoing=True)
            for each in listed:
                self._link(
                    key, reference.relationship, each.target, outgoing=True, values=each.properties
                )
        for part, nodes in zip(entity.parts, change.parts, strict=True):
            for relation in self._unlink(key, part.relationship, outgoing=True):
                del self.graph.nodes[relation.end]
            for properties in nodes:
                own = NodeKey(part.label, (*key.values, properties["position"]))  # type: ignore[arg-type]
                self.graph.nodes[own] = dict(properties)
                self.graph.relationships.add(Relationship(key, part.relationship, own))

    def _unlink(self, key: NodeKey, kind: str, *, outgoing: bool) -> set[Relationship]:
        own = {
            each
            for each in self.graph.relationships
            if each.kind == kind and (each.start if outgoing else each.end) == key
        }
        self.graph.relationships -= own
        return own

    def _link(
        self,
        key: NodeKey,
        kind: str,
        target: Identity,
        *,
        outgoing: bool,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        other = key_of(target)
        self.graph.nodes.setdefault(other, stub_of(target))
        start, end = (key, other) if outgoing else (other, key)
        self.graph.relationships.add(relationship(start, kind, end, values))
