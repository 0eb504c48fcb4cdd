"""Neo4j is killed in the middle of a load."""

import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from connector.config import KafkaSettings, Neo4jSettings
from connector.kafka.topic_log import read_to_end
from connector.lab.progress import LogTail
from connector.lab.servers.local import LocalNeo4j
from connector.lab.servers.processes import free_port
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from tests.fault.load import how_many, live_edits, messages, publish_load
from tests.oracle import assert_equal, fold
from tests.programs import consumed_all, running, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(0)]
OUTAGE_SECONDS = how_many("FAULT_OUTAGE_SECONDS", 12)


def test_an_outage_of_neo4j_is_waited_out_and_dead_letters_nothing(
    kafka_settings: KafkaSettings,
    environment: dict[str, str],
    topics: dict[str, str],
    study: str,
    tmp_path: Path,
) -> None:
    """The sink waits out an outage of Neo4j, stays in its group and dead-letters nothing."""
    neo4j = LocalNeo4j(tmp_path / "neo4j", free_port(), "a-password-of-its-own")
    settings = Neo4jSettings(
        uri=f"bolt://127.0.0.1:{neo4j.port}", password=SecretStr(neo4j.password)
    )
    neo4j.start()
    try:
        neo4j.wait()
        with Neo4jDatabase(settings) as database:
            database.create_schema(database.missing_schema())
        variables = environment | topics | neo4j.environment | {
            "SINK_GROUP_ID": study, "SINK_TRANSACTION_EVENTS_MAX": "250",
            "SINK_SESSION_TIMEOUT_SECONDS": "6", "SINK_RETRY_WAIT_SECONDS_MAX": "2",
        }  # fmt: skip
        with running("sink", variables, tmp_path / "sink.log") as sink:
            publish_load(kafka_settings, study, records=2000)
            tail = LogTail(sink.log)
            wait_until(lambda: tail.read().get("written", 0) > 0, 60, "a first batch")
            assert neo4j.process is not None
            neo4j.process.kill()
            with live_edits(kafka_settings, study, every_seconds=0.5):
                time.sleep(OUTAGE_SECONDS)
            assert sink.poll() is None
            neo4j.start()
            neo4j.wait()
            written = tail.read()["written"]
            wait_until(lambda: tail.read()["written"] > written, 60, "a write after the outage")
            wait_until(consumed_all(kafka_settings, study), 60 + OUTAGE_SECONDS, "the rest")
        with Neo4jDatabase(settings) as database:
            assert_equal(fold(messages(kafka_settings)), read_graph(database, study))
        assert list(read_to_end(kafka_settings, kafka_settings.dead_letter_topic)) == []
        assert "partitions revoked" not in sink.log.read_text().partition("stopping")[0]
    finally:
        if neo4j.process is not None:
            neo4j.process.stop()
