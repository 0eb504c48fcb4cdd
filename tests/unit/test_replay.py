import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector.config import SinkSettings
from connector.errors import FatalError, RetryableError
from connector.interfaces import CommitResult, Position, Range, TopicPartition
from connector.replay.replay import RangedConsumer, ReplayPlan, TopicPosition, resolve
from connector.sink.ports import SinkPorts
from connector.sink.sink_task import SinkTask
from connector.sink.writer_threads import WriterThreads
from tests.builders import record_row, upsert
from tests.fakes.clock import FakeClock
from tests.fakes.in_memory_graph import InMemoryGraph
from tests.fakes.in_memory_kafka import (
    TOPIC,
    InMemoryConsumer,
    InMemoryDeadLetterQueue,
    InMemoryTopic,
)

NOW = datetime(2026, 2, 1, tzinfo=UTC)
RECENT = round((NOW - timedelta(hours=1)).timestamp() * 1000)
BOUNDS = {0: Range(10, 100), 1: Range(0, 50)}


def plan(start: str, end: str = "end", study: str | None = None) -> ReplayPlan:
    places = [
        resolve(TopicPosition.parse(text, NOW), BOUNDS, lambda at: {0: 40} if at < RECENT else {})
        for text in (start, end)
    ]
    return ReplayPlan.between(places[0], places[1], BOUNDS, study)


@pytest.mark.parametrize(
    ("start", "end", "ranges"),
    [
        ("beginning", "end", {0: (10, 100), 1: (0, 50)}),
        ("beginning", "2026-01-31T08:00:00Z", {0: (10, 40), 1: (0, 50)}),
        ("2026-01-31T08:00:00+02:00", "end", {0: (40, 100), 1: (50, 50)}),
        ("2h", "end", {0: (40, 100), 1: (50, 50)}),
        ("30m", "end", {0: (100, 100), 1: (50, 50)}),
        ("99999d", "end", {0: (40, 100), 1: (50, 50)}),
        ("0:20", "end", {0: (20, 100), 1: (50, 50)}),
        ("beginning", "0:30", {0: (10, 30), 1: (0, 50)}),
        ("0:20,1:7", "0:10,1:9", {0: (20, 20), 1: (7, 9)}),
    ],
)
def test_a_plan_is_a_range_of_each_partition(
    start: str, end: str, ranges: dict[int, tuple[int, int]]
) -> None:
    """A plan is one range of offsets for each partition."""
    assert plan(start, end).ranges == ranges


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yesterday", "not a point in the topic"),
        ("2026-01-31T08:00:00", "a time with its zone"),
        ("999999d", "not a point in the topic"),
        ("7:1", "no partition 7"),
        ("0:9", "has offsets 10 to 100"),
        ("0:101", "has offsets 10 to 100"),
    ],
)
def test_a_position_outside_the_topic_is_refused_with_the_valid_range(
    text: str, message: str
) -> None:
    """A start or end outside the topic is refused with the valid values."""
    with pytest.raises(FatalError, match=message):
        plan(text)


def test_a_plan_is_read_back_from_its_notes() -> None:
    """A plan is read back from its notes."""
    made = plan("0:20", study="S/1")
    assert ReplayPlan.from_notes({each: made.note(each) for each in BOUNDS}) == made


@pytest.mark.parametrize("notes", [{}, {0: ""}, {0: "x"}, {0: '{"from":1}'}, {0: "[]"}])
def test_notes_without_a_plan_are_reported_as_no_replay(notes: dict[int, str]) -> None:
    """Notes that hold no plan are reported as no replay."""
    with pytest.raises(FatalError, match="No replay of this name"):
        ReplayPlan.from_notes(notes)


class Replay:
    """A replay on fakes that runs until its group has finished."""

    def __init__(self, topic: InMemoryTopic, planned: ReplayPlan, **settings: Any) -> None:
        self.committed = {
            TopicPartition(TOPIC, each): Position(at.start, 0)
            for each, at in planned.ranges.items()
        }
        self.graph, self.letters, self.clock = (
            InMemoryGraph(),
            InMemoryDeadLetterQueue(),
            FakeClock(),
        )
        self.stop = threading.Event()
        self.inner = InMemoryConsumer(topic, self.committed)
        self.consumer = RangedConsumer(self.inner, planned, self.offsets, self.stop, self.clock)
        ports = SinkPorts(self.consumer, self.graph, self.letters, self.clock, WriterThreads(2))
        self.task = SinkTask(ports, SinkSettings(**settings))

    def offsets(self) -> dict[int, int]:
        return {each.partition: at.offset for each, at in self.committed.items()}

    def run(self) -> None:
        ticking = threading.Event()

        def tick() -> None:
            while not ticking.wait(0.001):
                self.clock.advance(1)

        threading.Thread(target=tick, daemon=True).start()
        try:
            self.task.run(self.stop)
        finally:
            ticking.set()


