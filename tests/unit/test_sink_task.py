import itertools
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest
import structlog

from connector.config import SinkSettings
from connector.errors import (
    BatchTooLargeError,
    FatalError,
    InvalidEventError,
    RetryableError,
    UnclassifiedError,
)
from connector.interfaces import (
    PartitionStart,
    PollResult,
    Position,
    ProbeResult,
    Span,
    TopicPartition,
)
from connector.model.events import Identity
from connector.model.graph import NodeChange
from connector.model.serde import encode
from connector.sink.checkpoints import Checkpoints, OpenedPartition, start_offset
from connector.sink.lane import Lane
from connector.sink.ports import SinkPorts
from connector.sink.sink_task import SinkTask
from connector.sink.writer_threads import FinishedStep, WriterThreads
from tests.builders import is_drained, record_row, upsert
from tests.fakes.clock import FakeClock
from tests.fakes.in_memory_graph import InMemoryGraph
from tests.fakes.in_memory_kafka import (
    TOPIC,
    InMemoryConsumer,
    InMemoryDeadLetterQueue,
    InMemoryTopic,
)
from tests.oracle import assert_equal, fold

P0 = TopicPartition(TOPIC, 0)


class Sink:
    """A sink task on fakes and real threads that runs until its topic is applied."""

    def __init__(
        self,
        topic: InMemoryTopic,
        owned: set[int] | None = None,
        sink: "Sink | None" = None,
        **limits: Any,
    ) -> None:
        self.topic = topic
        self.committed: dict[TopicPartition, Position] = sink.committed if sink else {}
        self.graph: InMemoryGraph = sink.graph if sink else InMemoryGraph()
        self.letters = InMemoryDeadLetterQueue()
        self.clock = FakeClock()
        self.consumer = InMemoryConsumer(topic, self.committed, owned)
        self.stop = threading.Event()
        self.settings = SinkSettings(**{"transaction_events_max": 10, **limits})
        ports = SinkPorts(
            self.consumer,
            self.graph,
            self.letters,
            self.clock,
            WriterThreads(self.settings.writers_max),
        )
        self.task = SinkTask(ports, self.settings)
        self.until: Callable[[], bool] = self.is_drained
        poll = self.consumer.poll

        def stop_when_drained(max_messages: int, timeout_seconds: float) -> PollResult:
            polled = poll(max_messages, timeout_seconds)
            if not polled.messages and not polled.ends and self.until():
                self.stop.set()
            return polled

        self.consumer.poll = stop_when_drained  # type: ignore[method-assign]

    def is_drained(self) -> bool:
        return is_drained(self.task)

    def run(self) -> None:
        self.task.run(self.stop)


def topic_of(count: int, partitions: int = 1) -> InMemoryTopic:
    topic = InMemoryTopic(partitions)
    for number in range(1, count + 1):
        topic.append_event(upsert(record_row(number, subjectId=number)), number)
    return topic


def test_an_offset_is_committed_only_after_the_graph_has_acknowledged() -> None:
    """An offset is committed only after the graph has acknowledged the write."""
    sink = Sink(topic_of(3))
    sink.graph.failures = [FatalError("the database is gone for good")]
    with pytest.raises(FatalError):
        sink.run()
    assert sink.committed == {}


def test_a_write_that_fails_is_repeated_while_the_member_stays_in_its_group() -> None:
    """A failed write is repeated while the member stays in its group."""
    sink = Sink(topic_of(25))
    sink.graph.failures = [RetryableError("down")] * 4
    sink.run()
    assert sink.committed == {P0: Position(25, 0)}
    assert sink.task.progress.retries == 4
    assert sink.letters.letters == []
    assert_equal(fold(sink.topic.messages()), sink.graph.state("S1"))


