"""Bad input ends a command with one clear line, exit code 1, and no traceback or secret."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from connector.config import KafkaSettings
from connector.kafka.group_offsets import CommittedOffset, GroupOffsets
from connector.kafka.offset_metadata import OffsetMetadata
from connector.kafka.topic_log import read_to_end
from connector.lab.servers.processes import free_port
from connector.lab.simulator.api import API_KEY, Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.model.serde import encode
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from connector.neo4j.schema import schema
from tests.builders import record_row, upsert
from tests.programs import (
    PROGRAM,
    consumed_all,
    run_program,
    running,
    source_environment,
    wait_until,
)

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with serving(Simulation({"KNOWN": build_study("KNOWN", 3, 20, 1)})) as address:
        yield address


@pytest.fixture
def variables(
    environment: dict[str, str],
    topics: dict[str, str],
    database: Neo4jDatabase,
    api: str,
    tmp_path: Path,
) -> dict[str, str]:
    assert database
    return (
        environment
        | topics
        | source_environment(api, "KNOWN", tmp_path)
        | {"KAFKA_CONNECT_TIMEOUT_SECONDS": "3", "NEO4J_CONNECT_TIMEOUT_SECONDS": "3"}
    )


def fails(command: str, variables: dict[str, str], *expected: str) -> str:
    done = run_program(command, variables)
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("imednet-connector: ")]
    assert len(lines) == 1, done.stderr
    for text in expected:
        assert text in done.stderr
    return done.stderr


def test_a_wrong_api_key(variables: dict[str, str]) -> None:
    """A wrong API key is refused with the setting's name and without the key."""
    wrong = variables | {"IMEDNET_API_KEY": "canary-key"}
    assert "canary" not in fails("source", wrong, "IMEDNET_API_KEY", "401")


def test_an_api_address_without_a_scheme(variables: dict[str, str]) -> None:
    """An API address without a scheme is refused with the expected form."""
    fails("source", variables | {"IMEDNET_API_KEY_": "", "IMEDNET_BASE_URL": "nowhere"}, "http://")


@pytest.mark.parametrize("key", ["canary\nkey", "canary-k\u00e9y", "canary key"])
def test_a_key_that_no_header_can_carry(key: str, variables: dict[str, str]) -> None:
    """A key that no HTTP header can carry is refused without being printed."""
    assert "canary" not in fails("source", variables | {"IMEDNET_API_KEY": key}, "IMEDNET_API_KEY")
    output = fails(
        "export KNOWN", variables | {"IMEDNET_SECURITY_KEY": key}, "IMEDNET_SECURITY_KEY"
    )
    assert "canary" not in output


def test_a_state_folder_that_cannot_be_written(variables: dict[str, str], tmp_path: Path) -> None:
    """A state folder that cannot be written is refused with the setting to change."""
    (tmp_path / "file").write_text("no folder")
    for folder in ("/proc", str(tmp_path / "file" / "below")):
        fails("source", variables | {"SOURCE_STATE_DIR": folder}, "SOURCE_STATE_DIR")


def test_a_study_key_longer_than_a_file_name(variables: dict[str, str]) -> None:
    """A study key longer than a file name fails only because the API does not know it."""
    fails("source", variables | {"SOURCE_STUDIES": "K" * 260}, "is not known to the API")


def test_settings_that_the_kafka_client_refuses(variables: dict[str, str]) -> None:
    """A setting that the Kafka client refuses is named as the user knows it."""
    poll = variables | {"SINK_MAX_POLL_INTERVAL_SECONDS": "10"}
    fails("sink", poll, "SINK_MAX_POLL_INTERVAL_SECONDS must not be less")


def test_an_unknown_study(variables: dict[str, str]) -> None:
    """A study that the API does not know ends the source, which names the setting."""
    output = fails("source", variables | {"SOURCE_STUDIES": "NOPE"}, "NOPE", "SOURCE_STUDIES")
    assert API_KEY not in output


def test_no_study(variables: dict[str, str]) -> None:
    """An empty list of studies ends the source."""
    fails("source", variables | {"SOURCE_STUDIES": ""}, "SOURCE_STUDIES is empty")


