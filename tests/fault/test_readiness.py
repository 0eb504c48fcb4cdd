"""Readiness names what fails: each server in turn, and one study of three."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import SecretStr

from connector.config import KafkaSettings, Neo4jSettings
from connector.kafka.topics import Topics
from connector.lab.servers.local import LocalKafka, LocalNeo4j
from connector.lab.servers.processes import free_port
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.neo4j.database import Neo4jDatabase
from tests.programs import (
    FAST_EDITS,
    not_ready,
    run_program,
    running,
    scraped,
    source_environment,
    started,
    telemetry_of,
    wait_until,
)
from tests.webhooks import receiving

pytestmark = pytest.mark.servers
STUDIES = ("ONE", "TWO", "THREE")


def status_of(pipeline: "Pipeline") -> dict[str, Any]:
    done = run_program("status --json", pipeline.variables)
    assert done.returncode == 1
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def shown_first(pipeline: "Pipeline") -> str:
    first = status_of(pipeline)["studies"][0]
    return f"{first['study']} {first['state']}"


def problems_of(pipeline: "Pipeline") -> str:
    return "\n".join(status_of(pipeline)["problems"])


class Pipeline(NamedTuple):
    """The telemetry of a source and a sink."""

    source: str
    sink: str
    variables: dict[str, str]

    def failing(self) -> tuple[set[str], set[str]]:
        return set(not_ready(self.source)), set(not_ready(self.sink))

    def wait_for(self, source: set[str], sink: set[str]) -> None:
        wait_until(lambda: self.failing() == (source, sink), 30, f"{source} and {sink} to fail")

    def recovers(self) -> None:
        self.wait_for(set(), set())
        before = self._written()
        wait_until(lambda: self._written() > before, 60, "changes to arrive")

    def _written(self) -> float:
        return scraped(self.sink)["imednet_sink_written_events_total"]


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    broker = LocalKafka(tmp_path / "kafka", free_port())
    with started(broker):
        settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{broker.port}")
        Topics(settings).ensure(create=True)
        yield broker


@pytest.fixture
def neo4j(tmp_path: Path) -> Iterator[LocalNeo4j]:
    server = LocalNeo4j(tmp_path / "neo4j", free_port(), "a-password-of-its-own")
    with started(server):
        uri, password = f"bolt://127.0.0.1:{server.port}", SecretStr(server.password)
        with Neo4jDatabase(Neo4jSettings(uri=uri, password=password)) as database:
            database.create_schema(database.missing_schema())
        yield server


def test_readiness_names_each_server_that_fails_and_the_study_that_is_denied(
    kafka: LocalKafka, neo4j: LocalNeo4j, tmp_path: Path
) -> None:
    """API, a study's access, Neo4j and Kafka fail in turn: each is named, and all recovers."""
    simulation = Simulation(
        {key: build_study(key, 3, 40, seed) for seed, key in enumerate(STUDIES)},
        edits_per_second=20,
    )
    with serving(simulation) as api, receiving() as (webhook, received):
        variables = {
            **kafka.environment, **neo4j.environment,
            **source_environment(api, ",".join(STUDIES), tmp_path), **FAST_EDITS,
            "TELEMETRY_WEBHOOK_URL": webhook, "SOURCE_RETRY_WAIT_SECONDS_MAX": "2", "SINK_RETRY_WAIT_SECONDS_MAX": "2",
            "KAFKA_CONNECT_TIMEOUT_SECONDS": "3", "KAFKA_REQUEST_TIMEOUT_SECONDS": "5",
        }  # fmt: skip
        with (
            running("source", variables, tmp_path / "source.log") as source,
            running("sink", variables, tmp_path / "sink.log") as sink,
        ):
            addresses = (telemetry_of(source), telemetry_of(sink))
            named = ",".join(each.removeprefix("http://") for each in addresses)
            pipeline = Pipeline(*addresses, variables | {"TELEMETRY_PROGRAMS": named})
            pipeline.recovers()
            api_and_access_fail(simulation, pipeline)
            servers_fail(kafka, neo4j, pipeline)
            assert source.stop() == 0
            assert sink.stop() == 0
    changes = [(each["type"].rpartition(".")[2], each["subject"]) for _, each in received]
    for subject in ("neo4j", "kafka", "TWO"):
        assert ("failed", subject) in changes
        assert ("recovered", subject) in changes
    assert len(changes) < 40, "state changes, not log lines"
    assert {kind for kind, _ in changes} == {"failed", "recovered"}


def api_and_access_fail(simulation: Simulation, pipeline: Pipeline) -> None:
    simulation.faults.shares = {"server_error": 1.0}
    pipeline.wait_for({"imednet", *(f"study {key}" for key in STUDIES)}, set())
    assert scraped(pipeline.source)['imednet_dependency_up{dependency="imednet"}'] == 0
    simulation.faults.shares = {}
    pipeline.recovers()
    simulation.denied = {"TWO"}
    pipeline.wait_for({"study TWO"}, set())
    found = scraped(pipeline.source)
    failing = [found[f'imednet_source_study_failing{{study="{key}"}}'] for key in STUDIES]
    assert failing == [0, 1, 0]
    assert shown_first(pipeline).startswith("TWO failing: Cannot read")
    simulation.denied = set()
    pipeline.recovers()


def servers_fail(kafka: LocalKafka, neo4j: LocalNeo4j, pipeline: Pipeline) -> None:
    assert neo4j.process is not None
    neo4j.process.kill()
    pipeline.wait_for(set(), {"neo4j"})
    assert "Neo4j" in problems_of(pipeline)
    neo4j.start()
    neo4j.wait()
    pipeline.recovers()
    assert kafka.process is not None
    kafka.process.kill()
    # The studies cannot be published either; what is named is a subset while they notice.
    wait_until(lambda: all("kafka" in failing for failing in pipeline.failing()), 30, "Kafka")
    of_source, of_sink = pipeline.failing()
    assert of_sink == {"kafka"}
    assert "Kafka" in problems_of(pipeline)
    assert "imednet" not in of_source
    kafka.start()
    kafka.wait()
    pipeline.recovers()
