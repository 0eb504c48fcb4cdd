"""Verifies a graph: reads it node by node in the order of keys, and compares with wanted states.

Takes little memory whatever the size. A difference counts once two looks in a row have found it for
the same states of both sides, and the writers had the time to apply the wanted one in between.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from connector.errors import InvalidEventError
from connector.model.comparison import (
    Difference,
    FoundNode,
    Problem,
    compare_node,
)
from connector.model.entities import READ_KINDS
from connector.model.entity import Entity
from connector.model.events import VERSION_MAX, EntityId, Identity, is_valid_id
from connector.model.graph import NodeChange, node_change
from connector.model.serde import Headers, decode_event
from connector.neo4j.node_reader import NodeReader
from connector.ops.wanted import OnRows, WantedSource
from connector.store.wanted_states import StoredState, WantedStates

_DIGEST_BITS = 256


@dataclass(slots=True)
class Verification:
    """The outcome: what was read, and how many differences of which kind are left."""

    nodes: Counter[str] = field(default_factory=Counter)
    """Nodes with an event of their own, by kind."""
    digest: str = ""
    """Equal for equal graphs. Meaningful if nothing was written meanwhile."""
    problems: Counter[tuple[str, Problem]] = field(default_factory=Counter)
    unconfirmed: int = 0
    """Differences that may only mean that the graph is being written."""
    unreadable: int = 0
    """Entities that were not compared: what the source lists of them cannot be an event."""

    @property
    def exit_code(self) -> int:
        """0: equal; 1: different; 2: inconclusive."""
        if self.problems.total() > self.unconfirmed:
            return 1
        return 2 if self.unconfirmed else 0


class Verifier:
    """Compares one graph with the states of one source."""

    def __init__(
        self, reader: NodeReader, states: WantedStates, source: WantedSource, on_rows: OnRows
    ) -> None:
        self._reader, self._states, self._source = reader, states, source
        self._on_rows = on_rows
        self._look = 1

    def run(self, study_key: str | None, wait_seconds: float) -> Verification:
        """Compare, and look again at differences until they are gone or confirmed. Blocks.

        ``wait_seconds``: how long differences may take to disappear.

        Raises:
            ConnectorError: a server does not answer.
        """
        self._source.load(self._states)
        result = Verification()
        studies = [study_key] if study_key else sorted(self._studies())
        total = 0
        for study in studies:
            for entity in READ_KINDS.values():
                for nodes in self._reader.pages(entity, study):
                    self._compare(entity, study, nodes)
                    self._on_rows(f"graph: {entity.plural}", len(nodes))
                    applied = [node for node in nodes if node.version is not None]
                    result.nodes[entity.name] += len(applied)
                    total += sum(node.hash() for node in applied)
                self._compare_missing(entity, study, self._states.not_found(entity.name, study))
        result.digest = f"{total % 2**_DIGEST_BITS:0{_DIGEST_BITS // 4}x}"
        self._settle(studies, wait_seconds)
        return self.counted(result)

    def counted(self, result: Verification) -> Verification:
        """Update the counts of the result to the differences of the last look."""
        result.problems, result.unconfirmed = self._states.problems(), self._states.unconfirmed()
        result.unreadable = len(self._source.unreadable)
        return result

    def _studies(self) -> set[str]:
        return self._states.studies() | self._reader.studies()

    def _settle(self, studies: list[str], wait_seconds: float) -> None:
        for _ in range(self._source.looks_max):
            if not self._states.problems():
                return
            is_applied = self._source.refresh(self._states, wait_seconds)
            if not is_applied:
                return  # the differences stay unconfirmed
            self.look_again(studies)
            if not self._states.unconfirmed():
                return

    def look_again(self, studies: Iterable[str]) -> None:
        """Compare the entities with differences again. Blocks.

        Raises:
            ConnectorError: the database does not answer.
        """
        self._look += 1
        for study in studies:
            for entity in READ_KINDS.values():
                for ids in self._states.differing(entity.name, study):
                    self._look_at(entity, study, ids)
        self._states.drop_differences_before(self._look)

    def _look_at(self, entity: Entity, study_key: str, ids: list[EntityId]) -> None:
        nodes = self._reader.nodes(entity, study_key, ids)
        if not all(is_valid_id(entity.name, each) for each in ids):
            strays = self._reader.strays(entity, study_key)
            nodes += [node for node in strays if node.identity.id in ids]
        self._compare(entity, study_key, nodes)
        missing = set(ids) - {node.identity.id for node in nodes}
        self._compare_missing(entity, study_key, missing)

    def _compare(self, entity: Entity, study_key: str, nodes: list[FoundNode]) -> None:
        self._states.mark_found(entity.name, study_key, (node.identity.id for node in nodes))
        self._put(self._differences(nodes))

    def _differences(self, nodes: list[FoundNode]) -> Iterator[tuple[Difference, int]]:
        for node in nodes:
            if node.identity in self._source.unreadable:
                continue
            wanted = self._wanted(node.identity)
            has_versions = self._source.has_versions
            for each in compare_node(wanted, node, compare_versions=has_versions):
                yield each, _identifier(wanted, node)

    def _compare_missing(self, entity: Entity, study_key: str, ids: Iterable[EntityId]) -> None:
        identities = (Identity(study_key, entity.name, each) for each in ids)
        wanted = ((each, self._wanted(each)) for each in identities)
        self._put(
            (Difference(each, Problem.MISSING), _identifier(change, None))
            for each, change in wanted
            if change is not None
        )

    def _wanted(self, identity: Identity) -> NodeChange | None:
        return wanted_change(identity, self._states.versions_of(identity))

    def _put(self, found: Iterable[tuple[Difference, int]]) -> None:
        self._states.put_differences(found, self._look)


def _identifier(wanted: NodeChange | None, found: FoundNode | None) -> int:
    """What tells two looks at an entity apart if either side has changed in between.

    The wanted state's version, or else its content; and the node's version.
    """
    sides = (wanted and (wanted.version or wanted.content_hash), found and found.version)
    return int.from_bytes(hashlib.blake2b(repr(sides).encode(), digest_size=7).digest())


@dataclass(frozen=True, slots=True)
class _Stored:
    """A state as a message: the key, and headers that agree, were checked when it was read."""

    value: bytes | None
    timestamp_ms: int
    headers: Headers = field(default_factory=list)


def wanted_change(identity: Identity, versions: Iterable[StoredState]) -> NodeChange | None:
    """The node of the newest of these states that a sink can apply; None if there is none. Pure."""
    for version, value in versions:
        try:
            # Whether the version is in the future was checked when the state was read.
            event = decode_event(identity, _Stored(value, version), VERSION_MAX)
            if event.version == version:  # if not, the payload contains two
                return node_change(event)
        except InvalidEventError:
            pass  # a dead letter: the sinks have applied an older state
    return None