@pytest.mark.parametrize("command", ["source", "sink", "setup"])
def test_an_unreachable_broker(command: str, variables: dict[str, str]) -> None:
    """A command that reaches no broker names the setting to check."""
    wrong = variables | {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    fails(command, wrong, "No Kafka broker answers", "KAFKA_BOOTSTRAP_SERVERS")


@pytest.mark.parametrize("command", ["sink", "setup"])
def test_a_wrong_neo4j_password(command: str, variables: dict[str, str]) -> None:
    """A wrong Neo4j password is refused with the settings to check and without the password."""
    wrong = variables | {"NEO4J_PASSWORD": "canary-password"}
    assert "canary" not in fails(command, wrong, "Check NEO4J_USERNAME and NEO4J_PASSWORD")


def test_an_unreachable_neo4j(variables: dict[str, str]) -> None:
    """A sink that does not reach Neo4j names the setting to check."""
    fails("sink", variables | {"NEO4J_URI": f"bolt://127.0.0.1:{free_port()}"}, "Check NEO4J_URI")


def test_an_unknown_database(variables: dict[str, str]) -> None:
    """A sink whose database does not exist names the setting to check."""
    fails("sink", variables | {"NEO4J_DATABASE": "nope"}, "Check NEO4J_DATABASE")


def test_missing_topics(variables: dict[str, str]) -> None:
    """Source and sink advise to run ``setup`` if the events topic is missing when they start."""
    for command in ("source", "sink"):
        fails(command, variables | {"KAFKA_EVENTS_TOPIC": "nope"}, "imednet-connector setup")


def test_a_missing_constraint_prints_the_statement(
    variables: dict[str, str], database: Neo4jDatabase
) -> None:
    """A sink that starts without a constraint prints the statement that creates it."""
    item = next(each for each in schema() if each.name == "imednet_visit_key")
    with database._session("WRITE") as session:
        session.run(f"DROP CONSTRAINT {item.name}").consume()
    try:
        fails("sink", variables, item.cypher, "imednet-connector setup")
    finally:
        database.create_schema([item])
    assert database.missing_schema() == []


def test_a_message_that_is_not_json_is_dead_lettered_and_its_neighbours_are_applied(
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """A message that is not JSON is dead-lettered unchanged, and its neighbours are applied."""
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap_servers})
    topic = kafka_settings.events_topic
    for number in (1, 2):
        key, value, headers = encode(upsert(record_row(number, studyKey=study)))
        producer.produce(topic, value, key, 0, headers=headers)
        bad = f"{study}/record/{number + 10}".encode()
        producer.produce(topic, b"not json: canary-content", bad, 0, headers=[("own", b"kept")])
    producer.flush(10)
    group = study
    with running("sink", variables | {"SINK_GROUP_ID": group}, tmp_path / "sink.log"):
        wait_until(consumed_all(kafka_settings, group), 60, "lag 0")
    letters = list(read_to_end(kafka_settings, kafka_settings.dead_letter_topic))
    assert [letter.key() for letter in letters] == [
        f"{study}/record/{number}".encode() for number in (11, 12)
    ]
    why = dict(letters[0].headers() or [])
    assert letters[0].value() == b"not json: canary-content"
    assert why["own"] == b"kept"
    assert why["__connect.errors.topic"] == topic.encode()
    assert (why["__connect.errors.partition"], why["__connect.errors.offset"]) == (
        b"0",
        b"1",
    )
    assert b"canary" not in repr(why).encode()
    assert "canary" not in (tmp_path / "sink.log").read_text()
    assert read_graph(database, study).counts()["Record"] == 2


def test_a_gap_stops_the_sink_until_it_is_accepted(
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """A gap stops the sink until it is started with ``--accept-gap``."""
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap_servers})
    key, value, headers = encode(upsert(record_row(1, studyKey=study)))
    producer.produce(kafka_settings.events_topic, value, key, 0, headers=headers)
    producer.flush(10)
    GroupOffsets(kafka_settings, study).move(
        {0: CommittedOffset(0, OffsetMetadata("another-topic"))}
    )
    group = variables | {"SINK_GROUP_ID": study}
    fails("sink", group, "Events may be missing", "the topic was recreated", "--accept-gap")
    with running("sink --accept-gap", group, tmp_path / "sink.log"):
        wait_until(consumed_all(kafka_settings, study), 60, "lag 0")
    assert read_graph(database, study).counts()["Record"] == 1


def test_setup_says_what_differs_and_check_changes_nothing(variables: dict[str, str]) -> None:
    """``setup`` reports topic settings that differ, and ``--check`` creates nothing."""
    wanted = variables | {"KAFKA_EVENTS_TOPIC": "not.made.by.check"}
    done = subprocess.run(
        [*PROGRAM, "setup", "--check"], env={**os.environ, **wanted},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "topic not.made.by.check: missing" in done.stdout
    swapped = variables | {"KAFKA_EVENTS_TOPIC": variables["KAFKA_DEAD_LETTER_TOPIC"]}
    done = subprocess.run(
        [*PROGRAM, "setup"], env={**os.environ, **swapped},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cleanup.policy is delete, should be compact" in done.stdout