def test_log_events_about_a_batch_have_its_partition_and_offsets_as_context() -> None:
    """Log events about a batch have its partition and offsets as context, each thread its own."""
    sink = Sink(topic_of(25, partitions=2))
    contexts = []

    def note(_: Sequence[NodeChange]) -> None:
        contexts.append(structlog.contextvars.get_contextvars())

    sink.graph.before_write = note
    sink.run()
    written = {(each["partition"], each["offsets"]) for each in contexts}
    assert {number for number, _ in written} == {0, 1}
    for number in (0, 1):
        ends = sorted(
            tuple(map(int, offsets.strip("[)").split(", ")))
            for at, offsets in written
            if at == number
        )
        assert ends[0][0] == 0
        assert ends[-1][1] == sink.committed[TopicPartition(TOPIC, number)].offset
        assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(ends))
    assert structlog.contextvars.get_contextvars() == {}


def test_an_unclassified_error_is_retried_before_it_stops_the_sink() -> None:
    """An unclassified error stops the sink only at the tenth failure in a row."""
    sink = Sink(topic_of(3))
    sink.graph.failures = [UnclassifiedError("a code of a later version")] * 9
    sink.run()
    assert sink.committed == {P0: Position(3, 0)}
    sink = Sink(topic_of(3))
    sink.graph.failures = [UnclassifiedError("a code of a later version")] * 10
    with pytest.raises(FatalError, match="tried 10 times"):
        sink.run()
    assert (sink.committed, sink.letters.letters) == ({}, [])


def test_an_outage_does_not_count_towards_the_limit_of_unclassified_errors() -> None:
    """Failures of an outage do not count towards the limit of unclassified errors."""
    sink = Sink(topic_of(3))
    sink.graph.failures = [*[RetryableError("down")] * 20, UnclassifiedError("odd")]
    sink.run()
    assert sink.committed == {P0: Position(3, 0)}


