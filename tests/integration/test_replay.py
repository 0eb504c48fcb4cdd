"""Replay on real servers: alongside a live sink, and onto an emptied graph."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connector.config import KafkaSettings
from connector.kafka.group_offsets import GroupOffsets
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from connector.neo4j.statement import Statement
from tests.fault.load import live_edits, messages, publish_load
from tests.oracle import assert_equal, fold
from tests.programs import consumed_all, run_program, running, wait_until

pytestmark = pytest.mark.servers
RECORDS = 2000


def replay(options: str, environment: dict[str, str], code: int = 0) -> str:
    done = run_program(f"replay {options}", environment)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def number(name: str, output: str) -> int:
    found = re.search(rf"{name}: ([\d,]+)", output)
    assert found, output
    return int(found[1].replace(",", ""))


@pytest.fixture
def variables(
    kafka_settings: KafkaSettings,
    environment: dict[str, str],
    topics: dict[str, str],
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> dict[str, str]:
    """The settings of a live group that has applied a load."""
    assert database
    publish_load(kafka_settings, study, RECORDS)
    given = environment | topics | {"SINK_GROUP_ID": study}
    with running("sink", given, tmp_path / "first.log"):
        wait_until(consumed_all(kafka_settings, study), 60, "the load")
    return given


def clear(database: Neo4jDatabase, study: str) -> None:
    rows = [{"study": study}]
    database.write(
        Statement(
            "UNWIND $batch.rows AS row MATCH (n {study_key: row.study}) DETACH DELETE n", rows
        ),
        {},
    )


def test_a_window_replayed_during_live_traffic_changes_nothing_and_matches_its_plan(
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """A window replayed during live traffic is a no-op and consumes as many events as planned."""
    with running("sink", variables, tmp_path / "live.log") as sink:
        with live_edits(kafka_settings, study):
            window_is_replayed(variables, study)
        wait_until(consumed_all(kafka_settings, study), 60, "the live edits")
        assert "partitions revoked" not in sink.log.read_text()
    assert_equal(fold(messages(kafka_settings)), read_graph(database, study))


def window_is_replayed(variables: dict[str, str], study: str) -> None:
    now = datetime.now(UTC).isoformat()
    window = f"--from 2020-01-01T00:00:00Z --to {now} --study {study}"
    planned = number("events", replay(f"{window} --plan", variables))
    done = replay(window, variables)
    assert planned >= RECORDS
    assert number("consumed", done) == planned
    assert (number("written", done), number("dead letters", done)) == (0, 0)
    refused = replay("--from beginning --rewind", variables, code=1)
    assert "has members" in refused


def test_a_forced_replay_rewrites_nodes_that_have_the_events_version(
    variables: dict[str, str], kafka_settings: KafkaSettings, database: Neo4jDatabase, study: str
) -> None:
    """With --force, a node changed by hand is rewritten with its links; without it, it is not."""
    statement = (
        "UNWIND $batch.rows AS row MATCH (p)-[r:HAS_RECORD]->(n:Record {study_key: row.study}) WITH n, r"
        " LIMIT 10 SET n.record_status = 'by hand' DELETE r"
    )
    before = read_graph(database, study).digest()
    database.write(Statement(statement, [{"study": study}]), {})
    assert number("written", replay("--from beginning", variables)) == 0
    assert read_graph(database, study).digest() != before
    assert number("written", replay("--from beginning --force", variables)) >= RECORDS // 2
    assert read_graph(database, study).digest() == before
    assert_equal(fold(messages(kafka_settings)), read_graph(database, study))


def test_a_replay_of_all_by_three_workers_rebuilds_an_emptied_graph(
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """Three workers that replay the whole topic rebuild an emptied graph."""
    offsets = GroupOffsets(kafka_settings, study)
    before, committed = read_graph(database, study).digest(), offsets.committed()
    clear(database, study)
    assert read_graph(database, study).digest() != before
    with running("replay --from beginning", variables, tmp_path / "one.log") as one:
        found = None
        while found is None:
            found = re.search(r"--join (\S+)", one.log.read_text())
        joining = f"replay --join {found[1]}"
        with (
            running(joining, variables, tmp_path / "two.log") as two,
            running(joining, variables, tmp_path / "three.log") as three,
        ):
            wait_until(
                lambda: all(each.poll() is not None for each in (one, two, three)), 90, "the end"
            )
            assert [each.poll() for each in (one, two, three)] == [0, 0, 0]
    assert read_graph(database, study).digest() == before
    assert offsets.committed() == committed
    output = replay(f"--join {found[1]}", variables)
    # On a busy machine the last worker may not have left in time, so that the group still exists.
    assert "has finished" in output or '"consumed": 0' in output


def test_a_live_group_without_members_is_moved_back_and_reads_again(
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """``--rewind`` moves a live group without members back, and its sinks read again."""
    before = read_graph(database, study).digest()
    replay("--from beginning --rewind", variables)
    assert not consumed_all(kafka_settings, study)()
    with running("sink", variables, tmp_path / "again.log"):
        wait_until(consumed_all(kafka_settings, study), 60, "the topic once more")
    assert read_graph(database, study).digest() == before


def test_a_stopped_replay_prints_the_command_that_resumes_it(
    variables: dict[str, str], database: Neo4jDatabase, study: str, tmp_path: Path
) -> None:
    """A stopped replay prints the command that resumes it."""
    before = read_graph(database, study).digest()
    clear(database, study)
    slow = variables | {"SINK_TRANSACTION_EVENTS_MAX": "1", "SINK_WRITERS_MAX": "1"}
    with running("replay --from beginning", slow, tmp_path / "one.log") as one:
        wait_until(lambda: '"written"' in one.log.read_text(), 60, "a first write")
        assert one.stop() == 1
    found = re.search(r"To resume: imednet-connector replay --join (\S+)", one.log.read_text())
    assert found
    replay(f"--join {found[1]}", variables)
    assert read_graph(database, study).digest() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "--from or --join"),
        ("--from yesterday", "not a point in the topic"),
        ("--from 0:99999999", "Partition 0 has offsets"),
        ("--join nobody", "No replay of this name"),
        ("--from beginning --to 0:1 --rewind", "Omit --to"),
    ],
)
def test_an_impossible_replay_is_refused_in_one_line(
    environment: dict[str, str], topics: dict[str, str], options: str, message: str
) -> None:
    """A replay with impossible options is refused in one line."""
    assert message in replay(options, environment | topics, code=1)
