"""A server that accepts connections and never answers does not keep a sink from ending."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector.config import KafkaSettings
from connector.lab.progress import LogTail
from connector.lab.servers.local import LocalServers
from connector.lab.servers.processes import Child
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from tests.fault.load import live_edits, messages
from tests.oracle import assert_equal, fold
from tests.programs import consumed_all, running, wait_until

pytestmark = pytest.mark.servers


@pytest.fixture(params=["Kafka", "Neo4j"])
def server(request: pytest.FixtureRequest, servers: LocalServers) -> Iterator[Child]:
    running = servers.kafka if request.param == "Kafka" else servers.neo4j
    if running is None or running.process is None:
        pytest.skip(f"{request.param} is not this run's own: it cannot be frozen")
    yield running.process
    running.process.signal(signal.SIGCONT)


@pytest.mark.parametrize(("signals", "seconds"), [(1, 10), (2, 1)])
def test_a_sink_ends_while_a_server_is_frozen(
    server: Child,
    kafka_settings: KafkaSettings,
    environment: dict[str, str],
    topics: dict[str, str],
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
    signals: int,
    seconds: float,
) -> None:
    """While a server is frozen, one signal ends the sink within 10 s and a second one at once."""
    variables = environment | topics | {
        "SINK_GROUP_ID": study, "SINK_SESSION_TIMEOUT_SECONDS": "6",
    }  # fmt: skip
    with running("sink", variables, tmp_path / "sink.log") as sink:
        with live_edits(kafka_settings, study):
            tail = LogTail(sink.log)
            wait_until(lambda: tail.read().get("written", 0) > 0, 60, "a first batch")
        server.signal(signal.SIGSTOP)
        time.sleep(2)  # until calls are in flight that nobody answers
        began = time.monotonic()
        for _ in range(signals):
            sink.signal(signal.SIGTERM)
            time.sleep(0.2)
        wait_until(lambda: sink.poll() is not None, seconds, "the end")
        assert time.monotonic() - began <= seconds
        server.signal(signal.SIGCONT)
    with running("sink", variables, tmp_path / "again.log"):
        wait_until(consumed_all(kafka_settings, study), 60, "the rest")
    assert_equal(fold(messages(kafka_settings)), read_graph(database, study))
