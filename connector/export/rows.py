"""Records in whatever form they are handed over, to API objects, to changes of the graph. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import BaseModel

from connector.errors import InvalidEventError
from connector.interfaces import UnreadableRow
from connector.model.entities import ENTITIES, Entity, snake_case
from connector.model.events import EntityId, Identity, Op, Origin, RecordEvent, valid_id
from connector.model.graph import REDIRECTED, NodeChange, node_change
from connector.model.serde import content_hash
from connector.source.changes import own_id

_BY_PROPERTY = {
    entity.name: {snake_case(field): field for field in entity.fields}
    for entity in ENTITIES.values()
}
_DERIVED_VERSION = 0
"""Below every version that is a clock: whatever really comes from the API takes its place."""


class RefusedRow(NamedTuple):
    """A record that cannot be stored: its id (None: it has none) and why. No content."""

    id: EntityId | None
    reason: str


def api_object(entity: Entity, record: Any) -> dict[str, Any]:
    """A record as the API would show it: an SDK model, its dict, or any object with its fields.

    Raises:
        InvalidEventError: it is none of these.
    """
    if isinstance(record, BaseModel):
        # What the answer did not hold is not made up: the SDK's defaults are dates and zeros.
        record = record.model_dump(by_alias=True, exclude_unset=True)
    fields = _BY_PROPERTY[entity.name]
    if isinstance(record, Mapping):
        return {fields.get(str(name), str(name)): _plain(value) for name, value in record.items()}
    found = {field: getattr(record, name, None) for name, field in fields.items()}
    if found[entity.id_field] is None:
        raise InvalidEventError("not a record", reason="row")
    return {field: _plain(value) for field, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return Decimal(value)  # as in the API's rows: refused, where JSON would say null
    if isinstance(value, datetime):
        at = value if value.tzinfo else value.replace(tzinfo=UTC)
        return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, BaseModel):
        value = value.model_dump(by_alias=True, exclude_unset=True)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_plain(each) for each in value), key=str)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def change_of(entity: Entity, row: dict[str, Any], study_key: str, version: int) -> NodeChange:
    """The change that an API object asks for.

    Raises:
        InvalidEventError: it has no id, is of another study, or holds what no graph can.
    """
    entity_id = own_id(entity, row, study_key)
    return node_change(_event(entity, entity_id, row, study_key, version, content_hash(row)))


def deletion_of(entity: Entity, entity_id: EntityId, study_key: str, version: int) -> NodeChange:
    """The change that deletes this entity."""
    event = _event(entity, entity_id, {}, study_key, version, None)
    return node_change(replace(event, op=Op.DELETE, origin=Origin.SWEEP, data=None))


def api_objects(
    entity: Entity, records: Iterable[Any]
) -> tuple[list[dict[str, Any]], list[RefusedRow]]:
    """These records as the API would show them, and those that are none."""
    rows, refused = [], []
    for record in records:
        try:
            rows.append(api_object(entity, record))
        except InvalidEventError as error:
            refused.append(RefusedRow(None, error.reason))
    return rows, refused


class Changes(NamedTuple):
    """What some API objects ask for."""

    newest: dict[Identity, NodeChange]
    """The last change of the highest version, of each entity."""
    counts: Counter[Identity]
    """How many objects led to it: each was the newest state when it came."""
    superseded: int
    """How many objects came after a newer state of theirs."""
    refused: list[RefusedRow]


def changes_of(
    entity: Entity,
    rows: Sequence[Any],
    study_key: str,
    version_of: Callable[[Mapping[str, Any]], int],
) -> Changes:
    """The changes that these API objects ask for, and what cannot be stored."""
    newest: dict[Identity, NodeChange] = {}
    counts: Counter[Identity] = Counter()
    superseded, refused = 0, []
    for row in rows:
        if isinstance(row, UnreadableRow):
            refused.append(RefusedRow(valid_id(entity.name, row.id_hint), "unparsable"))
            continue
        if not isinstance(row, dict):
            refused.append(RefusedRow(None, "row"))
            continue
        try:
            change = change_of(entity, row, study_key, version_of(row))
        except InvalidEventError as error:
            refused.append(
                RefusedRow(valid_id(entity.name, row.get(entity.id_field)), error.reason)
            )
            continue
        before = newest.get(change.identity)
        if before is not None and before.version > change.version:
            superseded += 1
            continue
        newest[change.identity] = change
        counts[change.identity] += 1
    return Changes(newest, counts, superseded, refused)


def derived_changes(rows: Sequence[dict[str, Any]], study_key: str) -> list[NodeChange]:
    """The study, subjects and visits that records tell of, for a graph that has not got them.

    So the path from study to record is there when records alone are written, too.
    """
    changes: dict[Identity, NodeChange] = {}
    for row in rows:
        for entity, told in _neighbours(row, study_key):
            change = _derived(entity, told, study_key)
            if change is not None:
                changes.setdefault(change.identity, change)
    return list(changes.values())


def visits_of(rows: Sequence[dict[str, Any]]) -> list[int]:
    """The ids of the visits that these records name."""
    found = {valid_id("visit", row.get("visitId")) for row in rows}
    return sorted(each for each in found if isinstance(each, int))


def with_own_visit_only(change: NodeChange, owners: Mapping[int, int]) -> NodeChange:
    """The record on its subject, where its visit is another subject's (``owners``: by visit).

    Visit ids are one study's; where records contradict that, subjects are not mixed up. The node
    says that its link was redirected, so that the next state of the record moves the link.
    """
    visit, subject = change.value("visit_id"), change.value("subject_id")
    if not isinstance(visit, int) or not isinstance(subject, int) or subject <= 0:
        return change
    if owners.get(visit, subject) == subject:
        return change
    own = Identity(change.identity.study_key, "subject", subject)
    links = [
        link._replace(target=own)
        if link.target is not None and link.target.entity == "visit"
        else link
        for link in change.links
    ]
    names, values = (*change.names, REDIRECTED), [*change.values, True]
    return change._replace(names=names, values=values, links=links)


def _neighbours(row: dict[str, Any], study_key: str) -> Iterator[tuple[Entity, dict[str, Any]]]:
    def told(*fields: str) -> dict[str, Any]:
        return {"studyKey": study_key, **{f: row[f] for f in fields if row.get(f) is not None}}

    yield ENTITIES["study"], told()
    yield ENTITIES["subject"], told("subjectId", "subjectKey", "siteId")
    yield ENTITIES["visit"], told("visitId", "subjectId", "subjectKey", "intervalId")


def _derived(entity: Entity, row: dict[str, Any], study_key: str) -> NodeChange | None:
    entity_id = valid_id(entity.name, row.get(entity.id_field))
    if entity_id is None:
        return None
    try:
        return node_change(_event(entity, entity_id, row, study_key, _DERIVED_VERSION, None))
    except InvalidEventError:
        return None  # the record that tells it is refused for the same reason


def _event(
    entity: Entity,
    entity_id: EntityId,
    row: dict[str, Any],
    study_key: str,
    version: int,
    digest: str | None,
) -> RecordEvent:
    return RecordEvent(
        entity=entity.name,
        op=Op.UPSERT,
        origin=Origin.SNAPSHOT,
        study_key=study_key,
        id=entity_id,
        version=version,
        content_hash=digest,
        observed_at="",
        data=row,
    )
