"""When the events topic loses events, the source publishes them again and the graph recovers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from connector.config import ImednetSettings, KafkaSettings, Neo4jSettings
from connector.lab.progress import LogTail
from connector.lab.servers.processes import Child
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.neo4j.database import Neo4jDatabase
from connector.ops.compare import compare
from tests.brokers import delete_records
from tests.programs import (
    FAST_EDITS,
    PROGRAM,
    consumed_all,
    imednet,
    passes,
    run_program,
    running,
    source_environment,
    wait_until,
)

pytestmark = [pytest.mark.servers, pytest.mark.timeout(0)]


@dataclass
class World:
    """A simulated study, and the settings of the programs that stream it."""

    simulation: Simulation
    imednet: ImednetSettings
    variables: dict[str, str]


@pytest.fixture
def world(
    environment: dict[str, str],
    topics: dict[str, str],
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> Iterator[World]:
    assert database
    simulation = Simulation({study: build_study(study, 20, 600, 7)}, edits_per_second=30)
    with serving(simulation) as api:
        variables = environment | topics | source_environment(api, study, tmp_path / "known") | {
            **FAST_EDITS, "SINK_GROUP_ID": study, "SINK_CHECK_INTERVAL_SECONDS": "1",
            "SINK_SESSION_TIMEOUT_SECONDS": "6", "SOURCE_RETRY_WAIT_SECONDS_MAX": "1",
        }  # fmt: skip
        yield World(simulation, imednet(api), variables)


class Sinks:
    """Sinks that are restarted as their error messages advise, as an operator would."""

    def __init__(self, variables: dict[str, str], folder: Path, count: int) -> None:
        self._variables, self._folder, self._stack = variables, folder, ExitStack()
        self.logs: list[Path] = []
        self.sinks = [self._started("sink") for _ in range(count)]

    def close(self) -> None:
        self._stack.close()

    def _started(self, command: str) -> Child:
        self.logs.append(self._folder / f"sink-{len(self.logs)}.log")
        return self._stack.enter_context(running(command, self._variables, self.logs[-1], PROGRAM))

    def follow_advice(self) -> None:
        for index, sink in enumerate(self.sinks):
            if sink.poll() is None:
                continue
            logged = sink.log.read_text()
            assert "events may be missing" in logged.lower(), logged[-2000:]
            advice = "sink --accept-gap" if "start once with --accept-gap" in logged else "sink"
            self.sinks[index] = self._started(advice)


def equal(world: World, neo4j: Neo4jSettings, study: str) -> Callable[[], bool]:
    return lambda: compare(world.imednet, neo4j, study).different == 0


def test_a_topic_that_is_deleted_and_made_again_is_filled_again_and_so_is_the_graph(
    world: World,
    kafka_settings: KafkaSettings,
    neo4j_settings: Neo4jSettings,
    study: str,
    tmp_path: Path,
) -> None:
    """After the events topic is recreated, the source refills it and the graph equals the API."""
    with (
        running("source", world.variables, tmp_path / "source.log") as source,
        closing(Sinks(world.variables, tmp_path, 2)) as sinks,
    ):
        done = passes(source.log)
        wait_until(lambda: done() >= 2, 60, "two passes")
        for log in sinks.logs:
            tail = LogTail(log)
            wait_until(lambda: tail.read().get("written", 0) > 0, 60, "a first batch")  # noqa: B023
        admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap_servers})
        admin.delete_topics([kafka_settings.events_topic])[kafka_settings.events_topic].result(30)
        advice = "`imednet-connector setup`"
        wait_until(lambda: advice in source.log.read_text(), 60, "the advice")
        world.simulation.workloads[0].hard_delete()
        made = run_program("setup", world.variables)
        assert made.returncode == 0, made.stdout + made.stderr
        world.simulation.edits_per_second = 0
        wanted = done() + 6
        wait_until(lambda: done() >= wanted, 120, "passes afterwards")

        def is_drained() -> bool:
            sinks.follow_advice()
            return consumed_all(kafka_settings, study)()

        wait_until(is_drained, 120, "the group's lag is 0")
        wait_until(equal(world, neo4j_settings, study), 30, "equality")
        assert source.poll() is None
    result = compare(world.imednet, neo4j_settings, study)
    assert result.different == 0, result.examples


def test_an_edit_that_the_topic_loses_before_the_sink_has_it_is_published_again_by_a_sweep(
    world: World,
    kafka_settings: KafkaSettings,
    neo4j_settings: Neo4jSettings,
    study: str,
    tmp_path: Path,
) -> None:
    """A sweep publishes again the edits that the topic lost before the sink had read them."""
    with running("source", world.variables, tmp_path / "source.log") as source:
        done = passes(source.log)
        with running("sink", world.variables, tmp_path / "sink.log"):
            wait_until(lambda: done() >= 2, 60, "two passes")
            world.simulation.edits_per_second = 0
            wanted = done() + 2
            wait_until(lambda: done() >= wanted, 60, "passes without edits")
            wait_until(consumed_all(kafka_settings, study), 60, "the first load")
        for _ in range(30):
            world.simulation.workloads[0].step()
        world.simulation.workloads[0].flush()
        wanted = done() + 3
        wait_until(lambda: done() >= wanted, 60, "the edits are published")
    delete_records(kafka_settings, kafka_settings.events_topic, 4)
    stopped = run_program("sink", world.variables)
    assert stopped.returncode == 1
    assert "start once with --accept-gap" in stopped.stderr
    with (
        running("sink --accept-gap", world.variables, tmp_path / "again.log"),
        running("source --sweep", world.variables, tmp_path / "sweep.log") as source,
    ):
        done = passes(source.log)
        wait_until(lambda: done() >= 2, 120, "two sweeps")
        wait_until(consumed_all(kafka_settings, study), 60, "the group's lag is 0")
        wait_until(equal(world, neo4j_settings, study), 30, "equality")
