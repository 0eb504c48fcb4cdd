"""Poison messages at the beginning, in the middle and at the end of a partition.

A record batch with a wrong checksum is not among them, because no client can write one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from connector.config import KafkaSettings
from connector.kafka.group_offsets import GroupOffsets
from connector.kafka.topic_log import read_to_end
from connector.model.graph_state import NodeKey
from connector.model.serde import Headers, encode
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from tests.builders import record_row, upsert
from tests.programs import consumed_all, running, wait_until

pytestmark = pytest.mark.servers
VERSION = 5
NEIGHBOURS = 2


class Poison(NamedTuple):
    """A message; without a value it is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: Headers = []  # noqa: RUF012 - never changed


def event(study: str, record: int, **changed: Any) -> Poison:
    """Return an event whose row has these fields."""
    key, value, _ = encode(upsert(record_row(record, studyKey=study, **changed), VERSION))
    return Poison(key, value)


def envelope(study: str, record: int, **changed: Any) -> Poison:
    """Return an event with these envelope fields; ``...`` removes a field."""
    key, value, _ = event(study, record)
    fields = {
        name: each
        for name, each in (orjson.loads(value or b"") | changed).items()
        if each is not ...
    }
    return Poison(key, orjson.dumps(fields))


def raw(value: bytes) -> Callable[[str, int], Poison]:
    return lambda study, record: Poison(f"{study}/record/{record}".encode(), value)


def replaced(old: bytes, new: bytes, **row: Any) -> Callable[[str, int], Poison]:
    def make(study: str, record: int) -> Poison:
        key, value, _ = event(study, record, **row)
        assert value is not None
        assert old in value
        return Poison(key, value.replace(old, new))

    return make


def headed(headers: Headers) -> Callable[[str, int], Poison]:
    return lambda study, record: event(study, record)._replace(headers=headers)


def data(value: Any, name: str = "V") -> Callable[[str, int], Poison]:
    return lambda study, record: event(study, record, recordData={name: value})


MARK = {"recordData": {"V": "mark"}}
LETTERS: dict[str, Callable[[str, int], Poison]] = {
    "empty value": raw(b""),
    "tombstone without key": lambda _study, _record: Poison(None, None),
    "no key": lambda study, record: event(study, record)._replace(key=None),
    "key of nothing": lambda study, record: event(study, record)._replace(key=b"x"),
    "not UTF-8": replaced(b'"mark"', b'"\xff"', **MARK),
    "truncated": lambda study, record: Poison(
        event(study, record).key, (event(study, record).value or b"")[:-20]
    ),
    "NaN": replaced(b'"mark"', b"NaN", **MARK),
    "Infinity, nested": replaced(b'"mark"', b"[1,[Infinity]]", **MARK),
    "two ids": replaced(b'"version":', b'"id":1,"version":'),
    "10 000 deep": replaced(b'"mark"', b"[" * 10_000 + b"]" * 10_000, **MARK),
    "integer beyond 64 bits": replaced(b'"mark"', b"18446744073709551616", **MARK),
    "scalar": raw(b"17"),
    "array": raw(b"[]"),
    "wrong magic byte": lambda study, record: Poison(
        event(study, record).key, b"\0\0\0\0\7" + (event(study, record).value or b"")
    ),
    "no id": lambda study, record: envelope(study, record, id=...),
    "null id": lambda study, record: envelope(study, record, id=None),
    "empty id": lambda study, record: envelope(study, record, id=""),
    "float id": lambda study, record: envelope(study, record, id=record + 0.5),
    "id of another": lambda study, record: envelope(study, record, id=record + 7),
    "another study": lambda study, record: envelope(study, record, studyKey="OTHER"),
    "unknown entity": lambda study, record: envelope(study, record, entity="spaceship")._replace(
        key=f"{study}/spaceship/{record}".encode()
    ),
    "unknown op": lambda study, record: envelope(study, record, op="merge"),
    "newer schema": lambda study, record: envelope(study, record, schemaVersion=2),
    "data of another type": lambda study, record: envelope(study, record, data=[1]),
    "far future": lambda study, record: envelope(study, record, version=2**62),
    "text that no index takes": lambda study, record: event(study, record, formKey="x" * 20_000),
    "lone surrogate": replaced(b'"mark"', b'"\\ud800"', **MARK),
    "nameless property": data("1", ""),
    "NUL in a name": data("1", "a\0b"),
    "a name that is too long": data("1", "n" * 65_536),
    "a reference that is no id": lambda study, record: event(study, record, visitId="five"),
    "two versions in headers": headed([("version", b"5"), ("version", b"5")]),
    "another version in headers": headed([("version", b"6")]),
    "5 MB that are no event": raw(b"x" * 5_000_000),
}
APPLIED: dict[str, Callable[[str, int], Poison]] = {
    "tombstone": lambda study, record: Poison(
        event(study, record).key, None, [("version", b"%d" % VERSION)]
    ),
    "delete of an unknown entity": lambda study, record: envelope(
        study, record, op="delete", data=None
    ),
    "5 MB in a property": data("x" * 5_000_000),
    "nested values": data({"a": [1, {"b": "c"}], "d": [1, "mixed"]}),
    "NUL in a value": data("a\0b"),
    "a back-tick in a name": data("1", "a`}) DETACH DELETE n //"),
    "the longest name": data("1", "n" * 65_535),
    "a variable named as the key": data("evil", "record_id"),
    "dates that are none": lambda study, record: event(study, record, dateModified="31.02.10000"),
    "its own parent": lambda study, record: event(study, record, parentRecordId=record),
    "bytes in a header": headed([("own", b"\xff\xfe"), ("version", b"%d" % VERSION)]),
    "unknown fields": lambda study, record: envelope(study, record, colour="red"),
}
KINDS = LETTERS | APPLIED
PLACES = (0, 1, NEIGHBOURS)  # before, between and after the neighbours


