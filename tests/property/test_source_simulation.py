"""Seeded schedules of live edits between requests, faults, kills and clock jumps.

``SIMULATION_SEEDS`` sets their number (``make simulation``: 100 000); ``SEED`` runs a single one.
"""

import faulthandler
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from unittest.mock import patch

import orjson
import pytest
import structlog

from connector.interfaces import Page, PageRequest
from connector.lab.simulator.faults import Faults
from connector.lab.simulator.study import add_coding, api_date
from connector.model.cursor import Cursor
from connector.model.entities import ENTITIES
from connector.model.graph_state import differences
from connector.retry import Backoff
from connector.source import passes
from connector.source.ports import SourceOptions, SourcePorts
from connector.source.source_task import SourceTask
from connector.store.known_store import SqliteKnownStore
from tests.oracle import fold
from tests.property.source_world import KEY, PACE, World, api_state, copy_of, live

_SEEDS = int(os.environ.get("SIMULATION_SEEDS", "1000"))
_CHUNK = 25


def quiet() -> None:
    """Silence the log: thousands of worlds fail on purpose."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def _start_worker() -> None:
    """Prepare a worker process, which prints its stack to stderr if it crashes."""
    faulthandler.enable()
    quiet()


def failure(seed: int) -> str | None:
    world = World(seed)
    try:
        world.run()
        found = world.faults_found()
    except Exception as error:  # noqa: BLE001 - reported with its seed
        found = [f"{type(error).__name__}: {error}"]
    return f"SEED={seed}: " + "; ".join(found[:5]) if found else None


@pytest.mark.timeout(3600)  # two minutes on two cores if the machine does nothing else
def test_the_topics_fold_is_the_apis_state_and_each_state_is_published_once() -> None:
    """For every seed, the topic's fold equals the API and each state is published once."""
    seeds = [int(os.environ["SEED"])] if "SEED" in os.environ else range(_SEEDS)
    # New processes: a fork would inherit the Kafka clients of other tests without their threads.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=fresh, initializer=_start_worker) as pool:
        failures = [each for each in pool.map(failure, seeds, chunksize=_CHUNK) if each]
    assert not failures, f"{len(failures)} of {len(seeds)} fail\n" + "\n".join(failures[:10])


def test_a_clock_that_is_far_off_moves_nothing() -> None:
    """A server clock that is hours off publishes nothing.

    Versions come from the server's clock: one wrong answer would poison entities for good.
    """
    world = World(1)
    world.is_calm = True
    world.faults.shares = {}
    world.server.jump(7200)
    for _ in range(5):
        world.step()
    assert world.topic.messages() == []
    assert world.task.progress.retries > 0


def test_a_source_of_a_study_that_another_one_has_taken_over_ends() -> None:
    """A source ends when another one takes over its study."""
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


def test_a_pass_that_lists_nothing_is_no_sighting_of_what_is_missing() -> None:
    """A pass that lists nothing does not count as a miss.

    Otherwise one wrong answer and one real miss would delete a row.
    """
    world = World(1)
    world.run()
    table = world.study.table("records")
    lost = table.ids[3]

    def passes() -> int:
        return world.task._completed.by_track["record.full"]

    def until(count: int, fault: str | None) -> None:
        world.api.faults = Faults({fault: 1.0} if fault else {})
        for _ in range(3000):
            if passes() >= count:
                return
            world.step()
        pytest.fail("the source makes no progress")

    until(passes() + 1, "empty")
    table.remove(lost)
    until(passes() + 1, None)
    assert not deleted(world, lost)
    until(passes() + 1, None)
    assert deleted(world, lost)


def test_rows_that_become_unreadable_are_dead_lettered_and_not_deleted() -> None:
    """Rows that become unreadable are dead-lettered and still count as listed.

    If they counted as missing, the second sweep would delete them.
    """
    world = World(1)
    world.run()
    world.api.faults = Faults({"bad_utf8": 1.0})
    passes = world.task._completed.by_track["record.full"]
    for _ in range(3000):
        if world.task._completed.by_track["record.full"] >= passes + 4:
            break
        world.step()
    else:
        pytest.fail("the source makes no progress")
    assert {row.reason for row in world.log.invalid} == {"unparsable"}
    assert world.false_deletes == []
    world.api.faults = Faults({})
    assert world.faults_found() == []


@pytest.mark.parametrize(
    "oddity", ["row_repeated", "total_plus_one", "total_minus_one", "deep_row", "too_deep_row"]
)
def test_an_api_that_is_always_odd_in_one_way_is_read_to_the_end_of_every_kind(oddity: str) -> None:
    """An API that always contradicts itself in the same way is read to the end."""
    world = World(1)
    world.is_calm = True
    world.faults.shares = {oddity: 1.0}
    for _ in range(3000):
        if world.task.progress.passes >= 2:
            break
        world.step()
    else:
        pytest.fail("the source makes no progress")
    assert not list(differences(api_state(world.study), live(fold(world.topic.messages()))))


