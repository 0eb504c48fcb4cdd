"""Repairs what a verification has found, with the events of the topic.

An event is applied again although the node has its version, so a repair is as idempotent as the
stream, and may run beside it. A node that should not exist is marked as deleted only if the topic
does not hold it either, and two passes over the API have missed it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from connector.errors import START_SWEEP, BatchTooLargeError, InvalidEventError
from connector.interfaces import GraphWriter, VanishedRows
from connector.model.comparison import FoundNode, Problem
from connector.model.entities import READ_KINDS
from connector.model.entity import Entity
from connector.model.events import EntityId, Identity, KnownState, valid_id
from connector.model.graph import NodeChange, deletion
from connector.neo4j.node_reader import NodeReader
from connector.ops.verification import wanted_change
from connector.ops.wanted import ApiStates
from connector.sink.batch import halves
from connector.source.changes import reason_not_to_delete
from connector.store.wanted_states import WantedStates

_APPLY = (Problem.MISSING, Problem.STALE, Problem.DIFFERENT, Problem.WRONGLY_LINKED)
_API_PASSES = 2


@dataclass(slots=True)
class Repaired:
    """The outcome of a repair; entities that it could not repair are still different."""

    applied: int = 0
    """Entities whose event was applied again."""
    deleted: int = 0
    """Nodes that were marked as deleted."""
    notes: list[str] = field(default_factory=list)
    """Why something was left alone, and what to do."""


class Repair:
    """Repairs one study."""

    def __init__(
        self, study_key: str, found: WantedStates, topic: WantedStates, writer: GraphWriter,
        reader: NodeReader,
    ) -> None:  # fmt: skip
        """``found`` has the differences, ``topic`` the events; ``writer`` must be a forcing one."""
        self._study_key = study_key
        self._found, self._topic = found, topic
        self._writer, self._reader = writer, reader

    def apply_events(self, result: Repaired) -> None:
        """Apply the newest event of each entity that is missing, stale or wrong; parents first.

        Raises:
            ConnectorError: a server does not answer; the repair can be repeated.
        """
        for entity in READ_KINDS.values():
            for ids in self._found.differing(entity.name, self._study_key, _APPLY):
                wanted = (self._on_topic(entity, each) for each in ids)
                changes = [change for change in wanted if change is not None]
                result.applied += self._write(changes)

    def _on_topic(self, entity: Entity, entity_id: EntityId) -> NodeChange | None:
        identity = Identity(self._study_key, entity.name, entity_id)
        return wanted_change(identity, self._topic.versions_of(identity))

    def _write(self, changes: Sequence[NodeChange]) -> int:
        """Write in one transaction per kind, or in smaller ones; return the number written."""
        if not changes:
            return 0
        try:
            self._writer.write(changes)
        except (BatchTooLargeError, InvalidEventError):
            if len(changes) == 1:
                return 0  # it stays different
            return sum(map(self._write, halves(changes)))
        return len(changes)

    def delete_extras(self, api: ApiStates, ratio_max: float, result: Repaired) -> None:
        """Mark nodes as deleted that neither the topic nor two passes over the API have.

        Refuses, as a sweep does, if the API's answers are not credible.

        Raises:
            ConnectorError: a server does not answer; the repair can be repeated.
        """
        for entity in READ_KINDS.values():
            extras = list(self._extras(entity))
            nodes = {node.identity.id: node for node in extras}
            if not nodes:
                continue
            known = self._topic.count(entity.name, self._study_key) + len(nodes)
            gone, reason = _gone(entity, nodes, api, known, ratio_max)
            if reason is not None:
                result.notes.append(f"{entity.plural}: nothing was deleted: {reason}")
                continue
            if listed := len(nodes) - len(gone):
                result.notes.append(
                    f"{entity.plural}: the API lists {listed} nodes that the topic does not have."
                    f" To publish them, {START_SWEEP}"
                )
            result.deleted += self._write([_deletion(node) for node in gone])

    def _extras(self, entity: Entity) -> Iterator[FoundNode]:
        """The nodes that should not exist, and that the topic does not hold as live."""
        for ids in self._found.differing(entity.name, self._study_key, (Problem.EXTRA,)):
            valid = [each for each in ids if valid_id(entity.name, each) == each]
            for node in self._reader.nodes(entity, self._study_key, valid):
                change = self._on_topic(entity, node.identity.id)
                if change is None or change.is_delete:
                    yield node


def _gone(
    entity: Entity, nodes: dict[EntityId, FoundNode], api: ApiStates, known: int, ratio_max: float
) -> tuple[list[FoundNode], str | None]:
    """The nodes that the API does not list, and why none may be deleted (None: they may)."""
    gone, listed, is_short = dict(nodes), known, False
    for _ in range(_API_PASSES):
        rows = 0
        for page in api.pages(entity):
            rows += len(page.page.rows)
            is_short |= page.position_after.is_short
            for each in page.ids:
                gone.pop(each, None)
        listed = min(listed, rows)
    states = {each: KnownState(0, "", None) for each in gone}
    vanished = VanishedRows(known=known, listed=listed, missed=0, gone=states, undelivered={})
    return list(gone.values()), reason_not_to_delete(vanished, ratio_max, is_short=is_short)


def _deletion(node: FoundNode) -> NodeChange:
    """The marker of the deleted entity, with the node's version: any newer event replaces it."""
    return deletion(node.identity, node.version or 0)
