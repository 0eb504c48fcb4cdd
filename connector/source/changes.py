"""Change detection: which rows are new states of their entities, and with which versions. Pure."""

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
from connector.model.entity import Entity
from connector.model.events import (
    Delivery,
    EntityId,
    Identity,
    KnownState,
    Origin,
    RecordEvent,
    id_of,
    new_event,
    valid_id,
)
from connector.model.serde import content_hash
from connector.model.typed_values import NO_DEFINITIONS, Definitions, definition_of

_SMALL_KIND_DELETES_MAX = 10
_SMALL_KIND_SHARE_MAX = 1 / 3


@dataclass(frozen=True)
class PageContext:
    """The context of a page: its study, the server's clock, and the pass that read it."""

    study_key: str
    server_ms: int
    origin: Origin
    definitions: Definitions = NO_DEFINITIONS
    """Of the study's variables; without them, values stay text."""
    version_min: int = 0
    """Above every version that the topic held before it lost events; 0 if it lost none."""
    is_full_pass: bool = True
    """Whether diverted events are tried again: once per full pass."""

    @property
    def version(self) -> int:
        """The lowest version of a state found on this page; used if it has no predecessor."""
        return max(self.server_ms, self.version_min)

    @cached_property
    def observed_at(self) -> str:
        """The server's clock, as events contain it."""
        return utc_text(self.server_ms)


@dataclass(slots=True)
class Changes:
    """The result of change detection: events with their subjects, known states, invalid rows.

    ``undated`` counts the events whose row has a missing or malformed ``dateModified``, ``untyped``
    their texts that do not fit the definitions of their variables.
    """

    events: list[tuple[RecordEvent, int | None]] = field(default_factory=list)
    known: dict[EntityId, KnownState] = field(default_factory=dict)
    """The known states once these events are published."""
    invalid: list[InvalidRow] = field(default_factory=list)
    dead_lettered: set[Identity] = field(default_factory=set)
    """Entities whose diverted event is in the dead letter queue already, with the same content."""
    undated: int = 0
    untyped: int = 0
    redefines: bool = False
    """Whether the definition of a variable has changed."""
    has_repeats: bool = False
    """Whether an earlier page of the same pass has listed one of the rows."""

    def extend(self, later: "Changes") -> None:
        """Append the changes of a later page."""
        self.events += later.events
        self.known |= later.known
        self.invalid += later.invalid
        self.dead_lettered |= later.dead_lettered
        self.undated += later.undated
        self.untyped += later.untyped
        self.redefines |= later.redefines
        self.has_repeats |= later.has_repeats


def detect(
    entity: Entity, rows: list[Any], known: Mapping[EntityId, KnownState], context: PageContext
) -> Changes:
    """Build an event for each row whose content differs from its known state.

    ``version`` is a hybrid clock: the server's time, but always above the entity's previous
    version. So states stay in order within one second, and when the clock goes back.
    """
    changes = Changes()
    for row in rows:
        try:
            entity_id = require_id(entity, row, context.study_key)
            types, untyped = context.definitions.types_of(row)
            digest = content_hash(row, types)
        except InvalidEventError as error:
            changes.invalid.append(_invalid(entity, row, context, error.reason))
            continue
        previous = changes.known.get(entity_id) or known.get(entity_id)
        if previous is not None and previous.content_hash == digest:
            if not _should_redeliver(previous, context):
                continue
            if previous.delivery is Delivery.DIVERTED:
                changes.dead_lettered.add(Identity(context.study_key, entity.name, entity_id))
        version = next_version(context.version, previous)
        definition = definition_of(entity, row)
        state = KnownState(version, digest, subject_of(entity, row), definition=definition)
        changes.redefines |= definition != (previous.definition if previous else None)
        changes.known[entity_id] = state
        identity = Identity(context.study_key, entity.name, entity_id)
        event = new_event(
            identity, state, row, context.origin, observed_at=context.observed_at, types=types
        )
        changes.events.append((event, state.subject_id))
        changes.undated += _is_undated(entity, row)
        changes.untyped += untyped
    return changes


def _should_redeliver(known: KnownState, context: PageContext) -> bool:
    """Whether to publish a state again although it is known: the topic does not hold it."""
    if known.delivery is Delivery.DIVERTED:
        return context.is_full_pass
    return known.delivery is Delivery.LOST


