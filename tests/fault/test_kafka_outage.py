"""A broker that is killed, or leads no partition for a while, loses and repeats nothing."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from connector.config import KafkaSettings, Neo4jSettings
from connector.errors import ConnectorError
from connector.kafka.topic_log import read_to_end
from connector.kafka.topics import Topics
from connector.lab.servers.local import LocalKafka
from connector.lab.servers.processes import free_port
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.neo4j.database import Neo4jDatabase
from connector.ops.compare import compare
from tests.programs import (
    FAST_EDITS,
    consumed_all,
    imednet,
    passes,
    running,
    source_environment,
    started,
    wait_until,
)

pytestmark = pytest.mark.servers
OUTAGE_SECONDS = 8


def test_an_outage_of_kafka_is_waited_out_by_source_and_sink(
    environment: dict[str, str],
    database: Neo4jDatabase,
    neo4j_settings: Neo4jSettings,
    study: str,
    tmp_path: Path,
) -> None:
    """Source and sink wait out an outage of Kafka; no state is lost or published twice."""
    assert database
    broker = LocalKafka(tmp_path / "kafka", free_port())
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{broker.port}")
    simulation = Simulation({study: build_study(study, 10, 200, 5)}, edits_per_second=30)
    with started(broker):
        Topics(kafka).ensure(create=True)
        with serving(simulation) as api:
            variables = (
                environment
                | broker.environment
                | source_environment(api, study, tmp_path)
                | FAST_EDITS
            )
            variables |= {
                "SINK_GROUP_ID": study, "SOURCE_RETRY_WAIT_SECONDS_MAX": "2",
                "KAFKA_CONNECT_TIMEOUT_SECONDS": "3", "KAFKA_REQUEST_TIMEOUT_SECONDS": "5",
            }  # fmt: skip
            with (
                running("source", variables, tmp_path / "source.log") as source,
                running("sink", variables, tmp_path / "sink.log") as sink,
            ):
                done = passes(source.log)
                wait_until(lambda: done() >= 2, 60, "two passes before the outage")
                assert broker.process is not None
                broker.process.kill()
                time.sleep(OUTAGE_SECONDS)
                assert (source.poll(), sink.poll()) == (None, None)
                broker.start()
                broker.wait()
                simulation.edits_per_second = 0
                wanted = done() + 4
                wait_until(lambda: done() >= wanted, 120, "passes after the outage")
                wait_until(consumed_all(kafka, study), 60, "the group's lag is 0")
            result = compare(imednet(api), neo4j_settings, study)
        assert result.different == 0, result.examples
        events = list(read_to_end(kafka, kafka.events_topic))
        states = [(event.key(), dict(event.headers() or [])["version"]) for event in events]
        assert len(states) == len(set(states))


def test_the_lag_is_readable_again_once_partitions_have_a_leader(tmp_path: Path) -> None:
    """The lag is readable again once partitions without a leader get one.

    They have none after a broker was frozen, for instance. This broker leads for 5 of every 7 s
    because its heartbeats come too late.
    """
    broker = LocalKafka(tmp_path / "kafka", free_port())
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{broker.port}")
    broker.start("broker.session.timeout.ms=5000\nbroker.heartbeat.interval.ms=7000\n")
    try:
        broker.wait()
        wait_until(topics_made(kafka), 60, "the topics")
        known = consumed_all(kafka, "a-group")
        wait_until(known, 60, "the lag")
        wait_until(lambda: not known(), 60, "no leader")
        wait_until(known, 60, "the lag again")
    finally:
        if broker.process is not None:
            broker.process.kill()  # a controlled shutdown would wait for a heartbeat


def topics_made(kafka: KafkaSettings) -> Callable[[], bool]:
    def made() -> bool:
        try:
            Topics(kafka).ensure(create=True)
        except ConnectorError:
            return False
        return True

    return made
