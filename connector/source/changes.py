"""Change detection: which rows are new states, and which versions they get. Pure."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from connector.errors import InvalidEventError
from connector.interfaces import InvalidRow, UnreadableRow, VanishedRows
from connector.model.dates import is_api_date, utc_text
from connector.model.entities import Entity
from connector.model.events import (
    Delivery,
    EntityId,
    Identity,
    KnownState,
    Op,
    Origin,
    RecordEvent,
    id_of,
    valid_id,
)
from connector.model.serde import content_hash

_DELETES_OF_A_SMALL_KIND = 10
_SHARE_OF_A_SMALL_KIND = 1 / 3


@dataclass(frozen=True)
class Sighting:
    """The circumstances of one page: which study, when by the server's clock, on which way."""

    study_key: str
    server_ms: int
    origin: Origin
    version_min: int = 0
    is_full_pass: bool = True
    """Whether what was diverted before is tried again."""

    @property
    def version(self) -> int:
        """Of a state that has no predecessor."""
        return max(self.server_ms, self.version_min)

    @cached_property
    def observed_at(self) -> str:
        """The server's clock as events say it."""
        return utc_text(self.server_ms)


@dataclass(slots=True)
class Changes:
    """What one page brings: events with their subject, the new known states, invalid rows.

    ``undated`` counts the events whose row has a missing or malformed ``dateModified``.
    """

    events: list[tuple[RecordEvent, int | None]] = field(default_factory=list)
    known: dict[EntityId, KnownState] = field(default_factory=dict)
    invalid: list[InvalidRow] = field(default_factory=list)
    lettered: set[Identity] = field(default_factory=set)
    """Those of the events whose content is in the dead letter queue already."""
    undated: int = 0

    def add(self, later: "Changes") -> None:
        """These too, as what came later."""
        self.events += later.events
        self.known |= later.known
        self.invalid += later.invalid
        self.lettered |= later.lettered
        self.undated += later.undated


def detect(
    entity: Entity, rows: list[Any], known: Mapping[EntityId, KnownState], sighting: Sighting
) -> Changes:
    """The rows whose content differs from what is known, as events.

    ``version`` is a hybrid clock: the server's time, but always above the entity's previous
    version, so that states of one second, and clocks that go back, stay in order.
    """
    changes = Changes()
    for row in rows:
        try:
            entity_id = own_id(entity, row, sighting.study_key)
            digest = content_hash(row)
        except InvalidEventError as error:
            changes.invalid.append(_invalid(entity, row, sighting, error.reason))
            continue
        before = changes.known.get(entity_id) or known.get(entity_id)
        if before is not None and before.content_hash == digest:
            if not _is_to_deliver(before, sighting):
                continue
            if before.delivery is Delivery.DIVERTED:
                changes.lettered.add(Identity(sighting.study_key, entity.name, entity_id))
        state = KnownState(next_version(sighting.version, before), digest, subject_of(entity, row))
        changes.known[entity_id] = state
        changes.events.append((_event(entity, entity_id, state, row, sighting), state.subject_id))
        changes.undated += _is_undated(entity, row)
    return changes


def _is_to_deliver(known: KnownState, sighting: Sighting) -> bool:
    """Whether the topic lacks this state, and should be given it now."""
    if known.delivery is Delivery.DIVERTED:
        return sighting.is_full_pass
    return known.delivery is Delivery.LOST


def deletions(entity: Entity, gone: Mapping[EntityId, KnownState], sighting: Sighting) -> Changes:
    """Delete events for rows that have vanished from the API."""
    changes = Changes()
    for entity_id, before in gone.items():
        state = KnownState(next_version(sighting.version, before), None, before.subject_id)
        changes.known[entity_id] = state
        changes.events.append((_event(entity, entity_id, state, None, sighting), state.subject_id))
    return changes