def test_each_poison_alone_is_dead_lettered_wherever_it_stands(
    kafka_settings: KafkaSettings,
    environment: dict[str, str],
    topics: dict[str, str],
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """Each poison message is dead-lettered, and its neighbours are applied, at any position.

    One partition for each kind of poison and position, all applied by one sink.
    """
    topic = f"{study}.poison"
    kafka = kafka_settings.model_copy(update={"events_topic": topic})
    make_topic(kafka, len(KINDS) * len(PLACES))
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap_servers, "message.max.bytes": 6_000_000}
    )
    letters: dict[tuple[int, int], Poison] = {}
    applied: dict[int, str] = {}
    neighbours: set[int] = set()
    cases = [(name, place) for name in KINDS for place in PLACES]
    for partition, (name, place) in enumerate(cases):
        first = partition * 10 + 1
        good = [event(study, first + number) for number in range(NEIGHBOURS)]
        neighbours |= {first + number for number in range(NEIGHBOURS)}
        poison = KINDS[name](study, first + NEIGHBOURS)
        for message in [*good[:place], poison, *good[place:]]:
            producer.produce(topic, message.value, message.key, partition, headers=message.headers)
        producer.flush(30)
        if name in LETTERS:
            letters[partition, place] = poison
        else:
            applied[first + NEIGHBOURS] = name
    variables = environment | topics | {"SINK_GROUP_ID": study, "KAFKA_EVENTS_TOPIC": topic}
    with running("sink", variables, tmp_path / "sink.log") as sink:
        wait_until(consumed_all(kafka, study), 90, "every offset passed")
        assert sink.poll() is None
    found = {}
    for letter in read_to_end(kafka, kafka.dead_letter_topic):
        why = dict(letter.headers() or [])
        at = (
            int(why["__connect.errors.partition"] or b""),
            int(why["__connect.errors.offset"] or b""),
        )
        found[at] = letter
    names = {at: cases[at[0]] for at in found.keys() | letters.keys()}
    assert {names[at] for at in found} == {names[at] for at in letters}
    assert found.keys() == letters.keys()
    for at, letter in found.items():
        is_kept = len(letters[at].value or b"") < 1_000_000  # a larger value is kept by reference
        assert (letter.key(), letter.value()) == (
            letters[at].key, letters[at].value if is_kept else None,
        )  # fmt: skip
        assert list(letter.headers() or [])[: len(letters[at].headers)] == letters[at].headers
    graph = read_graph(database, study)
    records = {
        int(key.values[1]): node
        for key, node in graph.nodes.items()
        if key.label == "Record" and "_version" in node
    }
    assert neighbours <= records.keys()
    assert {number: name for number, name in applied.items() if number not in records} == {}
    assert records.keys() == neighbours | applied.keys()
    assert {node["_version"] for node in records.values()} == {VERSION}
    assert NodeKey("Study", ("OTHER",)) not in read_graph(database, "OTHER").nodes
    offsets = GroupOffsets(kafka, study)
    assert {at.offset for at in offsets.committed().values()} == {NEIGHBOURS + 1}


def make_topic(kafka: KafkaSettings, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    new = NewTopic(
        kafka.events_topic, partitions, 1,
        config={"max.message.bytes": "10000000", "message.timestamp.type": "LogAppendTime"},
    )  # fmt: skip
    for future in admin.create_topics([new]).values():
        future.result(30)