def test_a_pass_whose_commit_was_in_doubt_counts_as_completed() -> None:
    """A pass counts as completed although the acknowledgement of its last page was lost.

    It did not: until the next pass, which may be a day later, it looked as if it had not ended.
    """
    world = World(1)
    world.pace = replace(PACE, metadata_interval=10**9, list_interval=10**9, sweep_interval=10**9)
    world.restart()
    world.is_calm = True
    world.faults.shares = {}
    for publish in range(100):
        world.log.outcomes = ["unknown"] if publish % 2 else []
        world.step()
    assert world.task.progress.passes == 1


def test_an_api_that_announces_a_row_too_many_deletes_nothing_until_it_is_right_again() -> None:
    """While the API announces one row too many, nothing is deleted.

    It may just as well hide a row as announce one that does not exist.
    """
    world = World(1)
    world.run()
    table = world.study.table("records")
    lost = table.ids[3]
    world.api.faults = Faults({"total_plus_one": 1.0})
    table.remove(lost)
    passes = world.task._completed.by_track["record.full"]
    for _ in range(3000):
        if world.task._completed.by_track["record.full"] >= passes + 4:
            break
        world.step()
    else:
        pytest.fail("the source makes no progress")
    assert not deleted(world, lost)
    world.api.faults = Faults({})
    for _ in range(300):
        world.step()
    assert deleted(world, lost)


def test_rows_of_equal_sort_values_in_any_order_delete_nothing_that_is_there() -> None:
    """An API that reorders rows with equal sort values between pages causes no delete.

    It lists one row twice and another never, with right totals, and may do so in pass after pass.
    """
    world = World(1)
    world.run()
    world.api.shuffles_ties = lambda: True
    table = world.study.table("codings")
    for record in world.study.table("records").rows():
        add_coding(world.study, record, record["dateCreated"], "27.0")  # used by no other code
    assert len(table) > 3 * PACE.page_size

    def until(passes: int) -> None:
        for _ in range(5000):
            if world.task._completed.by_track["coding.full"] >= passes:
                return
            world.step()
        pytest.fail("the source makes no progress")

    until(world.task._completed.by_track["coding.full"] + 20)
    assert world.false_deletes == []
    world.api.shuffles_ties = lambda: False
    table.remove(table.ids[3])
    until(world.task._completed.by_track["coding.full"] + 4)
    assert world.faults_found() == []


@pytest.mark.parametrize("loses_cache", [False, True])
def test_a_changed_definition_reaches_every_record_it_affects(*, loses_cache: bool) -> None:
    """A changed definition republishes the records that it affects, even across a restart.

    The records have not changed, so no window finds them; and the next sweep is a year away.
    """
    world = World(1)
    world.run()
    world.pace = replace(PACE, sweep_interval=3e7)
    world.restart()
    table = world.study.table("variables")
    for variable in table.rows():
        kind = "TEXT" if variable["variableType"] == "NUMBER" else "NUMBER"
        table.put(variable | {"variableType": kind, "dateModified": now(world)})
    count = len(world.topic.messages())
    for _ in range(1000):
        world.step()
        if len(world.topic.messages()) > count:
            break
    if loses_cache:
        world.known = SqliteKnownStore(":memory:")
    world.restart()
    for _ in range(1500):
        world.step()
    found = [json.loads(each.value or b"") for each in world.topic.messages()[count:]]
    assert {"variable", "record"} <= {each["entity"] for each in found}
    assert world.faults_found() == []


@pytest.mark.parametrize("is_lost", [True, False])
def test_an_older_copy_of_the_cache_does_not_match_after_a_rebuild(*, is_lost: bool) -> None:
    """A copy that another machine, or a power cut, has left from before a rebuild is no match.

    It would claim that everything is delivered, although the topic has lost it. It would also let a
    pass continue although the rebuilt cache does not record which rows that pass has listed.
    """
    world = World(1)
    world.run()
    older = copy_of(world.known)
    keys = {each.key for each in world.topic.messages()}
    if is_lost:
        world.topic.recreate()
    world.task.sweep()
    world.task._must_reread_topic = True
    world.task._recover()
    assert not older.matches(Cursor.from_bytes(world.cursors[KEY]))
    world.restart(with_cache=older)
    for _ in range(3000):
        world.step()
    assert {each.key for each in world.topic.messages()} >= (keys if is_lost else set())
    assert world.faults_found() == []


def test_diverted_definitions_are_read_soon_after_the_cache_is_lost() -> None:
    """Definitions too large for the topic are forgotten with the cache, so they are read again.

    Otherwise records edited before the next daily pass would get the type of text.
    """
    world = World(1)
    world.run()
    world.pace = replace(PACE, metadata_interval=3e7, sweep_interval=3e7)
    table = world.study.table("variables")
    for variable in table.rows():
        table.put(variable | {"variableType": "NUMBER", "label": "x" * 3000})
    world.topic.event_bytes_max = 2500
    world.restart()
    world.task.sweep()
    for _ in range(1500):
        world.step()
    world.known = SqliteKnownStore(":memory:")
    world.restart()
    for _ in range(300):
        world.step()
    found = {each.type for each in world.known.definitions()}
    assert {each.lower() for each in found} == {"number"}


