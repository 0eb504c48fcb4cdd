"""Converts records in any supported form to API objects, and these to graph changes. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import BaseModel

from connector.errors import InvalidEventError
from connector.interfaces import UnreadableRow
from connector.model.entities import ENTITIES
from connector.model.entity import Entity, snake_case
from connector.model.events import (
    EntityId,
    Identity,
    KnownState,
    Origin,
    id_of,
    new_event,
    valid_id,
)
from connector.model.graph import NodeChange, node_change
from connector.model.serde import content_hash
from connector.model.typed_values import NO_DEFINITIONS, Definitions
from connector.source.changes import require_id

_BY_PROPERTY = {
    entity.name: {snake_case(field): field for field in entity.fields}
    for entity in ENTITIES.values()
}
_DERIVED_VERSION = 0
"""Below every version that is a time: any state that comes from the API itself replaces it."""


class ReadRows(NamedTuple):
    """Rows of one page."""

    rows: list[Any]
    read_at_ms: int
    """The API's clock when it was asked for them, in milliseconds since the epoch."""


class RefusedRow(NamedTuple):
    """A record that cannot be stored: its id (None if it has none) and the reason. No content."""

    id: EntityId | None
    reason: str


def api_object(entity: Entity, record: Any) -> dict[str, Any]:
    """Convert a record (SDK model, its dict, or any object with its fields) to an API object.

    Raises:
        InvalidEventError: it is none of these.
    """
    if isinstance(record, BaseModel):
        # Fields missing from the answer stay missing: the SDK's defaults are dates and zeros.
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
        return Decimal(value)  # refused later, like the API's rows; JSON would have null
    if isinstance(value, datetime):
        return _api_date(value)
    if isinstance(value, BaseModel):
        value = value.model_dump(by_alias=True, exclude_unset=True)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_plain(each) for each in value), key=str)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _api_date(value: datetime) -> str:
    at = value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    except OverflowError:  # at either end of the calendar
        return at.isoformat()


def change_of(
    entity: Entity,
    row: dict[str, Any],
    study_key: str,
    version: int,
    definitions: Definitions = NO_DEFINITIONS,
) -> NodeChange:
    """Convert an API object to the change of its node.

    Raises:
        InvalidEventError: it has no id, belongs to another study, or the graph cannot hold it.
    """
    entity_id = require_id(entity, row, study_key)
    types = definitions.types_of(row).types
    identity = Identity(study_key, entity.name, entity_id)
    state = KnownState(version, content_hash(row, types), None)
    return node_change(new_event(identity, state, row, Origin.SNAPSHOT, types=types))


def api_objects(
    entity: Entity, records: Iterable[Any]
) -> tuple[list[dict[str, Any]], list[RefusedRow]]:
    """Convert records to API objects; also returns those that are not records."""
    rows, refused = [], []
    for record in records:
        try:
            rows.append(api_object(entity, record))
        except InvalidEventError as error:
            refused.append(RefusedRow(None, error.reason))
        except (RecursionError, ValueError):  # of the caller's own object
            refused.append(RefusedRow(None, "row"))
    return rows, refused


class Changes(NamedTuple):
    """The changes for a list of API objects."""

    newest: dict[Identity, NodeChange]
    """The change with the highest version of each entity; of equal versions, the last."""
    counts: Counter[Identity]
    """How many objects of each entity were its newest state when they came."""
    superseded: int
    """How many objects came after a newer state of the same entity."""
    refused: list[RefusedRow]
    rows: list[dict[str, Any]]
    """The objects that were not refused."""


def changes_of(
    entity: Entity,
    rows: Sequence[Any],
    study_key: str,
    version_of: Callable[[Mapping[str, Any]], int],
    definitions: Definitions = NO_DEFINITIONS,
) -> Changes:
    """Convert API objects to changes; also returns the rows that cannot be stored."""
    newest: dict[Identity, NodeChange] = {}
    counts: Counter[Identity] = Counter()
    superseded, refused, stored = 0, [], []
    for row in rows:
        if isinstance(row, UnreadableRow):
            refused.append(RefusedRow(valid_id(entity.name, row.id_hint), "unparsable"))
            continue
        if not isinstance(row, dict):
            refused.append(RefusedRow(None, "row"))
            continue
        try:
            change = change_of(entity, row, study_key, version_of(row), definitions)
        except InvalidEventError as error:
            refused.append(RefusedRow(id_of(entity, row), error.reason))
            continue
        stored.append(row)
        before = newest.get(change.identity)
        if before is not None and before.version > change.version:
            superseded += 1
            continue
        newest[change.identity] = change
        counts[change.identity] += 1
    return Changes(newest, counts, superseded, refused, stored)


def parent_changes(rows: Sequence[dict[str, Any]], study_key: str) -> list[NodeChange]:
    """Derive the study, subjects and visits that records name, for a graph that lacks them.

    So the path from study to record exists even if only records are written.
    """
    changes: dict[Identity, NodeChange] = {}
    for row in rows:
        for entity, parent in _named_parents(row, study_key):
            change = _derived(entity, parent, study_key)
            if change is not None:
                changes.setdefault(change.identity, change)
    return list(changes.values())


def visits_of(rows: Sequence[dict[str, Any]]) -> list[int]:
    """The ids of the visits that these records name."""
    found = {valid_id("visit", row.get("visitId")) for row in rows}
    return sorted(each for each in found if isinstance(each, int))


def without_foreign_visit(change: NodeChange, owners: Mapping[int, int]) -> NodeChange:
    """Attach a record to its subject if its visit is another's (``owners``: subject by visit).

    Visit ids are unique in a study; if records contradict that, subjects are not mixed up. The node
    records its actual link, so the next state of the record moves it.
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
    return change.relinked(links)


def _named_parents(row: dict[str, Any], study_key: str) -> Iterator[tuple[Entity, dict[str, Any]]]:
    def parent(*fields: str) -> dict[str, Any]:
        return {"studyKey": study_key, **{f: row[f] for f in fields if row.get(f) is not None}}

    yield ENTITIES["study"], parent()
    yield ENTITIES["subject"], parent("subjectId", "subjectKey", "siteId")
    yield ENTITIES["visit"], parent("visitId", "subjectId", "subjectKey", "intervalId")


def _derived(entity: Entity, row: dict[str, Any], study_key: str) -> NodeChange | None:
    entity_id = id_of(entity, row)
    if entity_id is None:
        return None
    try:
        identity = Identity(study_key, entity.name, entity_id)
        state = KnownState(_DERIVED_VERSION, None, None)
        return node_change(new_event(identity, state, row, Origin.SNAPSHOT))
    except InvalidEventError:
        return None  # the record that names it is refused for the same reason
