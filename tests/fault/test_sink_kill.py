"""kill -9 of a sink at random moments of a load: nothing is lost, nothing is wrong."""

import random
import signal
import time
from pathlib import Path

import pytest

from connector.config import KafkaSettings
from connector.demo.progress import LogTail
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from tests.fault.load import messages, publish_load
from tests.oracle import assert_equal, fold
from tests.programs import consumed_all, running, wait_until

pytestmark = pytest.mark.servers
RECORDS = 6000
KILLS = 4


def test_kill_9_in_the_middle_of_a_load_loses_nothing(
    kafka_settings: KafkaSettings,
    environment: dict[str, str],
    topics: dict[str, str],
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    publish_load(kafka_settings, study, RECORDS)
    variables = environment | topics | {
        "SINK_GROUP_ID": study, "SINK_TRANSACTION_EVENTS_MAX": "250", "SINK_SESSION_TIMEOUT_SECONDS": "6"
    }  # fmt: skip
    rng, consumed = random.Random(11), 0
    for kill in range(KILLS):
        with running("sink", variables, tmp_path / f"sink-{kill}.log") as sink:
            tail = LogTail(sink.log)
            wait_until(lambda: tail.read().get("written", 0) > 0, 60, "a first batch")  # noqa: B023
            time.sleep(rng.uniform(0, 0.6))
            assert sink.poll() is None
            sink.signal(signal.SIGKILL)
            sink.kill()
            consumed += tail.read().get("consumed", 0)
    with running("sink", variables, tmp_path / "sink-last.log") as sink:
        wait_until(consumed_all(kafka_settings, study), 90, "the rest")
        sink.stop()
        consumed += LogTail(sink.log).read().get("consumed", 0)
        assert sink.poll() == 0
    assert_equal(fold(messages(kafka_settings)), read_graph(database, study))
    assert consumed_all(kafka_settings, study)()


def test_sigterm_commits_what_is_applied_so_that_nothing_comes_again(
    kafka_settings: KafkaSettings,
    environment: dict[str, str],
    topics: dict[str, str],
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    publish_load(kafka_settings, study, RECORDS)
    variables = (
        environment | topics | {"SINK_GROUP_ID": study, "SINK_TRANSACTION_EVENTS_MAX": "250"}
    )
    total = 0
    for stop in range(3):
        with running("sink", variables, tmp_path / f"sink-{stop}.log") as sink:
            tail = LogTail(sink.log)
            wait_until(lambda: tail.read().get("written", 0) > 0, 60, "a first batch")  # noqa: B023
            began = time.monotonic()
            assert sink.stop() == 0
            assert time.monotonic() - began < 15
            total += tail.read()["consumed"]
    with running("sink", variables, tmp_path / "sink-last.log") as sink:
        wait_until(consumed_all(kafka_settings, study), 90, "the rest")
        sink.stop()
        total += LogTail(sink.log).read()["consumed"]
    assert total == len(messages(kafka_settings))
    assert_equal(fold(messages(kafka_settings)), read_graph(database, study))
