"""``doctor`` on real servers: it names each misconfiguration, and nothing where all is well."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pytest

from connector.config import KafkaSettings, Settings
from connector.kafka.group_offsets import CommittedOffset, GroupOffsets
from connector.kafka.topics import Topics
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.model.entities import READ_KINDS
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.server import outdated_kinds
from connector.neo4j.statement import Statement
from connector.ops.doctor import examine
from connector.ops.findings import Finding, Outcome
from tests.brokers import kafka_with, set_topic, topic_names
from tests.programs import run_program, source_environment

pytestmark = pytest.mark.servers
STUDY = "EXAMINED"


@dataclass
class World:
    """Servers as they should be."""

    simulation: Simulation
    kafka: KafkaSettings
    variables: dict[str, str]
    database: Neo4jDatabase
    outdated: str
    """What the graph model's check says of nodes that other tests have left in the database."""


@pytest.fixture(scope="module")
def world(
    environment: dict[str, str], database: Neo4jDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("doctor")
    names = topic_names(STUDY)
    kafka = kafka_with(environment, names)
    Topics(kafka).ensure(create=True)
    simulation = Simulation({key: build_study(key, 2, 5, 7) for key in (STUDY, "OTHER")})
    with serving(simulation) as api:
        variables = environment | names | source_environment(api, STUDY, folder / "known")
        variables |= {"SINK_GROUP_ID": STUDY, "KAFKA_CONNECT_TIMEOUT_SECONDS": "2"}
        yield World(
            simulation, kafka, variables, database, ", ".join(outdated_kinds(database).outdated)
        )


def problems(
    world: World, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str] | None = None
) -> list[Finding]:
    """Examine with these settings; nodes that other tests have left are no problem of ours."""
    for name, value in {**world.variables, **(changed or {})}.items():
        monkeypatch.setenv(name, value)
    left = f"An earlier graph model wrote some {world.outdated}. " if world.outdated else "-"
    return [
        each
        for each in examine(Settings.load())
        if each.outcome is not Outcome.OK and not each.detail.startswith(left)
    ]