@pytest.mark.parametrize("call", ["check_schema", "checkpoints", "set_checkpoint", "advance"])
def test_a_database_short_of_memory_does_not_end_the_sink_at_a_small_statement(call: str) -> None:
    """A database short of memory does not end the sink at a statement that cannot be halved."""
    topic = topic_of(3)
    topic.append(0, b"S1/record/9", b"not json")  # a batch that only moves the checkpoint
    sink = Sink(topic)
    works, failures = getattr(sink.graph, call), [BatchTooLargeError("memory")] * 3

    def failing(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return works(*arguments)

    setattr(sink.graph, call, failing)
    if call == "advance":
        sink.graph.failures = [InvalidEventError("refused", reason="TypeError")] * 4
    sink.run()
    assert sink.committed == {P0: Position(4, 0)}
    assert failures == []


def test_a_batch_that_was_probed_before_a_restore_does_not_move_the_older_checkpoint() -> None:
    """A batch that was probed before a restore does not move the restored checkpoint.

    The group rereads events that the graph has; in the middle of that, the graph is restored.
    """
    topic = topic_of(60)
    sink = Sink(topic, transaction_events_max=60)
    sink.run()
    backup = Sink(topic_of(30))
    backup.run()
    sink.committed.clear()
    again = Sink(topic, sink=sink, transaction_events_max=60)
    probe = again.graph.probe
    restored: list[bool] = []

    def restore(versions: Mapping[Identity, int]) -> ProbeResult:
        found = probe(versions)
        if not restored:
            restored.append(True)
            again.graph.restore(backup.graph.backup())
        return found

    again.graph.probe = restore  # type: ignore[method-assign]
    again.run()
    assert_equal(fold(topic.messages()), again.graph.state("S1"))
    assert again.graph.offsets == {"id/group/0": 60}


def test_an_outage_never_dead_letters_anything() -> None:
    """An outage never dead-letters anything."""
    sink = Sink(topic_of(3))
    sink.graph.failures = [RetryableError("down")] * 50
    sink.run()
    assert sink.letters.letters == []


def test_what_is_not_an_event_goes_to_the_dead_letter_queue_and_its_neighbours_to_the_graph() -> (
    None
):
    """A message that is not an event is dead-lettered, and its neighbours are applied."""
    topic = topic_of(2)
    bad = topic.append(0, b"S1/record/9", b"not json")
    topic.append_event(upsert(record_row(3)), 11)
    sink = Sink(topic)
    sink.run()
    assert [letter.message for letter in sink.letters.letters] == [bad]
    assert len([key for key in sink.graph.graph.nodes if key.label == "Record"]) == 3
    assert sink.committed[P0].offset == 4


def test_the_offset_does_not_pass_a_dead_letter_that_is_not_acknowledged() -> None:
    """The offset does not pass a dead letter that is not acknowledged."""
    topic = InMemoryTopic(1)
    topic.append(0, b"S1/record/9", b"not json")
    sink = Sink(topic)
    sink.letters.failures = [FatalError("no such topic")]
    with pytest.raises(FatalError):
        sink.run()
    assert sink.committed == {}


def test_one_event_that_the_database_refuses_is_isolated_by_halving() -> None:
    """An event that the database refuses is isolated by bisection."""
    sink = Sink(topic_of(8))
    refused = InvalidEventError("refused", reason="TypeError")

    def refuse_five(changes: Sequence[NodeChange]) -> None:
        if any(change.identity.id == 5 for change in changes):
            sink.graph.writes += 1
            raise refused

    sink.graph.before_write = refuse_five
    sink.run()
    assert [letter.message.key for letter in sink.letters.letters] == [b"S1/record/5"]
    assert sink.graph.writes <= 2 * 3 + 1 + 3
    assert len([key for key in sink.graph.graph.nodes if key.label == "Record"]) == 7


def test_a_batch_that_is_too_large_is_written_in_halves() -> None:
    """A batch that is too large is written in halves."""
    sink = Sink(topic_of(8))
    sink.graph.failures = [BatchTooLargeError("memory")]
    sink.run()
    assert_equal(fold(sink.topic.messages()), sink.graph.state("S1"))
    assert sink.letters.letters == []


def test_what_a_lost_partition_had_in_flight_is_not_committed_even_if_it_comes_back() -> None:
    """In-flight work of a lost partition is not committed, even if the partition comes back."""
    sink = Sink(topic_of(4))
    began, may_finish = threading.Event(), threading.Event()
    assigned = sink.task.assigned
    assignments = 0

    def slow(_: Sequence[NodeChange]) -> None:
        began.set()
        assert may_finish.wait(20)

    def probe(versions: Mapping[Identity, int]) -> ProbeResult:
        if assignments > 1:  # the new lane is stuck, so only the old one could commit
            raise RetryableError("down")
        return ProbeResult(set(), set(versions))

    def count(starts: Mapping[TopicPartition, PartitionStart]) -> None:
        nonlocal assignments
        assignments += 1
        assigned(starts)
        if assignments > 1:
            may_finish.set()

    sink.graph.before_write = slow
    sink.graph.probe = probe  # type: ignore[method-assign]
    sink.task.assigned = count  # type: ignore[method-assign]

    def step() -> bool:
        if began.is_set() and assignments == 1:
            sink.consumer.lose(0)
            sink.consumer.assign(0)
        return bool(sink.graph.graph.nodes) and sink.task.graph_outage.failures > 3

    sink.until = step
    sink.run()
    assert sink.graph.graph.nodes
    assert sink.committed == {}


def test_a_revoke_waits_for_what_is_being_written_and_commits_it() -> None:
    """A revoke waits for the write in flight and commits it."""
    sink = Sink(topic_of(4))
    began = threading.Event()

    def slow(_: Sequence[NodeChange]) -> None:
        began.set()
        time.sleep(0.05)

    sink.graph.before_write = slow
    sink.until = lambda: not sink.task._lanes and began.is_set()
    later(began.is_set, lambda: sink.consumer.revoke(0))
    sink.run()
    assert sink.committed == {P0: Position(4, 0)}


def test_a_revoke_does_not_wait_for_a_database_that_is_away() -> None:
    """A revoke does not wait for a database that is unavailable."""
    sink = Sink(topic_of(4))
    sink.graph.failures = [RetryableError("down")] * 10**6
    sink.until = lambda: not sink.task._lanes and sink.task.graph_outage.failures > 3
    later(lambda: sink.task.graph_outage.failures > 3, lambda: sink.consumer.revoke(0))
    sink.run()
    assert sink.committed == {}


def test_abandoning_a_step_with_its_partition_does_not_stop_the_sink() -> None:
    """A step that is abandoned with its lost partition does not stop the sink."""
    sink = Sink(topic_of(40, partitions=2))
    sink.graph.failures = [RetryableError("down")] * 10**6

    def lose_one() -> None:
        sink.consumer.lose(1)
        later(lambda: len(sink.task._lanes) == 1, sink.graph.failures.clear)

    later(lambda: sink.task.graph_outage.failures > 3, lose_one)
    sink.until = lambda: len(sink.task._lanes) == 1 and sink.is_drained()
    sink.run()
    assert sink.committed == {P0: Position(len(sink.topic.partitions[0]), 0)}


def test_a_lane_is_not_opened_within_a_rebalance_whose_poll_holds_messages_from_before() -> None:
    """A lane is not opened during a rebalance, whose poll may return older messages.

    These messages, or an end, would count as read after the seek and be committed.
    """
    sink = Sink(topic_of(4))
    task, lane = sink.task, Lane(P0, PartitionStart(4, 0, "id/group/0"), sink.task._limits)
    task._lanes[P0] = lane
    task._is_releasing = True
    task._handle(FinishedStep(lane, OpenedPartition(0, 0), None))
    task._accept(PollResult([], {P0: Position(4, None)}))
    assert (lane.is_open, lane.applied) == (False, None)
    task._is_releasing = False
    task._collect()
    assert (lane.is_open, sink.consumer.next[P0]) == (True, 0)


def later(holds: Callable[[], bool], act: Callable[[], None]) -> None:
    def wait() -> None:
        end = time.monotonic() + 20
        while not holds() and time.monotonic() < end:
            time.sleep(0.001)
        act()

    threading.Thread(target=wait, daemon=True).start()


def test_a_commit_that_fails_is_repeated_without_writing_again() -> None:
    """A failed commit is repeated without writing again."""
    sink = Sink(topic_of(4))
    sink.consumer.commit_failures = [RetryableError("coordinator")]
    sink.clock.advance(100)

    def committed() -> bool:
        sink.clock.advance(2)
        return bool(sink.committed)

    sink.until = committed
    sink.run()
    assert sink.committed[P0].offset == 4
    assert sink.graph.writes == 1


def test_a_commit_without_a_response_is_logged_and_repeated_while_events_are_applied() -> None:
    """A commit without a response is logged and repeated, while events are applied.

    At most one is unfinished for 30 s: a coordinator that is away would collect thousands.
    """
    sink = Sink(topic_of(4), commit_interval_seconds=0.2)
    sink.consumer.commits_to_ignore = 3
    seen: list[tuple[float, int, str]] = []

    def committed() -> bool:
        sink.clock.advance(1)
        seen.append((sink.clock.monotonic(), sink.consumer.commits_started, outage.reason))
        if len(seen) == 20:
            sink.topic.append_event(upsert(record_row(5)), 5)
        return bool(sink.committed) and sink.consumer.commits_started > 3

    outage = sink.task.broker_outage
    sink.until = committed
    sink.run()
    assert sink.committed[P0].offset == 5
    assert sink.graph.writes == 2
    started_at = [
        at for (_, before, _), (at, count, _) in itertools.pairwise(seen) if count > before
    ]
    assert all(later - at > 29 for at, later in itertools.pairwise(started_at))
    assert {reason for _, _, reason in seen} == {"", "no response to a commit for 30 s"}


def test_a_commit_that_can_never_succeed_stops_the_sink() -> None:
    """A commit that a retry cannot help stops the sink."""
    sink = Sink(topic_of(4))
    sink.consumer.commit_failures = [FatalError("no access to the group")]

    def never() -> bool:
        sink.clock.advance(1)
        return False

    sink.until = never
    with pytest.raises(FatalError, match="no access to the group"):
        sink.run()


def test_a_commit_that_a_rebalance_refuses_is_repeated() -> None:
    """A commit that a rebalance refuses is repeated."""
    sink = Sink(topic_of(4))
    sink.consumer.commits_to_refuse = 2

    def committed() -> bool:
        sink.clock.advance(2)
        return bool(sink.committed)

    sink.until = committed
    sink.run()
    assert sink.committed[P0].offset == 4


def test_no_more_batches_are_on_their_way_than_writers_can_write() -> None:
    """No more batches are decoded or in flight than there are writers."""
    sink = Sink(topic_of(600, partitions=6), writers_max=1)
    most = 0
    start = sink.task._start_batches

    def watched() -> None:
        nonlocal most
        start()
        lanes = sink.task._lanes.values()
        most = max(most, sum(each.is_writing for each in lanes))
        assert sum(each.has_pending_batch for each in lanes) <= 1

    sink.task._start_batches = watched  # type: ignore[method-assign]
    sink.run()
    assert most == 1
    assert_equal(fold(sink.topic.messages()), sink.graph.state("S1"))


def test_a_stop_during_an_outage_commits_nothing_that_is_not_applied() -> None:
    """A stop during an outage commits nothing that is not applied."""
    sink = Sink(topic_of(4))
    sink.graph.failures = [RetryableError("down")] * 10**6
    sink.until = lambda: sink.task.graph_outage.failures > 3
    sink.run()
    assert sink.committed == {}


def test_the_consumer_is_polled_all_along_an_outage_and_fetches_only_what_fits() -> None:
    """During an outage the consumer is still polled, and fetches only what fits the buffer."""
    sink = Sink(topic_of(3000), buffer_bytes_max=1_000_000)
    sink.graph.failures = [RetryableError("down")] * 10**6
    sink.until = lambda: sink.consumer.polls > 300
    sink.run()
    assert sink.consumer.paused == {P0}
    assert sink.consumer.next[P0] <= 2000  # at most one poll


def test_full_lanes_are_paused_and_resumed_until_all_is_applied() -> None:
    """Full lanes are paused and resumed until everything is applied."""
    sink = Sink(topic_of(5000, partitions=3), buffer_bytes_max=1_000_000)
    pauses: list[int] = []
    pause = sink.consumer.pause

    def count(partitions: Collection[TopicPartition]) -> None:
        pauses.append(len(partitions))
        pause(partitions)

    sink.consumer.pause = count  # type: ignore[method-assign]
    sink.run()
    assert pauses
    assert sum(at.offset for at in sink.committed.values()) == 5000


def test_lanes_are_written_side_by_side_and_each_in_order() -> None:
    """Lanes are written concurrently, and each of them in order."""
    topic = InMemoryTopic(3)
    for version in range(1, 31):
        for partition in range(3):
            event = upsert(record_row(partition + 1, recordStatus=f"v{version}"), version)
            topic.append(partition, *encode(event))
    sink = Sink(topic, transaction_events_max=5)
    order: dict[int, list[int]] = {1: [], 2: [], 3: []}
    together = threading.Barrier(3)

    def record(changes: Sequence[NodeChange]) -> None:
        if len(order[int(changes[0].identity.id)]) == 0:
            together.wait(20)  # opens only for three concurrent writers
        for change in changes:
            order[int(change.identity.id)].append(change.version)

    sink.graph.before_write = record
    sink.run()
    assert all(versions == sorted(versions) for versions in order.values())
    assert [versions[-1] for versions in order.values()] == [30, 30, 30]


def test_no_more_batches_are_written_at_once_than_there_are_writers() -> None:
    """No more batches are written at once than there are writers."""
    sink = Sink(topic_of(600, partitions=6), writers_max=2)
    now, most, lock = [0], [0], threading.Lock()

    def count(_: Sequence[NodeChange]) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1

    sink.graph.before_write = count
    sink.run()
    assert most == [2]


def test_a_probe_that_is_too_much_for_the_database_is_replaced_by_the_guarded_write() -> None:
    """If the probe is too large for the database, everything is written under the guard."""
    sink = Sink(topic_of(4))

    def too_much(versions: Mapping[Identity, int]) -> ProbeResult:
        raise BatchTooLargeError(f"memory, {len(versions)} rows")

    sink.graph.probe = too_much  # type: ignore[method-assign]
    sink.run()
    assert sink.committed[P0].offset == 4
    assert_equal(fold(sink.topic.messages()), sink.graph.state("S1"))


def test_while_full_batches_are_all_new_the_probe_is_skipped() -> None:
    """While full batches are all new, the probe is skipped.

    A first load, then 20 events that the graph has, then new ones again.
    """
    topic = topic_of(200)
    for number in range(101, 121):
        topic.append_event(upsert(record_row(number, subjectId=number)), number)
    for number in range(201, 301):
        topic.append_event(upsert(record_row(number, subjectId=number)), number)
    sink = Sink(topic)
    asked, probe = [], sink.graph.probe

    def count(versions: Mapping[Identity, int]) -> ProbeResult:
        asked.append(len(versions))
        return probe(versions)

    sink.graph.probe = count  # type: ignore[method-assign]
    sink.run()
    assert sink.committed[P0].offset == 320
    assert_equal(fold(topic.messages()), sink.graph.state("S1"))
    # Probed: the first batch; then, after the write of a batch that was not all new, the next
    # ones until one is all new again.
    assert 2 <= len(asked) <= 6, asked


def test_a_graph_that_was_emptied_under_the_sink_is_filled_again() -> None:
    """A graph that is emptied under a running sink is filled again.

    The checkpoint shows it at a partition's next batch or, if there is none, at the next check.
    """
    topic = topic_of(300, partitions=3)
    sink = Sink(topic)
    lost: list[int] = []
    ends = {f"id/group/{number}": len(log) for number, log in enumerate(topic.partitions)}

    def empty_once(_: Sequence[NodeChange]) -> None:
        if not lost and sink.graph.writes > 12:
            lost.append(len(sink.graph.graph.nodes))
            sink.graph.empty()

    def is_drained() -> bool:
        sink.clock.advance(30)  # until the next check is due
        return sink.is_drained() and sink.graph.offsets == ends

    sink.graph.before_write = empty_once
    sink.until = is_drained
    sink.run()
    assert lost
    assert_equal(fold(topic.messages()), sink.graph.state("S1"))
    assert sum(at.offset for at in sink.committed.values()) == 300


def test_a_graph_older_than_the_groups_offsets_is_filled_from_its_checkpoint() -> None:
    """A graph older than the group's offsets is filled from its checkpoint.

    It was restored from a backup while no sink ran: half of its events are already committed.
    """
    topic = topic_of(60)
    sink = Sink(topic)
    sink.run()
    backup = sink.graph.backup()
    for number in range(61, 121):
        topic.append_event(upsert(record_row(number, subjectId=number)), number)
    again = Sink(topic, sink=sink)
    again.run()
    assert again.task.progress.consumed == 60
    again.graph.restore(backup)
    last = Sink(topic, sink=again)
    last.run()
    assert last.task.progress.consumed == 60
    assert_equal(fold(topic.messages()), last.graph.state("S1"))


def test_nothing_is_written_while_a_constraint_is_missing_and_work_resumes_when_it_is_back() -> (
    None
):
    """While a constraint is missing nothing is written; work resumes when it is back."""
    topic = topic_of(40)
    sink = Sink(topic)
    written: list[bool] = []
    sink.graph.lacks_constraint = True
    sink.graph.before_write = lambda _: written.append(sink.graph.lacks_constraint)
    later(lambda: sink.task.graph_outage.failures > 3, lambda: mend(sink))
    sink.run()
    for number in range(41, 81):
        topic.append_event(upsert(record_row(number, subjectId=number)), number)
    again = Sink(topic, sink=sink)
    again.graph.before_write = lambda _: written.append(again.graph.lacks_constraint)
    broken: list[bool] = []

    def break_once() -> bool:
        if not broken and again.is_drained():
            broken.append(True)
            again.graph.lacks_constraint = True
            again.clock.advance(100)
            later(lambda: again.task._is_checking, lambda: feed(topic))
            later(lambda: again.task.graph_outage.failures > 3, lambda: mend(again))
        return again.is_drained() and len(topic.messages()) == 120

    again.until = break_once
    again.run()
    assert written
    assert not any(written)
    assert_equal(fold(topic.messages()), again.graph.state("S1"))


def mend(sink: Sink) -> None:
    sink.graph.lacks_constraint = False


def feed(topic: InMemoryTopic) -> None:
    for number in range(81, 121):
        topic.append_event(upsert(record_row(number, subjectId=number)), number)


def test_a_quiet_partitions_checkpoint_passes_the_ends_of_transactions_at_the_next_check() -> None:
    """A quiet partition's checkpoint passes the ends of transactions at the next check.

    Otherwise, if the topic is emptied up to its end, the graph seems to lack an event.
    """
    sink = Sink(topic_of(25))
    sink.consumer.control_records = 1

    def has_passed_the_end() -> bool:
        sink.clock.advance(30)
        return sink.is_drained() and sink.graph.offsets == {"id/group/0": 26}

    sink.until = has_passed_the_end
    later(lambda: sink.clock.monotonic() > 10_000, sink.stop.set)
    sink.run()
    assert sink.graph.offsets == {"id/group/0": 26}


def test_a_check_finds_what_the_graph_lost_and_moves_only_what_is_there() -> None:
    """A check reports checkpoints that are missing or too low, and advances the others."""
    graph = InMemoryGraph()
    graph.offsets = {"here": 5, "restored": 5}
    spans = [Span("here", 5, 6), Span("restored", 7, 8), Span("gone", 0, 1)]
    checked = Checkpoints(graph, accept_gap=False).check(spans)
    assert checked.stale == {"restored", "gone"}
    assert checked.advanced == {"here": 6}
    assert graph.offsets == {"here": 6, "restored": 5}


def test_a_gap_before_the_graphs_checkpoint_is_reported_and_skipped_only_on_request() -> None:
    """A gap between checkpoint and topic is reported, and skipped only on request."""
    start = PartitionStart(90, 50, "id/group/0")
    assert start_offset(start, 70, accept_gap=False) == 70
    assert start_offset(start, 95, accept_gap=False) == 90
    assert start_offset(start, None, accept_gap=False) == 50
    assert start_offset(start, 50, accept_gap=False) == 50
    with pytest.raises(FatalError, match=r"complete up to offset 49.*topic begins at 50"):
        start_offset(start, 49, accept_gap=False)
    assert start_offset(start, 49, accept_gap=True) == 50
    assert start_offset(start._replace(checkpoint=None), 49, accept_gap=False) == 90


def test_an_older_state_is_written_when_the_newest_of_its_batch_is_refused() -> None:
    """If the newest state of a batch is refused, the next older one is written."""
    topic = InMemoryTopic(1)
    for version in (1, 2, 3):
        topic.append_event(upsert(record_row(1, recordStatus=f"v{version}"), version))
    topic.append(0, b"S1/record/1", b"not json")
    sink = Sink(topic)

    def refuse_three(changes: Sequence[NodeChange]) -> None:
        if any(change.version == 3 for change in changes):
            raise InvalidEventError("refused", reason="TypeError")

    sink.graph.before_write = refuse_three
    sink.run()
    assert sorted(letter.message.offset for letter in sink.letters.letters) == [2, 3]
    (record,) = [node for key, node in sink.graph.graph.nodes.items() if key.label == "Record"]
    assert record["_version"] == 2
    assert sink.committed[P0].offset == 4


def test_a_sink_at_rest_notices_that_the_brokers_answer_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without messages, only the checks of the topic show the end of an outage."""
    task = Sink(InMemoryTopic()).task
    failures = [RetryableError("no broker"), RetryableError("no broker")]

    def check() -> None:
        if failures:
            raise failures.pop()

    monkeypatch.setattr(task._ports.consumer, "check_topic", check)
    seen = []
    for _ in range(3):
        task._check_topic()
        seen.append(task.broker_outage.is_ongoing)
    assert seen == [False, True, False]


def test_dead_letters_that_cannot_be_written_are_an_outage_of_kafka() -> None:
    """A queue that does not answer does not make the graph look down."""
    topic = InMemoryTopic()
    sink = Sink(topic)
    topic.append(0, b"not a key", b"{}")
    sink.letters.failures = [RetryableError("no broker"), RetryableError("no broker")]
    sink.run()
    assert sink.task.broker_outage.failures == 2
    assert sink.task.graph_outage.failures == 0