def test_a_delete_that_the_topic_loses_is_published_again() -> None:
    """A delete that the topic loses is published again.

    No row calls for it, and a sink may not have read it.
    """
    world = World(1)
    world.run()
    table = world.study.table("records")
    lost = table.ids[3]
    table.remove(lost)
    for _ in range(2):
        for _ in range(400):
            world.step()
        assert deleted(world, lost)
        at = next(
            message
            for message in world.topic.messages()
            if orjson.loads(message.value or b"")["op"] == "delete"
            and message.key == f"{KEY}/record/{lost}".encode()
        )
        world.topic.truncate(at.partition.partition, at.offset)
        assert not deleted(world, lost)
        world.task.sweep()
    for _ in range(400):
        world.step()
    assert deleted(world, lost)


def test_a_loss_that_was_noticed_is_known_to_the_next_source() -> None:
    """A loss that a source noticed is known to the next source.

    By then the topic may have grown to its old length and look intact.
    """
    world = World(1)
    world.run()
    partition = max(range(3), key=lambda each: len(world.topic.partitions[each]))
    world.topic.truncate(partition, len(world.topic.partitions[partition]) - 3)
    world.restart()
    world.task._recover()
    committed = Cursor.from_bytes(world.cursors[KEY])
    assert committed.topic == world.topic.mark()
    assert committed.version_floor > committed.newest_version
    assert committed.position("record.full").finished_ms is None


def test_a_row_that_is_edited_after_a_sweep_and_removed_is_deleted_by_the_next_two() -> None:
    """A row that is edited after a sweep and then removed is deleted by the next two sweeps.

    If the window's sighting counted for the next sweep, it would take a third.
    """
    world = World(1)
    world.run()
    table = world.study.table("records")
    known = world.known.lookup("record", table.ids)
    edited = next(each for each in table.ids if known[each].content_hash)

    def sweeps() -> int:
        return world.task._completed.by_track["record.full"]

    def until(holds: Callable[[], bool]) -> None:
        for _ in range(3000):
            if holds():
                return
            world.step()
        pytest.fail("the source makes no progress")

    count = sweeps()
    until(lambda: sweeps() > count)
    until(lambda: not (world.task._cursor or Cursor(study_key=KEY)).position("record.full").in_pass)
    row = orjson.loads(table.bodies[edited])
    table.put(row | {"recordStatus": "edited", "dateModified": now(world)})
    version = known[edited].version
    until(lambda: world.known.lookup("record", [edited])[edited].version > version)
    table.remove(edited)
    count = sweeps()
    until(lambda: sweeps() >= count + 2)
    assert deleted(world, edited)


def test_rows_without_a_date_are_published_and_counted() -> None:
    """Rows without a date are published and counted, not dead-lettered."""
    world = World(1)
    world.is_calm = True
    world.faults.shares = {"null_date": 1.0}
    for _ in range(20):
        world.step()
    assert world.log.invalid == []
    assert world.task.progress.undated > 0


def now(world: World) -> str:
    """The API's clock, as its rows have it."""
    return api_date(datetime.fromtimestamp(world.server.now_ms() / 1000, UTC))


def deleted(world: World, record_id: int) -> bool:
    found = (orjson.loads(message.value or b"") for message in world.topic.messages())
    return any(
        event["op"] == "delete" and (event["entity"], event["id"]) == ("record", record_id)
        for event in found
    )


def test_an_api_slower_than_one_step_still_completes_every_kind() -> None:
    """An API that is slower than one step still completes every kind.

    On real threads: each answer takes longer than `take` waits, and two tracks are due.
    """
    world = World(2)
    world.is_calm = True
    world.faults.shares = {}
    read = world.api.read

    class Slow:
        requests = 0

        def read(self, request: PageRequest) -> Page:
            self.requests += 1
            time.sleep(0.15)
            return read(request)

    slow = Slow()
    ports = SourcePorts(slow, world.log, world.known, world.local)
    with patch.object(passes, "_WAIT_SECONDS", 0.02):
        task = SourceTask(KEY, ports, world.pace, SourceOptions(0.5, lambda: Backoff(1.0)))
        end = time.monotonic() + 60
        while task.progress.passes < 2 and time.monotonic() < end:
            world.tick(task.step() or 0.05)
        task._passes.close_all()
    assert task.progress.passes >= 2
    pages = sum(
        -(-len(world.study.table(e.resource).ids) // 12) for e in ENTITIES.values() if e.resource
    )
    assert slow.requests < 20 * pages
