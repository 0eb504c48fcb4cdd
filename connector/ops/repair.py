"""Repairs what a verification has found, with the events of the topic.

An event is applied again although the node has its version, so a repair is as idempotent as the
stream, and may run beside it. A node that should not exist is marked as deleted only if the topic
does not hold it either, and two passes over the API have missed it.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from connector.errors import START_SWEEP, BatchTooLargeError, InvalidEventError
from connector.interfaces import GraphWriter, VanishedRows
from connector.model.comparison import Problem
from connector.model.entities import READ_KINDS
from connector.model.entity import Entity
from connector.model.events import EntityId, Identity, KnownState, is_valid_id
from connector.model.graph import NodeChange, deletion
from connector.neo4j.node_reader import NodeReader
from connector.ops.verification import wanted_change
from connector.ops.wanted import ApiStates
from connector.sink.batch import halves
from connector.source.changes import reason_not_to_delete
from connector.store.wanted_states import WantedStates

_APPLY = (Problem.MISSING, Problem.STALE, Problem.DIFFERENT, Problem.WRONGLY_LINKED)
_REPLACE = (Problem.NEWER,)
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

    def note_strays(self, result: Repaired) -> None:
        """Note the nodes that no event describes, so that none can repair them."""
        for entity in READ_KINDS.values():
            chunks = self._found.differing(entity.name, self._study_key, (Problem.EXTRA,))
            strays = [each for ids in chunks for each in ids if not is_valid_id(entity.name, each)]
            if strays:
                result.notes.append(
                    f"{entity.plural}: {len(strays)} nodes have no valid id, or belong to no"
                    f" {entity.label}, such as {strays[0]}. No event describes them: delete them"
                    " yourself, by their elementId"
                )

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

    def replace_newer(self, api: ApiStates, result: Repaired) -> None:
        """Write the topic's state over nodes that are newer, where the API has that state, too.

        Such as a row that an export has missed or read, and that is now as the source knows it: no
        event will follow. The node keeps its version, so any newer event still replaces it.

        Raises:
            ConnectorError: a server does not answer; the repair can be repeated.
        """
        kinds = [
            entity
            for entity in READ_KINDS.values()
            if any(self._found.differing(entity.name, self._study_key, _REPLACE))
        ]
        if not kinds:
            return
        with closing(WantedStates()) as listed:
            api.load(listed)
            for entity in kinds:
                self._replace_newer(entity, listed, result)

    def _replace_newer(self, entity: Entity, listed: WantedStates, result: Repaired) -> None:
        for ids in self._found.differing(entity.name, self._study_key, _REPLACE):
            nodes = self._reader.nodes(entity, self._study_key, ids)
            agreed = []
            for node in nodes:
                change = self._on_topic(entity, node.identity.id)
                of_api = wanted_change(node.identity, listed.versions_of(node.identity))
                if change is None or change.is_delete or of_api is None:
                    continue
                if change.content_hash == of_api.content_hash:
                    agreed.append(change.with_version(node.version or 0))
            result.applied += self._write(agreed)
            if left := len(nodes) - len(agreed):
                result.notes.append(
                    f"{entity.plural}: {left} nodes are newer than the topic, which the API does"
                    f" not confirm. To publish what it lacks, {START_SWEEP}"
                )

    def delete_extras(self, api: ApiStates, ratio_max: float, result: Repaired) -> None:
        """Mark nodes as deleted that neither the topic nor two passes over the API have.

        Refuses, as a sweep does, if the API's answers are not credible.

        Raises:
            ConnectorError: a server does not answer; the repair can be repeated.
        """
        for entity in READ_KINDS.values():
            extras = dict(self._extras(entity))
            if not extras:
                continue
            known = self._live(entity) + len(extras)
            gone, reason = _gone(entity, extras, api, known, ratio_max)
            if reason is not None:
                result.notes.append(f"{entity.plural}: nothing was deleted: {reason}")
                continue
            if listed := len(extras) - len(gone):
                result.notes.append(
                    f"{entity.plural}: the API lists {listed} nodes that the topic does not have."
                    f" To publish them, {START_SWEEP}"
                )
            identities = (Identity(self._study_key, entity.name, each) for each in gone)
            # With the node's version: any newer event replaces the marker.
            markers = [deletion(each, extras[each.id]) for each in identities]
            result.deleted += self._write(markers)

    def _extras(self, entity: Entity) -> Iterator[tuple[EntityId, int]]:
        """The nodes that should not exist, and that the topic does not hold as live.

        By id, with their versions.
        """
        for ids in self._found.differing(entity.name, self._study_key, (Problem.EXTRA,)):
            valid = [each for each in ids if is_valid_id(entity.name, each)]
            for node in self._reader.nodes(entity, self._study_key, valid):
                change = self._on_topic(entity, node.identity.id)
                if change is None or change.is_delete:
                    yield node.identity.id, node.version or 0

    def _live(self, entity: Entity) -> int:
        """The number of entities that the topic holds as live."""
        changes = (
            self._on_topic(entity, each) for each in self._topic.ids(entity.name, self._study_key)
        )
        return sum(change is not None and not change.is_delete for change in changes)


def _gone(
    entity: Entity, extras: Collection[EntityId], api: ApiStates, known: int, ratio_max: float
) -> tuple[set[EntityId], str | None]:
    """The extras that the API does not list, and why none may be deleted (None: they may)."""
    gone, listed, is_short = set(extras), known, False
    for _ in range(_API_PASSES):
        rows, before = 0, set[EntityId]()
        for page in api.pages(entity):
            rows += len(page.page.rows)
            is_short |= page.position_after.is_short or not before.isdisjoint(page.ids)
            if not page.track.is_keyset:  # ids in order are never listed twice
                before.update(page.ids)
            gone.difference_update(page.ids)
        listed = min(listed, rows)
    states = {each: KnownState(0, "", None) for each in gone}
    vanished = VanishedRows(known=known, listed=listed, missed=0, gone=states, undelivered={})
    return gone, reason_not_to_delete(vanished, ratio_max, is_short=is_short)