SETTINGS = {
    "no API key": ({"IMEDNET_API_KEY": ""}, "API keys: IMEDNET_API_KEY .* must both be set"),
    "a wrong API key": (
        {"IMEDNET_API_KEY": "canary"},
        "API answers: .*HTTP 401. Check IMEDNET_API_KEY",
    ),
    "an API that does not answer": (
        {"IMEDNET_BASE_URL": "http://127.0.0.1:9"},
        "API answers: No response from the API",
    ),
    "no study": ({"SOURCE_STUDIES": ""}, "API studies: SOURCE_STUDIES is empty"),
    "an unknown study": (
        {"SOURCE_STUDIES": f"{STUDY},NOPE"},
        "API study NOPE: Study NOPE is not known to the API",
    ),
    "no broker": (
        {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"},
        "Kafka answers: .*KAFKA_BOOTSTRAP_SERVERS",
    ),
    "another protocol": (
        {"KAFKA_SECURITY_PROTOCOL": "SSL"},
        "Kafka answers: .*KAFKA_SECURITY_PROTOCOL",
    ),
    "a missing topic": (
        {"KAFKA_EVENTS_TOPIC": "nowhere"},
        "Kafka topic nowhere: The topic does not exist. Run .imednet-connector setup",
    ),
    "no Neo4j": ({"NEO4J_URI": "bolt://127.0.0.1:9"}, "Neo4j answers: .*Check NEO4J_URI"),
    "a wrong password": (
        {"NEO4J_PASSWORD": "canary"},
        "Neo4j answers: .*NEO4J_USERNAME and NEO4J_PASSWORD",
    ),
    "a wrong database": ({"NEO4J_DATABASE": "nowhere"}, "Neo4j answers: .*Check NEO4J_DATABASE"),
    "a state folder that is a file": (
        {"SOURCE_STATE_DIR": "pyproject.toml"},
        "disk SOURCE_STATE_DIR: .* Set SOURCE_STATE_DIR",
    ),
    "an API key file that is missing": (
        {"IMEDNET_API_KEY": "", "IMEDNET_API_KEY_FILE": "nowhere.key"},
        "API keys: .*nowhere.key",
    ),
}


@contextmanager
def denied(world: World) -> Iterator[None]:
    world.simulation.denied = {STUDY}
    yield
    world.simulation.denied = set()


@contextmanager
def other_clock(world: World, seconds: float) -> Iterator[None]:
    world.simulation.clock_offset_seconds = seconds
    yield
    world.simulation.clock_offset_seconds = 0


@contextmanager
def topic_setting(world: World, topic: str, name: str, value: str, usual: str) -> Iterator[None]:
    set_topic(world.kafka, topic, name, value)
    yield
    set_topic(world.kafka, topic, name, usual)


@contextmanager
def offsets_beyond_the_end(world: World) -> Iterator[None]:
    with closing(GroupOffsets(world.kafka, STUDY)) as group:
        group.move({0: CommittedOffset(4711)})
        yield
        group.move({0: CommittedOffset(0)})


@contextmanager
def no_constraint(world: World) -> Iterator[None]:
    world.database.write(Statement("DROP CONSTRAINT imednet_keyword_key IF EXISTS", []), {})
    found = world.database.missing_schema()
    assert found
    yield
    world.database.create_schema(found)


@contextmanager
def earlier_model(world: World) -> Iterator[None]:
    kind = next(each for each in READ_KINDS.values() if each.plural not in world.outdated)
    own_id = kind.key_properties[-1] if kind.name != "study" else "other_id"
    node = f"(n:{kind.label} {{study_key: 'EXAMINED', {own_id}: 1, _version: 1}})"
    world.database.write(Statement(f"CREATE {node}", []), {})
    yield
    world.database.write(Statement(f"MATCH {node} DELETE n", []), {})


SURROUNDINGS: dict[str, tuple[Callable[[World], object], str]] = {
    "a study whose access was revoked": (denied, "API study EXAMINED: .*not known to the API"),
    "an API whose clock is wrong": (
        lambda world: other_clock(world, 7200),
        "API clock: Its clock is 120 min ahead of this machine's",
    ),
    "an API whose clock is a little wrong": (
        lambda world: other_clock(world, -180),
        "API clock: Its clock is 3 min behind this machine's",
    ),
    "events that are not compacted": (
        lambda w: topic_setting(w, w.kafka.events_topic, "cleanup.policy", "delete", "compact"),
        "Kafka topic EXAMINED.events: cleanup.policy is delete, should be compact",
    ),
    "dead letters that expire": (
        lambda w: topic_setting(w, w.kafka.dead_letter_topic, "retention.ms", "60000", "-1"),
        "Kafka topic EXAMINED.dlq: retention.ms is 60000, should be -1",
    ),
    "dead letters smaller than events": (
        lambda w: topic_setting(w, w.kafka.dead_letter_topic, "max.message.bytes", "9000", "1048588"),
        "Kafka message sizes: .*dead letters: larger ones keep no content",
    ),
    "offsets that the topic does not have": (
        offsets_beyond_the_end,
        "Kafka group EXAMINED: It has committed offset 4,711 of partition 0, which has only 0 to 0",
    ),
    "a missing constraint": (no_constraint, "Neo4j schema: Missing: .*imednet-connector setup"),
    "nodes of an earlier model": (
        earlier_model,
        "Neo4j graph model: An earlier graph model wrote some .*. Run: .*replay",
    ),
}  # fmt: skip


def test_where_all_is_well_nothing_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All checks pass, and each says what it has checked; the command exits with 0."""
    assert problems(world, monkeypatch) == []
    done = run_program("doctor", world.variables)
    assert done.returncode == 0, done.stdout
    for area in ("API", "Kafka", "Neo4j", "disk"):
        assert f"ok      {area}" in done.stdout
    found = json.loads(run_program("doctor --json --only disk", world.variables).stdout)
    assert {each["area"] for each in found} == {"disk"}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_setting_is_named(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wrong setting is found, with the setting to correct, and nothing else is."""
    changed, text = SETTINGS[name]
    assert_named(problems(world, monkeypatch, changed), text)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_wrong_surroundings_are_named(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wrong server is found, with what to do, and nothing else is."""
    wrong, text = SURROUNDINGS[name]
    with wrong(world):  # type: ignore[attr-defined]
        found = problems(world, monkeypatch)
    assert_named(found, text)


def assert_named(found: list[Finding], text: str) -> None:
    import re

    (finding,) = found
    assert re.search(text, f"{finding.area} {finding.check}: {finding.detail}"), finding
    assert "canary" not in finding.detail
