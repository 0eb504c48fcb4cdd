"""Seeded schedules: live edits between any two requests, faults, kills, clocks that jump.

``SIMULATION_SEEDS`` says how many (``make simulation`` runs 100 000), ``SEED`` runs one alone.
"""

import os
from concurrent.futures import ProcessPoolExecutor

import pytest
import structlog

from tests.property.source_world import World

_SEEDS = int(os.environ.get("SIMULATION_SEEDS", "2000"))
_CHUNK = 25


def quiet() -> None:
    """Thousands of worlds fail on purpose, and would say so."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def failure(seed: int) -> str | None:
    world = World(seed)
    try:
        world.run()
        found = world.faults_found()
    except Exception as error:  # noqa: BLE001 - said with its seed
        found = [f"{type(error).__name__}: {error}"]
    return f"SEED={seed}: " + "; ".join(found[:5]) if found else None


def test_the_topics_fold_is_the_apis_state_and_each_state_is_published_once() -> None:
    seeds = [int(os.environ["SEED"])] if "SEED" in os.environ else range(_SEEDS)
    with ProcessPoolExecutor(initializer=quiet) as pool:
        failures = [each for each in pool.map(failure, seeds, chunksize=_CHUNK) if each]
    assert not failures, f"{len(failures)} of {len(seeds)} fail\n" + "\n".join(failures[:10])


def test_a_clock_that_is_far_off_moves_nothing() -> None:
    """Versions come from the server's clock: one wrong answer would poison entities for good."""
    world = World(1)
    world.is_calm = True
    world.faults.shares = {}
    world.server.jump(7200)
    for _ in range(5):
        world.step()
    assert world.topic.messages() == []
    assert world.task.progress.retries > 0


def test_a_source_of_a_study_that_another_one_has_taken_over_ends() -> None:
    world = World(1)
    world.is_calm = True
    world.faults.shares = {}
    world.step()
    old = world.task
    world.restart()
    world.step()
    with pytest.raises(Exception, match="taken over"):
        for _ in range(10):
            old.step()
