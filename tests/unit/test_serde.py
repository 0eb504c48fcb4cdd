from typing import Any

import orjson
import pytest

from connector.errors import InvalidEventError
from connector.interfaces import TopicPartition
from connector.model.events import DAY_MS, Identity, KnownState, Op, RecordEvent
from connector.model.serde import Headers, content_hash, encode, known_state
from tests.builders import decode, delete, message, record_row, upsert

NOW = 1_800_000_000_000


def round_trip(event: RecordEvent) -> RecordEvent:
    return decode(*encode(event), timestamp_ms=0, now_ms=NOW)


@pytest.mark.parametrize("event", [upsert(record_row()), delete(9, 4)])
def test_an_event_survives_the_wire_unchanged(event: RecordEvent) -> None:
    """An event is unchanged after encoding and decoding."""
    assert round_trip(event) == event


def test_key_names_study_entity_and_id_even_with_slashes_in_the_study() -> None:
    """The key names study, entity and id, even if the study has slashes in its key."""
    assert Identity("S1", "record", 7).to_key() == b"S1/record/7"
    odd = Identity("A/B%2F%", "record", 7)
    assert Identity.from_key(odd.to_key()) == odd


def test_headers_are_cloudevents_in_binary_mode_and_hold_no_content() -> None:
    """Headers are CloudEvents in binary mode and hold no content."""
    _, _, headers = encode(upsert(record_row(recordData={"AETERM": "canary-text"}), 42))
    names = dict(headers)
    assert names["ce_specversion"] == b"1.0"
    assert names["ce_id"] == b"S1/record/1@42"
    assert names["ce_type"] == b"imednet.record.upsert"
    assert names["version"] == b"42"
    assert b"canary-text" not in repr(headers).encode()
    assert b"003-11" not in repr(headers).encode()


def test_a_null_value_is_a_delete_of_the_headers_version_or_the_timestamp() -> None:
    """A null value is a delete; its version is the header's, or else the timestamp."""
    key = b"S1/record/7"
    event = decode(key, None, [("version", b"5")], timestamp_ms=99, now_ms=NOW)
    assert (event.op, event.version) == (Op.DELETE, 5)
    assert decode(key, None, [], timestamp_ms=99, now_ms=NOW).version == 99


def test_unknown_fields_are_tolerated() -> None:
    """Unknown fields are tolerated."""
    key, value, headers = encode(upsert(record_row()))
    wider = orjson.dumps({**orjson.loads(value), "newField": {"a": 1}})
    assert decode(key, wider, headers, timestamp_ms=0, now_ms=NOW) == upsert(record_row())


def changed(**fields: object) -> bytes:
    _, value, _ = encode(upsert(record_row()))
    return orjson.dumps({**orjson.loads(value), **fields})


BAD_VALUES = {
    "empty": b"",
    "not utf-8": b"\xff\xfe",
    "not json": b"hello",
    "truncated": changed()[:-20],
    "scalar root": b"17",
    "array root": b"[]",
    "too deep": b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "no id": orjson.dumps(
        {name: value for name, value in orjson.loads(changed()).items() if name != "id"}
    ),
    "null id": changed(id=None),
    "float id": changed(id=1.5),
    "boolean id": changed(id=True),
    "other id than the key": changed(id=2),
    "other study than the key": changed(studyKey="S2"),
    "other id in data": changed(data=record_row(2)),
    "unknown op": changed(op="merge"),
    "upsert without data": changed(data=None),
    "newer schema": changed(schemaVersion=2),
    "version beyond int64": changed(version=2**63),
    "negative version": changed(version=-1),
    "version as text": changed(version="1"),
    "data of another kind": changed(data=[1]),
    "far future": changed(version=NOW + DAY_MS + 1),
}


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_what_is_not_an_event_is_invalid(value: bytes) -> None:
    """A value that is not a valid event is refused."""
    with pytest.raises(InvalidEventError):
        decode(b"S1/record/1", value, [], timestamp_ms=0, now_ms=NOW)


@pytest.mark.parametrize(
    "key",
    [None, b"", b"S1", b"S1/record/", b"/record/1", b"S1/record/0", b"S1/record/x", b"\xff/record/1",
     b"S1/unknown/1", b"S1/record/01", b"S1/record/1/2", b"S1/record/-1",
     b"S1/record/99999999999999999999"],
)  # fmt: skip
def test_a_key_that_names_no_entity_is_invalid(key: bytes | None) -> None:
    """A key that names no entity is refused."""
    with pytest.raises(InvalidEventError):
        decode(key, changed(), [], timestamp_ms=0, now_ms=NOW)


