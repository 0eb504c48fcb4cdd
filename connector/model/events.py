"""The event contract, version 1: the form of every message in the events topic.

It covers topic, key, headers and partition; ``schemas/record_event.v1.json`` is generated from
`RecordEvent`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field, StrictInt, StrictStr, model_validator
from pydantic.alias_generators import to_camel

from connector.errors import InvalidEventError
from connector.model.entities import ENTITIES
from connector.model.entity import Entity
from connector.model.typed_values import Definition

SCHEMA_VERSION = 1
VERSION_MAX = 2**63 - 1
DAY_MS = 86_400_000
_TEXT_ID_BYTES_MAX = 1_000
"""Neo4j's range indexes hold keys of about 8 kB. No documented id has more than 36 characters."""

EntityId = int | str


class Identity(NamedTuple):
    """The entity that an event is about. Its sort order gives parents a stable lock order."""

    study_key: str
    entity: str
    id: EntityId

    def to_key(self) -> bytes:
        """The message key ``studyKey/entity/id``, UTF-8; ``/`` and ``%`` within parts escaped."""
        return "/".join((_escape(self.study_key), self.entity, _escape(str(self.id)))).encode()

    @classmethod
    def from_key(cls, key: bytes | None) -> "Identity":
        """Parse a message key.

        Raises:
            InvalidEventError: no key, not UTF-8, not three parts, an unknown kind, or no id.
        """
        scope, slash, raw_id = (key or b"").rpartition(b"/")
        if not slash:
            raise InvalidEventError("key is not studyKey/entity/id", reason="key")
        study, entity = _scope(scope)
        if not ENTITIES[entity].id_is_number:
            return cls(study, entity, _text_id(raw_id))
        if not raw_id.isdigit() or raw_id.startswith(b"0") or len(raw_id) >= 20:  # noqa: PLR2004 - no int64 has 20 digits
            raise InvalidEventError("key has no valid study or id", reason="key")
        number = int(raw_id)
        if number > VERSION_MAX:
            raise InvalidEventError("key has no valid study or id", reason="key")
        return cls(study, entity, number)


@lru_cache(maxsize=1024)  # the part before the id is the same for a whole kind
def _scope(text: bytes) -> tuple[str, str]:
    try:
        study, entity = text.decode().split("/")
    except ValueError:
        raise InvalidEventError("key is not studyKey/entity/id", reason="key") from None
    if entity not in ENTITIES:
        raise InvalidEventError("key names an unknown kind of entity", reason="entity")
    if not study:
        raise InvalidEventError("key has no valid study or id", reason="key")
    return _unescape(study), entity


def _text_id(raw_id: bytes) -> str:
    try:
        text = _unescape(raw_id.decode())
    except ValueError:
        raise InvalidEventError("key is not studyKey/entity/id", reason="key") from None
    if not text:
        raise InvalidEventError("key has no valid study or id", reason="key")
    return text


