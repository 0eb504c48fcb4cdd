"""``trace`` on real servers: entities of known fate, each with the right conclusion."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from connector.cli.own_letters import is_own_letter
from connector.config import KafkaSettings, Settings
from connector.kafka.dead_letters import oversize_headers
from connector.kafka.topics import Topics
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.model.entities import ENTITIES
from connector.model.events import EntityId, RecordEvent
from connector.model.serde import encode
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.statement import Statement
from connector.ops.trace import conclude
from connector.ops.tracing import identity_of, trace_entity
from tests.brokers import kafka_with, publish_all, publish_raw, topic_names
from tests.builders import delete, upsert
from tests.programs import (
    consumed_all,
    run_program,
    running,
    source_environment,
    stream_until_quiet,
    wait_until,
)

pytestmark = pytest.mark.servers
STUDY = "TRACED"


@dataclass
class World:
    """A study that was streamed; since then things have happened to some of its entities."""

    simulation: Simulation
    kafka: KafkaSettings
    variables: dict[str, str]
    database: Neo4jDatabase
    fates: dict[str, tuple[str, EntityId]]
    """By fate: a kind and an id."""
    unused: Iterator[int]
    """Ids of records to which nothing has happened."""

    def row(self, record: int) -> dict[str, Any]:
        return self.simulation.studies[STUDY].table("records").get(record)

    def change(self, record: int, **fields: Any) -> None:
        self.simulation.studies[STUDY].table("records").put(self.row(record) | fields)

    def cypher(self, record: int, change: str) -> None:
        query = f"MATCH (n:Record {{study_key: '{STUDY}', record_id: {record}}}) {change}"
        self.database.write(Statement(query, []), {})

    def new(self, fate: str) -> int:
        record = next(self.unused)
        self.fates[fate] = ("record", record)
        return record


def newer(row: dict[str, Any]) -> RecordEvent:
    return upsert(row, round(time.time() * 1000))


@pytest.fixture(scope="module")
def world(
    environment: dict[str, str], database: Neo4jDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("trace")
    names = topic_names(STUDY)
    kafka = kafka_with(environment, names)
    Topics(kafka).ensure(create=True)
    simulation = Simulation({STUDY: build_study(STUDY, 5, 60, 7)})
    with serving(simulation) as api:
        variables = environment | names | source_environment(api, STUDY, folder / "known")
        variables |= {"SINK_GROUP_ID": STUDY}
        before = set(simulation.studies[STUDY].table("records").ids)
        stream_until_quiet(simulation, kafka, variables, folder, hard_deletes=1)
        (removed,) = before - set(simulation.studies[STUDY].table("records").ids)
        unused = iter(simulation.studies[STUDY].table("records").ids)
        made = World(simulation, kafka, variables, database, {}, unused)
        made.fates["deleted"] = ("record", removed)
        applied_changes(made, folder)
        later_changes(made)
        yield made


def applied_changes(world: World, folder: Path) -> None:
    """Publish what the sink then applies or dead-letters."""
    label = f"T{STUDY}"
    index = f"CREATE INDEX {label} FOR (n:Record) ON (n.{label})"
    world.database.write(Statement(index, []), {})
    refused = world.row(world.new("refused by the database"))
    too_long = refused | {"recordData": {label: "x" * 9000}}
    listed = world.new("deleted on the topic, listed by the API")
    malformed = world.new("up to date, with a malformed event")
    publish_all(
        world.kafka,
        [newer(too_long), delete(listed, round(time.time() * 1000), study_key=STUDY)],
    )
    publish_raw(world.kafka, f"{STUDY}/record/{malformed}".encode(), b"canary-value")
    with running("sink", world.variables, folder / "again.log"):
        wait_until(consumed_all(world.kafka, STUDY), 60, "what was published")
    world.database.write(Statement(f"DROP INDEX {label}", []), {})


def later_changes(world: World) -> None:
    """Change API, topic, graph and queue while neither source nor sink runs."""
    table = world.simulation.studies[STUDY].table("records")
    world.new("up to date")
    for fate, kind, resource in (
        ("a visit up to date", "visit", "visits"), ("a user up to date", "user", "users"),
        ("a site up to date", "site", "sites"),
    ):  # fmt: skip
        row = next(world.simulation.studies[STUDY].table(resource).rows())
        world.fates[fate] = (kind, row[ENTITIES[kind].id_field])
    world.change(world.new("changed in the API"), recordStatus="changed")
    table.remove(world.new("removed from the API"))
    for number, fate in enumerate(("new in the API", "too large for the topic")):
        row = world.row(table.ids[0]) | {"recordId": 900_000 + number}
        table.put(row)
        world.fates[fate] = ("record", row["recordId"])
    letter = newer(world.row(900_001))
    key, _, _ = encode(letter)
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers})
    headers = oversize_headers(letter, world.kafka.events_topic)
    producer.produce(world.kafka.dead_letter_topic, None, key, headers=headers)
    assert producer.flush(30) == 0
    changed = world.new("not applied yet")
    world.change(changed, recordStatus="published")
    publish_all(world.kafka, [newer(world.row(changed))])
    world.fates["unknown"] = ("record", 999_999)
    world.cypher(world.new("property changed"), "SET n.form_id = 4711")
    world.cypher(world.new("unlinked"), "MATCH (n)<-[r:HAS_RECORD]-() DELETE r")
    world.cypher(world.new("node removed"), "DETACH DELETE n")
    world.cypher(world.new("node put back"), "SET n._version = 1")
    world.cypher(world.new("node from the future"), "SET n._version = n._version + 1")
    world.cypher(world.new("of an earlier model"), "SET n._model = 0")
    for record, properties in ((800_000, "_version: 5, form_id: 7"), (800_001, "")):
        more = f", {properties}" if properties else ""
        query = f"CREATE (:Record {{study_key: '{STUDY}', record_id: {record}{more}}})"
        world.database.write(Statement(query, []), {})
    world.fates["only in the graph"] = ("record", 800_000)
    world.fates["a stub"] = ("record", 800_001)


CONCLUSIONS = {
    "up to date": "Up to date: API, topic and graph have the same state",
    "a visit up to date": "Up to date: API, topic and graph have the same state",
    "a user up to date": "Up to date: API, topic and graph have the same state",
    "a site up to date": "Up to date: API, topic and graph have the same state",
    "up to date, with a malformed event": "Up to date: .* Dead letters of it wait, .*: 0:. value",
    "deleted": "It was deleted in the API, and the graph has it as deleted",
    "deleted on the topic, listed by the API": "the API lists it again",
    "refused by the database": "could not be applied: index_size .*dlq redrive",
    "changed in the API": "The API has a newer state",
    "removed from the API": "The API no longer lists it",
    "new in the API": "the source has not read it yet",
    "too large for the topic": "too large for the topic .dead letter",
    "not applied yet": "The sinks have not applied its newest event yet: they are 1 offsets before",
    "unknown": "Neither API, topic nor graph has it",
    "property changed": r"is different \(form_id\): it was changed from outside",
    "unlinked": "is wrongly linked .*: it was changed from outside",
    "node removed": "but the graph does not have it: it was changed from outside",
    "node put back": "but the graph does not have it: it was changed from outside",
    "node from the future": "The graph has a newer state than the topic",
    "of an earlier model": "An earlier version of the graph model wrote the node",
    "only in the graph": "Only the graph has it",
    "a stub": "Other entities refer to it, but neither the API nor the topic has it",
}


@pytest.mark.parametrize("fate", CONCLUSIONS)
def test_each_fate_has_its_conclusion(
    world: World, fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 22 entities of known fate gets the right conclusion."""
    import re

    for name, value in world.variables.items():
        monkeypatch.setenv(name, value)
    kind, entity_id = world.fates[fate]
    identity, settings = identity_of(STUDY, kind, str(entity_id)), Settings.load()
    found = conclude(
        trace_entity(settings, identity, partial(is_own_letter, settings), lambda *_: None)
    )
    assert re.search(CONCLUSIONS[fate], found), found


