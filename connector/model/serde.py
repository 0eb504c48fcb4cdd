"""Converts RecordEvent to bytes and back, with the headers of the contract."""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol

import orjson
from pydantic import TypeAdapter, ValidationError

from connector.errors import InvalidEventError
from connector.model.entities import ENTITIES
from connector.model.events import (
    DAY_MS,
    SCHEMA_VERSION,
    VERSION_MAX,
    Identity,
    KnownState,
    Op,
    Origin,
    RecordEvent,
    id_of,
    new_event,
    valid_id,
)
from connector.model.typed_values import definition_of

VERSION_HEADER = "version"
_DIGITS_MAX = 19  # of an int64
_EVENT = TypeAdapter(RecordEvent)
_ENVELOPE = re.compile(
    rb'\{"schemaVersion":1,"entity":"[^"\\]*","op":"[^"\\]*","origin":"[^"\\]*",'
    rb'"studyKey":"[^"\\]*","id":(?:\d+|"[^"\\]*"),"version":(\d{1,18}),'
)
"""The beginning of a value written by `encode`. Nothing before the version can look like one."""
_LEVELS_MAX = 199
"""Levels of nesting allowed in ``data``, itself included: pydantic's JSON parser reads 200
(measured with 2.14), one of which is the event; orjson would write 254."""
_HASH = re.compile("[0-9a-f]{32}")
_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]')

Headers = list[tuple[str, str | bytes | None]]


def content_hash(data: dict[str, Any], types: Mapping[str, str] | None = None) -> str:
    """128-bit hash of the canonical (sorted, compact) JSON of ``data``, as 32 hex digits.

    That of ``types`` follows if there are any.

    Raises:
        InvalidEventError: ``data`` has no exact JSON form (an integer beyond 64 bits, half of a
            surrogate pair), or `decode_event` could not read an event that carries it.
    """
    try:
        canonical = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        raise InvalidEventError("content has no exact JSON form", reason="content") from None
    if _is_too_deep(canonical):
        raise InvalidEventError("content is nested too deeply", reason="content")
    if types:
        canonical += orjson.dumps(types, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()


def _is_too_deep(canonical: bytes) -> bool:
    # Almost no row has this many brackets. (Counting by removal takes a third of count's time.)
    without = len(canonical.replace(b"[", b"")) + len(canonical.replace(b"{", b""))
    if 2 * len(canonical) - without <= _LEVELS_MAX:
        return False
    levels = 0
    for token in _BRACKETS.finditer(canonical):
        first = canonical[token.start()]
        if first in b"[{":
            levels += 1
            if levels > _LEVELS_MAX:
                return True
        elif first in b"]}":
            levels -= 1
    return False


def encode(event: RecordEvent) -> tuple[bytes, bytes, Headers]:
    """Encode an event as the key, value and CloudEvents headers (binary mode) of a message."""
    key = event.identity.to_key()
    # Not with pydantic, which would walk `data` in Python; orjson writes it verbatim.
    fields: dict[str, Any] = {
        "schemaVersion": event.schema_version,
        "entity": event.entity,
        "op": event.op.value,
        "origin": event.origin.value,
        "studyKey": event.study_key,
        "id": event.id,
        "version": event.version,
        "contentHash": event.content_hash,
        "observedAt": event.observed_at,
        "data": event.data,
    }
    if event.types:
        fields["types"] = event.types
    value = orjson.dumps(fields)
    version = str(event.version).encode()
    headers: Headers = [
        *_common_headers(event.study_key, event.entity, event.op, event.observed_at),
        ("ce_id", key + b"@" + version),
        (VERSION_HEADER, version),
    ]
    return key, value, headers


@lru_cache(maxsize=64)  # the same for all events of a page
def _common_headers(study_key: str, entity: str, op: Op, observed_at: str) -> Headers:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_source", f"/api/v1/edc/studies/{study_key}".encode()),
        ("ce_type", f"imednet.{entity}.{op.value}".encode()),
        ("ce_time", observed_at.encode()),
        ("content-type", b"application/json"),
    ]