def _escape(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")


def _unescape(part: str) -> str:
    return part.replace("%2F", "/").replace("%25", "%")


def valid_id(entity: str, value: object) -> EntityId | None:
    """``value`` if it identifies an entity of this kind in the API's JSON, else None.

    Null and 0 mean "none" in the API and never identify anything. A number is the text id that its
    digits spell: some versions of the API send ``codingId`` so.
    """
    is_id_number = type(value) is int and 0 < value <= VERSION_MAX
    if ENTITIES[entity].id_is_number:
        return value if is_id_number else None  # type: ignore[return-value]
    text = str(value) if is_id_number else value
    return text if isinstance(text, str) and _is_text_id(text) else None


def is_valid_id(entity: str, value: EntityId) -> bool:
    """Whether this is an id that an entity of this kind can have, as it is written in the graph."""
    return valid_id(entity, value) == value


def _is_text_id(text: str) -> bool:
    try:
        return bool(text.strip()) and len(text.encode()) <= _TEXT_ID_BYTES_MAX
    except UnicodeEncodeError:
        return False


def id_of(entity: Entity, row: Mapping[str, Any]) -> EntityId | None:
    """The id of an API row; None if it has none, nor all fields that stand in for it."""
    found = valid_id(entity.name, row.get(entity.id_field))
    if found is not None or not entity.id_fallback:
        return found
    fields = [row.get(field) for field in entity.id_fallback]
    if not all(type(each) in (int, str) and str(each).strip() for each in fields):
        return None
    return valid_id(entity.name, "/".join(map(str, fields)))


class Delivery(IntEnum):
    """Where an entity's newest state is."""

    DELIVERED = 0
    """In the topic."""
    LOST = 1
    """It was in the topic, which has since lost it."""
    DIVERTED = 2
    """In the dead letter queue: too large for the topic."""


class KnownState(NamedTuple):
    """An entity's newest known version and content hash (None: deleted), and where the state is."""

    version: int
    content_hash: str | None
    subject_id: int | None
    delivery: Delivery = Delivery.DELIVERED
    definition: Definition | None = None
    """The variable definition that the state has, if it is of a kind that has them."""


class Op(StrEnum):
    """The kind of change to the entity."""

    UPSERT = "upsert"
    DELETE = "delete"


class Origin(StrEnum):
    """The kind of API pass that found the change."""

    SNAPSHOT = "snapshot"
    POLL = "poll"
    SWEEP = "sweep"


@dataclass(slots=True, kw_only=True)  # not frozen: that makes creation four times as slow
class RecordEvent:
    """One state of one entity. Readers of version 1 ignore unknown fields."""

    # Validated on reading (`connector.model.serde`); the source checks its rows itself.
    __pydantic_config__ = ConfigDict(
        alias_generator=to_camel, extra="ignore", title="RecordEvent", hide_input_in_errors=True
    )

    schema_version: Annotated[int, Field(strict=True, ge=1)] = SCHEMA_VERSION
    entity: Annotated[StrictStr, Field(description="Kind of entity, such as record or subject.")]
    op: Op
    origin: Origin
    study_key: Annotated[StrictStr, Field(min_length=1)]
    id: Annotated[StrictInt | StrictStr, Field(description="The entity's id in the API.")]
    version: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=VERSION_MAX,
            description="Orders this entity's states: a hybrid clock that starts from server ms.",
        ),
    ]
    content_hash: Annotated[
        StrictStr | None,
        Field(description="128-bit hash of the canonical JSON of data and, if any, of types."),
    ]
    observed_at: Annotated[
        StrictStr, Field(description="Server clock at the time of reading, UTC.")
    ]
    data: Annotated[
        dict[str, Any] | None, Field(description="The API's object verbatim; null for a delete.")
    ]
    types: Annotated[
        dict[StrictStr, StrictStr] | None,
        Field(
            description="Types of variables in data.recordData whose text stands for another value,"
            " by name: number, boolean, date or datetime. All others are what they are in data.",
        ),
    ] = None

    @property
    def identity(self) -> Identity:
        """The entity this state belongs to."""
        return Identity(self.study_key, self.entity, self.id)

    @model_validator(mode="after")
    def _data_fits_op(self) -> "RecordEvent":
        if (self.op is Op.DELETE) != (self.data is None):
            raise ValueError("an upsert must have data, a delete must not")
        return self


def new_event(
    identity: Identity,
    state: KnownState,
    data: dict[str, Any] | None,
    origin: Origin,
    *,
    observed_at: str = "",
    types: dict[str, str] | None = None,
) -> RecordEvent:
    """Build the event of this state; without data, it deletes the entity."""
    study_key, entity, entity_id = identity
    return RecordEvent(
        entity=entity,
        op=Op.DELETE if data is None else Op.UPSERT,
        origin=origin,
        study_key=study_key,
        id=entity_id,
        version=state.version,
        content_hash=state.content_hash,
        observed_at=observed_at,
        data=data,
        types=types,
    )
