"""Seeded schedules: live edits between any two requests, restarts, lost acknowledgements.

A failing seed is in the test's name; run it alone with -k.
"""

import random
from datetime import UTC, datetime
from itertools import pairwise

import orjson
import pytest

from connector.demo.expected_graph import add_row
from connector.demo.simulator.study import Study, build_study
from connector.demo.simulator.workload import Workload
from connector.entities import ENTITIES
from connector.errors import RetryableError
from connector.graph_state import GraphState, differences
from connector.retry import Backoff
from connector.source.known_store import SqliteKnownStore
from connector.source.source_task import SourcePorts, SourceTask
from connector.source.window import Pace
from tests.fakes.clock import FakeClock
from tests.fakes.in_memory_kafka import InMemoryEventLog, InMemoryTopic
from tests.fakes.simulated_api import SimulatedApi
from tests.oracle import fold

PACE = Pace(poll_interval=5, list_interval=20, sweep_interval=60, overlap=3, page_size=7)
# Sweeps heal what windows lose, and an overlap hides where they begin: every second seed has
# neither, and no hard deletions, which only sweeps can see.
WINDOWS_ONLY = Pace(poll_interval=5, list_interval=20, sweep_interval=1e8, overlap=0, page_size=7)
KEY = "SIM"


class World:
    """A small study, a source on fakes, and chance."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.pace = PACE if seed % 2 else WINDOWS_ONLY
        self.study: Study = build_study(KEY, 6, 40, seed)
        self.server = FakeClock(int(datetime(2024, 6, 1, tzinfo=UTC).timestamp() * 1000))
        skew = self.rng.choice([-600_000, 0, 600_000])
        self.local = FakeClock(self.server.now_ms() + skew)
        self.api = SimulatedApi(self.study, self.server)
        self.workload = Workload(self.study, lambda: self.server.now_ms() / 1000)
        if self.pace is WINDOWS_ONLY:
            self.workload.hard_delete = lambda: None  # type: ignore[method-assign]
        self.topic, self.cursors = InMemoryTopic(), dict[str, bytes]()
        self.known = SqliteKnownStore(":memory:")
        self.restart()

    def restart(self) -> None:
        self.log = InMemoryEventLog(self.topic, KEY, self.cursors)
        if self.rng.random() < 0.3:
            self.known = SqliteKnownStore(":memory:")  # the cache is lost too
        ports = SourcePorts(self.api, self.log, self.known, self.local)
        self.task = SourceTask(KEY, ports, self.pace, max_delete_ratio=0.5, backoff=Backoff(1.0))

    def step(self, *, calm: bool = False) -> None:
        if not calm:
            for _ in range(self.rng.choice([0, 0, 1, 3])):
                self.workload.step()
            self.log.outcomes = [self.rng.choice(["ok"] * 8 + ["lost", "unknown"])]
            if self.rng.random() < 0.03:
                self.restart()
        self.tick(self.rng.choice([0.1, 0.4, 1.0]))
        try:
            self.tick(self.task.step())
        except RetryableError:
            self.tick(0.5)

    def tick(self, seconds: float) -> None:
        self.server.advance(seconds)
        self.local.advance(seconds)

    def settle(self) -> None:
        """No more edits; every track completes enough passes to see all, deletions included."""
        self.workload.flush()
        self.log.outcomes = []
        wanted = self._passes() + 4
        for _ in range(5000):
            if self._passes() >= wanted:
                return
            self.step(calm=True)
        pytest.fail("the source does not get on")

    def _passes(self) -> int:
        swept = {"study.full", "site.full", "record.full"}
        counted = self.task._passes.items()
        return min(
            count
            for name, count in counted
            if self.pace is PACE or name == "study.full" or name not in swept
        )


def api_state(study: Study) -> GraphState:
    state = GraphState()
    add_row(state, "study", study.row)
    for entity in list(ENTITIES.values())[1:]:
        for row in study.table(entity.resource).rows():
            add_row(state, entity.name, row)
    return state


def live(state: GraphState) -> GraphState:
    return GraphState(
        {
            key: {name: value for name, value in node.items() if not name.startswith("_")}
            for key, node in state.nodes.items()
            if node.keys() - {"study_key", "record_id", "_version", "deleted"}
        },
        state.relationships,
    )


@pytest.mark.parametrize("seed", range(60))
def test_the_topics_fold_is_the_apis_state_and_each_state_is_published_once(seed: int) -> None:
    world = World(seed)
    for _ in range(150):
        world.step()
    world.settle()
    messages = world.topic.messages()
    found = list(differences(api_state(world.study), live(fold(messages))))
    assert not found, f"SEED={seed}: " + "; ".join(found[:5])
    states: dict[bytes, list[tuple[int, str]]] = {}
    for message in messages:
        event = orjson.loads(message.value or b"")
        states.setdefault(message.key or b"", []).append((event["version"], event["contentHash"]))
    for history in states.values():
        ordered = sorted(history, key=lambda state: state[0])
        versions = [version for version, _ in ordered]
        assert len(set(versions)) == len(versions), f"SEED={seed}: a version twice"
        assert all(one[1] != next_[1] for one, next_ in pairwise(ordered)), f"SEED={seed}: repeated"


def test_a_clock_that_is_far_off_moves_nothing() -> None:
    """Versions come from the server's clock: one wrong answer would poison entities for good."""
    world = World(1)
    world.server.advance(7200)
    with pytest.raises(RetryableError, match="clock"):
        world.task.step()
    assert world.topic.messages() == []