def test_a_failed_check_of_the_group_loses_no_result_of_a_commit() -> None:
    """A failed check of the group loses no result of a commit.

    The next commit would wait for it.
    """
    clock, result = FakeClock(), CommitResult({TopicPartition(TOPIC, 0): 3})

    def offsets() -> dict[int, int]:
        raise RetryableError("the coordinator is not known")

    inner = InMemoryConsumer(topic_of(0), {})
    consumer = RangedConsumer(inner, plan("beginning"), offsets, threading.Event(), clock)
    inner.results = [result]
    clock.advance(100)
    with pytest.raises(RetryableError):
        consumer.poll(10, 0)
    assert consumer.poll(10, 0).commits == [result]
    assert consumer.poll(10, 0).commits == []


def topic_of(count: int) -> InMemoryTopic:
    topic = InMemoryTopic(2)
    for number in range(1, count + 1):
        topic.append_event(upsert(record_row(number, studyKey=f"S{number % 2}")), number)
    return topic


def test_a_replay_applies_its_ranges_and_ends_at_their_ends() -> None:
    """A replay applies its ranges and ends at their ends."""
    topic = topic_of(400)
    sizes = [len(log) for log in topic.partitions]
    planned = ReplayPlan({0: Range(5, 60), 1: Range(sizes[1], sizes[1])})
    replay = Replay(topic, planned, transaction_events_max=7)
    replay.run()
    assert replay.task.progress.consumed == 55
    assert replay.offsets() == {0: 60, 1: sizes[1]}


def test_a_replay_of_one_study_leaves_the_others() -> None:
    """A replay of one study skips the events of all others."""
    topic = topic_of(100)
    planned = ReplayPlan(
        {each: Range(0, len(log)) for each, log in enumerate(topic.partitions)}, "S1"
    )
    replay = Replay(topic, planned)
    replay.run()
    assert replay.task.progress.consumed == 50
    assert not replay.graph.state("S0").nodes
    assert replay.offsets() == {each: at.end for each, at in planned.ranges.items()}


def test_messages_past_the_end_stay_unread_when_full_lanes_resume() -> None:
    """Messages past the end of a range stay unread when full lanes resume."""
    topic = topic_of(3000)
    planned = ReplayPlan({each: Range(0, 1000) for each in (0, 1)})
    replay = Replay(topic, planned, buffer_bytes_max=1_000_000)
    replay.run()
    assert replay.task.progress.consumed == 2000
    assert replay.offsets() == {0: 1000, 1: 1000}


def test_a_partition_added_after_the_plan_is_not_replayed() -> None:
    """A partition that was added after the plan was made is not replayed."""
    topic = topic_of(100)
    planned = ReplayPlan({0: Range(0, len(topic.partitions[0]))})
    notes = {0: planned.note(0), 1: ""}
    replay = Replay(topic, ReplayPlan.from_notes(notes))
    replay.run()
    assert replay.task.progress.consumed == len(topic.partitions[0])


def test_messages_before_the_start_are_not_replayed_once_the_offsets_are_gone() -> None:
    """A worker that finds no committed offsets replays nothing before the start."""
    topic = topic_of(100)
    replay = Replay(topic, ReplayPlan({each: Range(10, 20) for each in (0, 1)}))
    replay.committed.clear()
    replay.run()
    assert replay.task.progress.consumed == 20


def test_a_worker_remembers_that_the_group_finished_once_the_offsets_are_gone() -> None:
    """A worker remembers that its group has finished, even if the offsets are gone."""
    replay = Replay(topic_of(100), ReplayPlan({each: Range(0, 10) for each in (0, 1)}))
    replay.run()
    assert replay.consumer.is_done


def test_a_worker_that_is_done_waits_for_the_rest_of_the_group() -> None:
    """A worker that has finished waits for the rest of its group."""
    topic = topic_of(100)
    planned = ReplayPlan({each: Range(0, 10) for each in (0, 1)})
    replay = Replay(topic, planned)
    replay.inner._first = {TopicPartition(TOPIC, 0)}
    threading.Timer(
        0.3, lambda: replay.committed.update({TopicPartition(TOPIC, 1): Position(10, 0)})
    ).start()
    replay.run()
    assert replay.task.progress.consumed == 10
    assert replay.offsets() == {0: 10, 1: 10}
