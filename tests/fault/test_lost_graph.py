"""A database that is emptied, or loses a constraint, under running sinks heals."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from connector.config import KafkaSettings, Neo4jSettings
from connector.kafka.group_offsets import GroupOffsets
from connector.kafka.topic_log import read_to_end
from connector.lab.servers.local import LocalNeo4j
from connector.lab.servers.processes import free_port
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from connector.neo4j.statement import Statement
from tests.fault.load import live_edits, messages, publish_load
from tests.oracle import assert_equal, fold
from tests.programs import consumed_all, run_program, running, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(0)]


@pytest.fixture(scope="module")
def neo4j(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNeo4j]:
    """A server whose schema the tests may break."""
    server = LocalNeo4j(tmp_path_factory.mktemp("neo4j"), free_port(), "a-password-of-its-own")
    server.start()
    try:
        server.wait()
        yield server
    finally:
        if server.process:
            server.process.stop()


@pytest.fixture
def variables(
    neo4j: LocalNeo4j, environment: dict[str, str], topics: dict[str, str], study: str
) -> dict[str, str]:
    return environment | topics | neo4j.environment | {
        "SINK_GROUP_ID": study, "SINK_CHECK_INTERVAL_SECONDS": "1",
        "SINK_RETRY_WAIT_SECONDS_MAX": "1", "SINK_SESSION_TIMEOUT_SECONDS": "6",
    }  # fmt: skip


@pytest.fixture
def graph(neo4j: LocalNeo4j, variables: dict[str, str]) -> Iterator[Neo4jDatabase]:
    assert run_program("setup", variables).returncode == 0
    settings = Neo4jSettings(
        uri=f"bolt://127.0.0.1:{neo4j.port}", password=SecretStr(neo4j.password)
    )
    with Neo4jDatabase(settings) as database:
        yield database


def has_committed(offsets: GroupOffsets) -> bool:
    return all((at.offset or 0) > 10 for at in offsets.committed().values())


def run(graph: Neo4jDatabase, cypher: str) -> None:
    graph.write(Statement(cypher, []), {})


def drop_schema(graph: Neo4jDatabase) -> None:
    for (name,) in graph.read("SHOW CONSTRAINTS YIELD name RETURN name"):
        run(graph, f"DROP CONSTRAINT {name}")
    for (name,) in graph.read("SHOW INDEXES YIELD name, type WHERE type = 'RANGE' RETURN name"):
        run(graph, f"DROP INDEX {name}")


def test_an_emptied_database_is_filled_again_without_a_replay(
    graph: Neo4jDatabase,
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    study: str,
    tmp_path: Path,
) -> None:
    """Running sinks refill an emptied database, once its schema is back, without a replay."""
    logs = [tmp_path / "sink-1.log", tmp_path / "sink-2.log"]
    with running("sink", variables, logs[0]) as one, running("sink", variables, logs[1]) as other:
        publish_load(kafka_settings, study, 2000)
        with live_edits(kafka_settings, study):
            wait_until(
                lambda: graph.read("MATCH (n:Record) RETURN count(n)")[0][0] > 500,
                60,
                "500 records",
            )
            offsets = GroupOffsets(kafka_settings, study)
            wait_until(lambda: has_committed(offsets), 60, "a commit")  # else nothing is ahead
            drop_schema(graph)
            run(graph, "MATCH (n) DETACH DELETE n")
            time.sleep(2)
            left = graph.read("MATCH (n) RETURN count(n)")  # by commits during the delete
            time.sleep(1)
            assert graph.read("MATCH (n) RETURN count(n)") == left
            assert run_program("setup", variables).returncode == 0
        wait_until(consumed_all(kafka_settings, study), 120, "the load")

        def is_right() -> bool:
            return read_graph(graph, study).digest() == fold(messages(kafka_settings)).digest()

        wait_until(is_right, 60, "equality")
        assert (one.poll(), other.poll()) == (None, None)
    assert_equal(fold(messages(kafka_settings)), read_graph(graph, study))
    assert list(read_to_end(kafka_settings, kafka_settings.dead_letter_topic)) == []
    logged = logs[0].read_text() + logs[1].read_text()
    assert "stale graph, rereading events" in logged
    assert "Run `imednet-connector setup`" in logged


def test_while_a_constraint_is_missing_nothing_is_written_and_its_statement_is_logged(
    graph: Neo4jDatabase,
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    study: str,
    tmp_path: Path,
) -> None:
    """While a constraint is missing, sinks write nothing and log the statement that creates it."""
    logs = [tmp_path / "sink-1.log", tmp_path / "sink-2.log"]
    with running("sink", variables, logs[0]) as one, running("sink", variables, logs[1]) as other:
        publish_load(kafka_settings, study, 200)
        wait_until(consumed_all(kafka_settings, study), 60, "a first load")
        run(graph, "DROP CONSTRAINT imednet_visit_key")
        for log in logs:
            statement = "CREATE CONSTRAINT imednet_visit_key"
            wait_until(lambda: statement in log.read_text(), 30, "the statement")  # noqa: B023
        before = read_graph(graph, study).digest()
        with live_edits(kafka_settings, study):
            time.sleep(2)
        assert read_graph(graph, study).digest() == before
        assert run_program("setup", variables).returncode == 0
        wait_until(consumed_all(kafka_settings, study), 60, "the rest")
        assert (one.poll(), other.poll()) == (None, None)
    assert_equal(fold(messages(kafka_settings)), read_graph(graph, study))


def test_a_sink_whose_neo4j_login_is_revoked_logs_it_once_and_recovers(
    graph: Neo4jDatabase,
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    study: str,
    tmp_path: Path,
) -> None:
    """A sink whose Neo4j login is revoked logs that once and resumes when the login is back."""
    create = "CREATE USER sink SET PASSWORD 'its-password' CHANGE NOT REQUIRED"
    run(graph, create)
    log = tmp_path / "sink.log"
    own = variables | {"NEO4J_USERNAME": "sink", "NEO4J_PASSWORD": "its-password"}
    with running("sink", own, log) as sink:
        publish_load(kafka_settings, study, 200)
        wait_until(consumed_all(kafka_settings, study), 60, "a first load")
        run(graph, "DROP USER sink")
        cut_connections_of(graph, "sink")
        with live_edits(kafka_settings, study):
            wait_until(lambda: "Check NEO4J_USERNAME" in log.read_text(), 30, "what to do")
            time.sleep(3)
        run(graph, create)
        wait_until(consumed_all(kafka_settings, study), 60, "the edits")
        assert sink.poll() is None
    assert_equal(fold(messages(kafka_settings)), read_graph(graph, study))
    assert list(read_to_end(kafka_settings, kafka_settings.dead_letter_topic)) == []
    assert log.read_text().count('"event": "waiting"') == 1


def cut_connections_of(graph: Neo4jDatabase, user: str) -> None:
    """Kill the user's connections, which would otherwise stay logged in."""
    ids = graph.read(
        "CALL dbms.listConnections() YIELD connectionId, username WHERE username = $user"
        " RETURN collect(connectionId)",
        user=user,
    )[0][0]
    graph.read("CALL dbms.killConnections($ids) YIELD connectionId RETURN connectionId", ids=ids)