@pytest.mark.parametrize(
    "headers",
    [[("version", b"2")], [("version", b"x")], [("version", b"")], [("version", None)],
     [("version", b"1"), ("version", b"1")], [("version", b"9" * 30)]],
)  # fmt: skip
def test_a_version_header_that_disagrees_is_invalid(
    headers: list[tuple[str, str | bytes | None]],
) -> None:
    """A version header that is malformed, repeated or different is refused."""
    with pytest.raises(InvalidEventError):
        decode(b"S1/record/1", changed(), headers, timestamp_ms=0, now_ms=NOW)


def test_reasons_never_quote_the_content() -> None:
    """The text of a refusal never quotes the content."""
    for value in (changed(op="canary-text"), changed(id="canary-text"), b"canary-text"):
        with pytest.raises(InvalidEventError) as error:
            decode(b"S1/record/1", value, [], timestamp_ms=0, now_ms=NOW)
        assert "canary-text" not in str(error.value)


def test_content_hash_ignores_the_order_of_fields_and_sees_every_value() -> None:
    """The content hash ignores the order of fields and depends on every value."""
    assert content_hash({"a": 1, "b": {"c": 2, "d": 3}}) == content_hash(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )
    assert (
        len({content_hash(each) for each in ({"a": 1}, {"a": "1"}, {"a": 1.0}, {"a": None}, {})})
        == 5
    )


def test_an_integer_that_json_writers_cannot_keep_is_invalid() -> None:
    """Content with an integer beyond 64 bits has no hash."""
    with pytest.raises(InvalidEventError):
        content_hash({"a": 2**70})


def test_a_tombstone_without_version_and_timestamp_is_invalid() -> None:
    """A tombstone without version and timestamp is refused."""
    with pytest.raises(InvalidEventError):
        decode(b"S1/record/7", None, [], timestamp_ms=-1, now_ms=NOW)


def test_content_hashes_never_change() -> None:
    """Content hashes never change from one version of the program to the next.

    Another digest for the same content would publish every study once more.
    """
    assert content_hash(record_row()) == "096d5b7e8d8435829cc13e54d40860bd"
    data = {"a": [{"b": '[{"é'}], "n": None, "f": 1.5, "u": 2**64 - 1}
    assert content_hash(data) == "0aaf9ad5396a341c763ab07ea3b7d3ae"


def nested(levels: int) -> Any:
    value: Any = "]["
    for number in range(levels):
        value = [value] if number % 2 else {"[": value}
    return value


@pytest.mark.parametrize("levels", [0, 100, 190, 197, 198])
def test_content_that_has_a_hash_can_be_written_and_read_however_deeply_nested(levels: int) -> None:
    """Content that has a hash can be encoded and decoded, however deeply nested."""
    event = upsert(record_row(recordOid="[" * 300, extra=nested(levels)))
    assert round_trip(event) == event


@pytest.mark.parametrize("levels", [199, 200, 251, 252, 253, 254, 1000])
def test_content_that_no_reader_could_parse_has_no_hash(levels: int) -> None:
    """Content nested too deeply for a reader has no hash."""
    with pytest.raises(InvalidEventError) as error:
        content_hash(record_row(extra=nested(levels)))
    assert error.value.reason == "content"


def known(key: bytes | None, value: bytes | None, headers: Headers) -> KnownState:
    read = message(TopicPartition("t", 0), 0, key, value, headers, timestamp_ms=5)
    return known_state(Identity.from_key(key), read, NOW)


def test_the_topic_says_version_content_and_subject_of_each_entity() -> None:
    """A message gives the source the version, content hash and subject of its entity."""
    event = upsert(record_row(), 7)
    assert known(*encode(event)) == KnownState(7, event.content_hash, 11)
    assert known(*encode(delete(9, 4))) == KnownState(4, None, None)
    assert known(b"S1/record/9", None, []) == KnownState(5, None, None)


@pytest.mark.parametrize("subject", [2**63, 2**70, 0, -1, "11", 11.0, True, None, "", []])
def test_a_subject_that_is_no_id_is_none_for_the_source_too(subject: Any) -> None:
    """A subject that is not a valid id is no subject for the source either."""
    key, value, headers = encode(upsert(record_row()))
    event = orjson.loads(value or b"")
    event["data"]["subjectId"] = "SUBJECT"
    text = b"%d" % subject if type(subject) is int else orjson.dumps(subject)
    assert known(key, orjson.dumps(event).replace(b'"SUBJECT"', text), headers).subject_id is None


@pytest.mark.parametrize("digest", [None, "", "zz", "abc", "é" * 32, "AB" * 16])
def test_a_live_entity_without_a_proper_hash_is_known_and_published_again(
    digest: str | None,
) -> None:
    """A live entity without a valid hash is known with an empty one, so it is published again."""
    assert known(b"S1/record/1", changed(contentHash=digest), []).content_hash == ""


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_what_no_sink_applies_is_not_known_to_the_source(value: bytes) -> None:
    """A message that no sink would apply gives the source no known state."""
    with pytest.raises(InvalidEventError):
        known(b"S1/record/1", value, [])
