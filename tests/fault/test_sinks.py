"""Sinks that are killed, stopped or frozen in the middle of a load."""

import random
import signal
import time
from pathlib import Path

import pytest

from connector.config import KafkaSettings
from connector.lab.progress import LogTail
from connector.lab.servers.processes import Child
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from tests.fault.load import how_many, live_edits, messages, publish_load
from tests.oracle import assert_equal, fold
from tests.programs import consumed_all, running, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(0)]
KILLS = how_many("FAULT_KILLS", 4)
STOPS = how_many("FAULT_STOPS", 3)
SESSION_SECONDS = 6


@pytest.fixture
def variables(
    environment: dict[str, str], topics: dict[str, str], database: Neo4jDatabase, study: str
) -> dict[str, str]:
    assert database
    return environment | topics | {
        "SINK_GROUP_ID": study, "SINK_TRANSACTION_EVENTS_MAX": "100",
        "SINK_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
    }  # fmt: skip


def consumed(sink: Child) -> int:
    count: int = LogTail(sink.log).read().get("consumed", 0)
    return count


def test_kill_9_at_any_moment_of_a_load_loses_nothing(
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """A sink that is killed at any moment of a load loses no event."""
    rng, total = random.Random(11), 0
    with live_edits(kafka_settings, study):
        for kill in range(KILLS):
            with running("sink", variables, tmp_path / f"sink-{kill}.log") as sink:
                wait_until(lambda: consumed(sink), 60, "a first batch")
                time.sleep(rng.uniform(0, 0.5))
                assert sink.poll() is None
                sink.kill()
                total += consumed(sink)
    with running("sink", variables, tmp_path / "sink-last.log") as sink:
        wait_until(consumed_all(kafka_settings, study), 120, "the rest")
        assert sink.stop() == 0
        total += consumed(sink)
    published = messages(kafka_settings)
    assert_equal(fold(published), read_graph(database, study))
    assert total > len(published) / 2  # else hardly anything was applied before the kills


def test_sigterm_commits_what_is_applied_so_that_nothing_comes_again(
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """On SIGTERM a sink commits everything it applied, so no event is consumed twice."""
    rng, total = random.Random(12), 0
    with live_edits(kafka_settings, study):
        for stop in range(STOPS):
            with running("sink", variables, tmp_path / f"sink-{stop}.log") as sink:
                wait_until(lambda: consumed(sink), 60, "a first batch")
                time.sleep(rng.uniform(0, 0.5))
                began = time.monotonic()
                assert sink.stop() == 0
                assert time.monotonic() - began < 10
                total += consumed(sink)
    with running("sink", variables, tmp_path / "sink-last.log") as sink:
        wait_until(consumed_all(kafka_settings, study), 120, "the rest")
        assert sink.stop() == 0
        total += consumed(sink)
    published = messages(kafka_settings)
    assert total == len(published)
    assert_equal(fold(published), read_graph(database, study))


def test_a_sink_frozen_beyond_its_session_does_no_harm_when_it_resumes(
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """A sink frozen beyond its session overwrites nothing when it resumes.

    By then its in-flight batches are older than those its successor has written and committed.
    """
    with (
        live_edits(kafka_settings, study),
        running("sink", variables, tmp_path / "frozen.log") as frozen,
        running("sink", variables, tmp_path / "other.log") as other,
    ):
        wait_until(lambda: consumed(frozen) and consumed(other), 60, "both at work")
        frozen.signal(signal.SIGSTOP)
        before = consumed(other)
        time.sleep(SESSION_SECONDS + 4)
        assert consumed(other) > before
        frozen.signal(signal.SIGCONT)
        taken = consumed(frozen)
        wait_until(lambda: consumed(frozen) > taken + 1000, 60, "the frozen one at work again")
        assert "partitions lost" in frozen.log.read_text()
        assert (frozen.stop(), other.stop()) == (0, 0)
    with running("sink", variables, tmp_path / "last.log"):
        wait_until(consumed_all(kafka_settings, study), 60, "the rest")
    assert_equal(fold(messages(kafka_settings)), read_graph(database, study))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_sinks_that_come_and_go_under_load_lose_nothing_and_repeat_nothing(
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
    protocol: str,
) -> None:
    """Sinks that join and leave under load consume each event exactly once.

    Each leaves on SIGTERM and finishes its in-flight work first.
    """
    given = variables | {"SINK_GROUP_PROTOCOL": protocol}
    logs = [tmp_path / f"sink-{number}.log" for number in range(4)]
    with live_edits(kafka_settings, study), running("sink", given, logs[0]) as first:
        wait_until(lambda: consumed(first), 60, "a first batch")
        with running("sink", given, logs[1]) as second, running("sink", given, logs[2]) as third:
            wait_until(lambda: consumed(second) and consumed(third), 60, "all three at work")
            assert first.stop() == 0
            before = consumed(second)
            wait_until(lambda: consumed(second) > before, 60, "the rest at work")
            assert (second.stop(), third.stop()) == (0, 0)
    with running("sink", given, logs[3]) as last:
        wait_until(consumed_all(kafka_settings, study), 60, "the rest")
        assert last.stop() == 0
    published = messages(kafka_settings)
    assert sum(LogTail(log).read().get("consumed", 0) for log in logs) == len(published)
    assert_equal(fold(published), read_graph(database, study))


def test_four_sinks_on_three_hubs_meet_no_deadlock(
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """Four sinks that all write to three hub nodes meet no deadlock.

    Each record hangs on one of three sites, whatever partition it is in.
    """
    logs = [tmp_path / f"sink-{number}.log" for number in range(4)]
    publish_load(kafka_settings, study, 4000, hubs=3)
    with (
        running("sink", variables, logs[0]), running("sink", variables, logs[1]),
        running("sink", variables, logs[2]), running("sink", variables, logs[3]),
    ):  # fmt: skip
        wait_until(consumed_all(kafka_settings, study), 120, "the load")
    for log in logs:
        logged = log.read_text()
        assert '"level": "error"' not in logged
        assert '"waiting"' not in logged, "two deadlocks in a row"
    graph = read_graph(database, study)
    assert_equal(fold(messages(kafka_settings)), graph)
    assert graph.counts()["Site"] == 3
