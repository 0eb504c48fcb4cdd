"""Builders of events, rows and messages."""

from dataclasses import dataclass
from typing import Any

from connector.interfaces import Message, TopicPartition
from connector.model.entities import ENTITIES
from connector.model.events import EntityId, Identity, Op, Origin, RecordEvent, id_of
from connector.model.serde import Headers, content_hash, decode_event
from connector.sink.sink_task import SinkTask

STUDY = "S1"
NOW = 1_700_000_000_000


@dataclass(frozen=True)
class Details:
    """The message details that a client converts on request."""

    own_headers: Headers
    timestamp_ms: int
    epoch: int | None

    def headers(self) -> Headers | None:
        return self.own_headers or None

    def timestamp(self) -> tuple[int, int]:
        return 1, self.timestamp_ms

    def leader_epoch(self) -> int | None:
        return self.epoch


def message(
    at: TopicPartition,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Headers | None = None,
    *,
    timestamp_ms: int = NOW,
    epoch: int | None = 0,
) -> Message:
    return Message(at, offset, key, value, Details(headers or [], timestamp_ms, epoch))


def record_row(record_id: int = 1, **changed: Any) -> dict[str, Any]:
    study = changed.pop("studyKey", STUDY)
    row = {
        "studyKey": study, "recordId": record_id, "formId": 7, "formKey": "VS", "siteId": 3,
        "subjectId": 11, "subjectKey": "003-11", "visitId": 5, "parentRecordId": 0,
        "deleted": False, "keywords": [], "dateCreated": "2024-11-04 16:03:19",
        "dateModified": "2024-11-04 16:03:19", "recordData": {"SYSBP": "120"},
    }  # fmt: skip
    return row | changed


def upsert(
    row: dict[str, Any], version: int = 1, entity: str = "record", study_key: str | None = None
) -> RecordEvent:
    """Return the event of a row of any kind; users have no study key of their own."""
    entity_id = id_of(ENTITIES[entity], row)
    assert entity_id is not None
    return RecordEvent(
        entity=entity,
        op=Op.UPSERT,
        origin=Origin.POLL,
        study_key=study_key or row["studyKey"],
        id=entity_id,
        version=version,
        content_hash=content_hash(row),
        observed_at="2024-11-04T16:03:19.000Z",
        data=row,
    )


def delete(
    entity_id: EntityId, version: int, entity: str = "record", study_key: str = STUDY
) -> RecordEvent:
    return RecordEvent(
        entity=entity,
        op=Op.DELETE,
        origin=Origin.SWEEP,
        study_key=study_key,
        id=entity_id,
        version=version,
        content_hash=None,
        observed_at="2024-11-04T16:03:19.000Z",
        data=None,
    )


def is_drained(task: SinkTask) -> bool:
    """Return whether the sink has nothing in flight and has applied every polled message."""
    lanes = task._lanes.values()
    return bool(lanes) and not any(
        not lane.is_open or lane.is_busy or lane.waiting_bytes or lane.is_paused for lane in lanes
    )


def decode(
    key: bytes | None, value: bytes | None, headers: Headers, *, timestamp_ms: int, now_ms: int
) -> RecordEvent:
    """Decode a message's event as a sink does."""
    read = message(TopicPartition("t", 0), 0, key, value, headers, timestamp_ms=timestamp_ms)
    return decode_event(Identity.from_key(key), read, now_ms)