def header_version(headers: Headers) -> int | None:
    """The version in the headers; None if there is none.

    Raises:
        InvalidEventError: the header is repeated or is not a version.
    """
    found = [value for name, value in headers if name == VERSION_HEADER]
    if not found:
        return None
    text = found[0]
    if (
        not isinstance(text, bytes)
        or len(found) > 1
        or not text.isdigit()
        or len(text) > _DIGITS_MAX
        or int(text) > VERSION_MAX
    ):
        raise InvalidEventError("header 'version' is repeated or not an int64", reason="version")
    return int(text)


class Stored(Protocol):
    """A message as this module reads it: headers and timestamp only if they are needed."""

    @property
    def value(self) -> bytes | None:
        """The payload; None for a tombstone."""

    @property
    def headers(self) -> Headers:
        """In message order."""

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since the epoch; negative if the message has none."""


def stated_version(message: Stored, now_ms: int) -> int | None:
    """Find a message's version without decoding the payload; None if that is not possible.

    It is in the beginning of a payload written by `encode`, else in a header. A tombstone without
    either has its timestamp as version.

    Raises:
        InvalidEventError: the version is not valid, or more than a day in the future.
    """
    found = _ENVELOPE.match(message.value or b"")
    version = int(found[1]) if found else header_version(message.headers)
    if version is None and message.value is None:
        if message.timestamp_ms < 0:
            raise InvalidEventError("tombstone without version or timestamp", reason="version")
        version = message.timestamp_ms
    if version is not None and version > now_ms + DAY_MS:
        _check_not_in_future(version, max(now_ms, message.timestamp_ms))
    return version


def _check_not_in_future(version: int, now_ms: int) -> None:
    # Such a version would keep every later state out until the clocks reach it, perhaps in years.
    if version > now_ms + DAY_MS:
        raise InvalidEventError("version is more than a day in the future", reason="version")


def decode_event(identity: Identity, message: Stored, now_ms: int) -> RecordEvent:
    """Decode a message whose key names this entity; a null value is a delete (tombstone).

    Raises:
        InvalidEventError: the message is not an event of version 1 that can be applied.
    """
    version = header_version(message.headers)
    if message.value is None:
        event = _tombstone(identity, message.timestamp_ms if version is None else version)
    else:
        event = _parse(message.value)
        _check_consistent(event, identity, version)
    if event.version > now_ms + DAY_MS:
        _check_not_in_future(event.version, max(now_ms, message.timestamp_ms))
    return event


def _tombstone(identity: Identity, version: int) -> RecordEvent:
    if not 0 <= version <= VERSION_MAX:  # no header, and no timestamp on the message
        raise InvalidEventError("tombstone without version or timestamp", reason="version")
    return new_event(identity, KnownState(version, None, None), None, Origin.SWEEP)


def _parse(value: bytes) -> RecordEvent:
    try:
        event = _EVENT.validate_json(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        location = ".".join(str(part) for part in first["loc"]) or "value"
        # Only the location and type of the fault: its text may quote the content.
        raise InvalidEventError(
            f"not an event: {first['type']} at {location[:60]}", reason="value"
        ) from None
    if event.schema_version != SCHEMA_VERSION:
        raise InvalidEventError(
            "schemaVersion is newer than this reader supports", reason="schema_version"
        )
    return event


def _check_consistent(event: RecordEvent, identity: Identity, version: int | None) -> None:
    if event.identity != identity or type(event.id) is not type(identity.id):
        raise InvalidEventError("value and key name different entities", reason="key")
    if version is not None and version != event.version:
        raise InvalidEventError("value and header have different versions", reason="version")
    if event.data is not None and id_of(ENTITIES[event.entity], event.data) != event.id:
        raise InvalidEventError("data belongs to a different entity than the event", reason="id")


def known_state(identity: Identity, message: Stored, now_ms: int) -> KnownState:
    """Read the known state of this entity from a message of the events topic, for the source.

    If the hash of a live entity is missing or malformed, it is ``""``, which matches no content.

    Raises:
        InvalidEventError: as `decode_event`: no sink applies it, so it does not count as known.
    """
    event = decode_event(identity, message, now_ms)
    if event.data is None:
        return KnownState(event.version, None, None)
    subject = valid_id("subject", event.data.get("subjectId"))
    return KnownState(
        event.version,
        event.content_hash if _HASH.fullmatch(event.content_hash or "") else "",
        subject if isinstance(subject, int) and event.entity != "study" else None,
        definition=definition_of(ENTITIES[event.entity], event.data),
    )