def test_the_command_prints_what_each_place_has_and_no_content(world: World) -> None:
    """The table and the JSON name all places; neither holds record content."""
    _, record = world.fates["refused by the database"]
    shown = run_program(f"trace {STUDY} record {record}", world.variables)
    assert shown.returncode == 0
    for text in (
        "lists it",
        "cache",
        "delivered",
        "version",
        "committed",
        "dead letter",
        "index_size",
        "redrive",
    ):
        assert text in shown.stdout
    assert "xxx" not in shown.stdout
    _, malformed = world.fates["up to date, with a malformed event"]
    found = run_program(f"trace {STUDY} record {malformed} --json", world.variables)
    assert "canary" not in found.stdout + found.stderr
    body = json.loads(found.stdout)
    assert body["dead_letters"][0]["state"] == "pending"
    assert body["events"][-1]["version"] is None
    assert body["cached"]["version"] == body["node"]["version"]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"IMEDNET_BASE_URL": "http://127.0.0.1:9"}, "the API is not known: No response"),
        ({"IMEDNET_API_KEY": "wrong"}, "the API is not known: .*HTTP 401"),
        ({"NEO4J_URI": "bolt://127.0.0.1:9"}, "the graph could not be read"),
        (
            {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA_CONNECT_TIMEOUT_SECONDS": "1"},
            "the topic could not be read",
        ),
    ],
)
def test_a_server_that_does_not_answer_leaves_the_rest_known(
    world: World, changed: dict[str, str], text: str
) -> None:
    """What cannot be asked is named, and the conclusion says what that leaves open."""
    import re

    _, record = world.fates["up to date"]
    found = run_program(f"trace {STUDY} record {record}", world.variables | changed)
    assert re.search(text, found.stdout), found.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("trace TRACED records 1", "Unknown kind records"),
        ("trace TRACED record one", "one is not an id of a record"),
        ("trace TRACED record 0", "0 is not an id of a record"),
    ],
)
def test_a_wrong_kind_or_id_gets_one_line(world: World, arguments: str, text: str) -> None:
    """Wrong arguments are refused before anything is read."""
    found = run_program(arguments, world.variables)
    assert found.returncode == 1
    assert text in found.stderr