def may_delete(vanished: VanishedRows, ratio_max: float) -> bool:
    """Whether so many vanished rows are credible.

    An API that suddenly lists nothing, or far less than before, is out of order, not out of data.
    Credible is a share of ``ratio_max`` of the rows known; of a small kind a third, up to ten
    rows; and one row always, but not where nothing is listed. A ratio of 1 allows everything.
    """
    missing = len(vanished.gone) + vanished.missed
    if missing == 0 or ratio_max >= 1:
        return True
    if vanished.listed == 0:
        return False
    of_a_small_kind = min(_DELETES_OF_A_SMALL_KIND, int(_SHARE_OF_A_SMALL_KIND * vanished.known))
    return missing <= max(1, of_a_small_kind, ratio_max * vanished.known)


def doubts(vanished: VanishedRows, ratio_max: float, *, is_short: bool) -> str | None:
    """Why a sweep must not delete the rows that it missed; None: it may.

    ``is_short``: the API returned fewer rows than it announced.
    """
    if not vanished.missed and not vanished.gone:
        return None
    if is_short:
        return "the API listed fewer rows than it announced, or rows without an id; check the API"
    if may_delete(vanished, ratio_max):
        return None
    return (
        "too many rows have vanished; check the API. If they are really gone, set"
        " SOURCE_MAX_DELETE_RATIO=1 until they are deleted"
    )


def next_version(now: int, before: KnownState | None) -> int:
    """The hybrid clock's next tick for an entity."""
    return now if before is None else max(now, before.version + 1)


def subject_of(entity: Entity, row: Mapping[str, Any]) -> int | None:
    """The subject whose subgraph the row belongs to, which decides the partition."""
    subject = valid_id("subject", row.get("subjectId"))
    return subject if entity.name != "study" and isinstance(subject, int) else None


def own_id(entity: Entity, row: Any, study_key: str) -> EntityId:
    """The id of a row of this study.

    Raises:
        InvalidEventError: it is no row, has no id, or is of another study.
    """
    if isinstance(row, UnreadableRow):
        raise InvalidEventError("row cannot be parsed", reason="unparsable")
    if not isinstance(row, dict):
        raise InvalidEventError("row is not an object", reason="row")
    entity_id = id_of(entity, row)
    if entity_id is None:
        raise InvalidEventError("row has no id", reason="id")
    if row.get("studyKey", study_key) != study_key:
        raise InvalidEventError("row is of another study", reason="study")
    return entity_id


def _is_undated(entity: Entity, row: Mapping[str, Any]) -> bool:
    # Published all the same: the order of states comes from the server's clock, not from this date.
    return "dateModified" in entity.fields and not is_api_date(row.get("dateModified"))


def _event(
    entity: Entity,
    entity_id: EntityId,
    state: KnownState,
    data: dict[str, Any] | None,
    sighting: Sighting,
) -> RecordEvent:
    return RecordEvent(
        entity=entity.name,
        op=Op.DELETE if data is None else Op.UPSERT,
        origin=sighting.origin,
        study_key=sighting.study_key,
        id=entity_id,
        version=state.version,
        content_hash=state.content_hash,
        observed_at=sighting.observed_at,
        data=data,
    )


def _invalid(entity: Entity, row: Any, sighting: Sighting, reason: str) -> InvalidRow:
    return InvalidRow(sighting.study_key, entity.name, _raw_json(row), reason)


def _raw_json(row: Any) -> bytes:
    """The row for the dead letter queue, as exactly as it can be written. Never raises."""
    if isinstance(row, UnreadableRow):
        return row.raw
    with contextlib.suppress(TypeError):  # it has no exact JSON form
        return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
    with contextlib.suppress(Exception):
        return json.dumps(row, sort_keys=True, default=str).encode()
    with contextlib.suppress(Exception):  # such as nesting beyond Python's recursion limit
        return json.dumps({name: _shown(value) for name, value in row.items()}).encode()
    return f"a row that cannot be written as JSON ({type(row).__name__})".encode()


def _shown(value: Any) -> Any:
    is_scalar = value is None or isinstance(value, str | int | float)
    return value if is_scalar else f"({type(value).__name__} that cannot be written)"
