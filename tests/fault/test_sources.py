"""Sources that are killed at any moment, or started twice."""

import random
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Message as RawMessage

from connector.config import KafkaSettings
from connector.kafka.topic_log import read_to_end
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.model.graph_state import differences
from tests.fault.load import how_many, messages
from tests.oracle import fold
from tests.programs import FAST_EDITS, passes, running, source_environment, wait_until
from tests.property.source_world import api_state, live

pytestmark = [pytest.mark.servers, pytest.mark.timeout(0)]
KILLS = how_many("FAULT_KILLS", 5)


def test_kill_9_between_any_two_steps_repeats_nothing_and_loses_nothing(
    environment: dict[str, str],
    topics: dict[str, str],
    kafka_settings: KafkaSettings,
    study: str,
    tmp_path: Path,
) -> None:
    """A source that is killed at any moment publishes each state once and loses none."""
    rng = random.Random(5)
    simulation = Simulation({study: build_study(study, 60, 4000, 3)}, edits_per_second=80)
    with serving(simulation) as api:
        variables = (
            environment | topics | source_environment(api, study, tmp_path / "known") | FAST_EDITS
        )
        for kill in range(KILLS):
            with running("source", variables, tmp_path / f"source-{kill}.log") as source:
                asked = len(simulation.answered)
                wait_until(lambda: len(simulation.answered) > asked, 30, "a request")  # noqa: B023
                time.sleep(rng.uniform(0, 1.5))
                assert source.poll() is None
                source.kill()
        simulation.edits_per_second = 0
        with running("source", variables, tmp_path / "source-last.log") as source:
            done = passes(source.log)
            wait_until(lambda: done() >= 4, 90, "passes without edits")
            assert source.stop() == 0
    events = list(read_to_end(kafka_settings, kafka_settings.events_topic))
    states = [(event.key(), orjson.loads(event.value() or b"")["version"]) for event in events]
    assert len(states) > 4000
    assert len(states) == len(set(states)), "a version of a key twice"
    for versions in by_partition(events).values():
        assert all(one < other for one, other in pairwise(versions)), "versions do not grow"
    found = list(
        differences(api_state(simulation.studies[study]), live(fold(messages(kafka_settings))))
    )
    assert not found, found[:5]


def by_partition(events: list[RawMessage]) -> dict[tuple[bytes | None, int], list[int]]:
    """Return each key's versions per partition, in order (a record that moves has two)."""
    states = defaultdict(list)
    for event in events:
        version = orjson.loads(event.value() or b"")["version"]
        states[event.key(), event.partition() or 0].append(version)
    return states


def test_of_two_sources_of_one_study_the_first_ends_with_a_clear_line(
    environment: dict[str, str], topics: dict[str, str], study: str, tmp_path: Path
) -> None:
    """When a second source of a study starts, the first one ends with one clear line."""
    simulation = Simulation({study: build_study(study, 5, 100, 3)}, edits_per_second=50)
    with serving(simulation) as api:
        variables = (
            environment | topics | source_environment(api, study, tmp_path / "known") | FAST_EDITS
        )
        with running("source", variables, tmp_path / "first.log") as first:
            done = passes(first.log)
            wait_until(lambda: done() >= 1, 60, "a first pass")
            other = variables | {"SOURCE_STATE_DIR": str(tmp_path / "other")}
            with running("source", other, tmp_path / "second.log") as second:
                wait_until(lambda: first.poll() is not None, 30, "the first one's end")
                assert first.poll() == 1
                assert "Another source of this study has taken over" in first.log.read_text()
                after = passes(second.log)
                wait_until(lambda: after() >= 1, 60, "a pass of the second")
                assert second.stop() == 0