def deletions(entity: Entity, gone: Mapping[EntityId, KnownState], context: PageContext) -> Changes:
    """Build delete events for rows that have vanished from the API."""
    changes = Changes()
    for entity_id, previous in gone.items():
        version = next_version(context.version, previous)
        state = KnownState(version, None, previous.subject_id)
        changes.redefines |= previous.definition is not None
        changes.known[entity_id] = state
        identity = Identity(context.study_key, entity.name, entity_id)
        event = new_event(identity, state, None, context.origin, observed_at=context.observed_at)
        changes.events.append((event, state.subject_id))
    return changes


def may_delete(vanished: VanishedRows, ratio_max: float) -> bool:
    """Whether this number of vanished rows is credible.

    An API that suddenly lists nothing, or far fewer rows than before, is more likely broken than
    empty. Credible is a share of ``ratio_max`` of the known rows; of a small kind, a third, up to
    ten rows; and always one row, unless nothing is listed. A ratio of 1 allows everything.
    """
    missing = len(vanished.gone) + vanished.missed
    if missing == 0 or ratio_max >= 1:
        return True
    if vanished.listed == 0:
        return False
    small_kind_max = min(_SMALL_KIND_DELETES_MAX, int(_SMALL_KIND_SHARE_MAX * vanished.known))
    return missing <= max(1, small_kind_max, ratio_max * vanished.known)


def reason_not_to_delete(vanished: VanishedRows, ratio_max: float, *, is_short: bool) -> str | None:
    """Why a sweep must not delete the rows that it missed; None if it may.

    ``is_short``: the API returned fewer rows than it announced, rows without an id, or a row on two
    pages.
    """
    if not vanished.missed and not vanished.gone:
        return None
    if is_short:
        return (
            "the API listed fewer rows than it announced, rows without an id, or a row on two"
            " pages. Check the API"
        )
    if may_delete(vanished, ratio_max):
        return None
    return (
        "too many rows have vanished. Check the API. If they are really gone, set"
        " SOURCE_MAX_DELETE_RATIO=1 until they are deleted"
    )


def next_version(now: int, previous: KnownState | None) -> int:
    """The version after ``previous``: the next tick of the hybrid clock."""
    return now if previous is None else max(now, previous.version + 1)


def subject_of(entity: Entity, row: Mapping[str, Any]) -> int | None:
    """The id of the subject that the row belongs to, which determines its partition; or None."""
    subject = valid_id("subject", row.get("subjectId"))
    return subject if entity.name != "study" and isinstance(subject, int) else None


def require_id(entity: Entity, row: Any, study_key: str) -> EntityId:
    """Return the id of a row of this study.

    Raises:
        InvalidEventError: it is not a row, has no valid id, or belongs to another study.
    """
    if isinstance(row, UnreadableRow):
        raise InvalidEventError("row cannot be parsed", reason="unparsable")
    if not isinstance(row, dict):
        raise InvalidEventError("row is not an object", reason="row")
    entity_id = id_of(entity, row)
    if entity_id is None:
        raise InvalidEventError("row has no valid id", reason="id")
    if row.get("studyKey", study_key) != study_key:
        raise InvalidEventError("row belongs to another study", reason="study")
    return entity_id


def _is_undated(entity: Entity, row: Mapping[str, Any]) -> bool:
    # Published anyway: states are ordered by the server's clock, not by this date.
    return "dateModified" in entity.fields and not is_api_date(row.get("dateModified"))


def _invalid(entity: Entity, row: Any, context: PageContext, reason: str) -> InvalidRow:
    return InvalidRow(context.study_key, entity.name, _raw_json(row), reason)


def _raw_json(row: Any) -> bytes:
    """Serialize a row for the dead letter queue, as exactly as possible. Never raises."""
    if isinstance(row, UnreadableRow):
        return row.raw
    with contextlib.suppress(TypeError):  # it has no exact JSON form
        return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
    with contextlib.suppress(Exception):
        return json.dumps(row, sort_keys=True, default=str).encode()
    with contextlib.suppress(Exception):  # such as nesting beyond Python's recursion limit
        return json.dumps({name: _scalar_or_type(value) for name, value in row.items()}).encode()
    return f"a row that cannot be written as JSON ({type(row).__name__})".encode()


def _scalar_or_type(value: Any) -> Any:
    is_scalar = value is None or isinstance(value, str | int | float)
    return value if is_scalar else f"({type(value).__name__} that cannot be written)"
