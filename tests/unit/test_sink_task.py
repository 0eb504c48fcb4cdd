import threading
from collections.abc import Mapping, Sequence

import pytest

from connector.errors import BatchTooLargeError, FatalError, InvalidEventError, RetryableError
from connector.events import Identity
from connector.graph import NodeChange
from connector.interfaces import Polled, Position, TopicPartition
from connector.retry import Backoff
from connector.sink.sink_task import SinkPorts, SinkTask
from tests.builders import record_row, upsert
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
    """A sink task on fakes, run until it has read its topic to the end."""

    def __init__(self, topic: InMemoryTopic, owned: set[int] | None = None) -> None:
        self.topic = topic
        self.committed: dict[TopicPartition, Position] = {}
        self.graph = InMemoryGraph()
        self.letters = InMemoryDeadLetterQueue()
        self.clock = FakeClock()
        self.consumer = InMemoryConsumer(topic, self.committed, owned)
        self.stop = threading.Event()
        ports = SinkPorts(self.consumer, self.graph, self.letters, self.clock)
        self.task = SinkTask(ports, batch_events_max=10, backoff=Backoff(1.0))
        self.consumer.wait_paused = self._wait  # type: ignore[method-assign]
        poll = self.consumer.poll

        def stop_at_end(max_messages: int, timeout_seconds: float) -> Polled:
            polled = poll(max_messages, timeout_seconds)
            if not polled.messages and not polled.ends:
                self.stop.set()
            return polled

        self.consumer.poll = stop_at_end  # type: ignore[method-assign]

    def _wait(self, seconds: float) -> None:
        self.consumer.waits += 1
        self.clock.advance(seconds)

    def run(self) -> None:
        self.task.run(self.stop)


def topic_of(count: int, partitions: int = 1) -> InMemoryTopic:
    topic = InMemoryTopic(partitions)
    for number in range(1, count + 1):
        topic.append_event(upsert(record_row(number)), 11)
    return topic


def test_an_offset_is_committed_only_after_the_graph_has_acknowledged() -> None:
    sink = Sink(topic_of(3))
    sink.graph.failures = [FatalError("the database is gone for good")]
    with pytest.raises(FatalError):
        sink.run()
    assert sink.committed == {}


def test_a_write_that_fails_is_repeated_while_the_member_stays_in_its_group() -> None:
    sink = Sink(topic_of(25))
    sink.graph.failures = [RetryableError("down")] * 4
    sink.run()
    assert sink.committed == {P0: Position(25, 0)}
    assert sink.consumer.waits >= 4
    assert sink.letters.letters == []
    assert_equal(fold(sink.topic.messages()), sink.graph.state("S1"))


def test_an_outage_never_dead_letters_anything() -> None:
    sink = Sink(topic_of(3))
    sink.graph.failures = [RetryableError("down")] * 50
    sink.run()
    assert sink.letters.letters == []


def test_what_is_not_an_event_goes_to_the_dead_letter_queue_and_its_neighbours_to_the_graph() -> (
    None
):
    topic = topic_of(2)
    bad = topic.append(0, b"S1/record/9", b"not json")
    topic.append_event(upsert(record_row(3)), 11)
    sink = Sink(topic)
    sink.run()
    assert [letter.message for letter in sink.letters.letters] == [bad]
    assert len([key for key in sink.graph.graph.nodes if key.label == "Record"]) == 3
    assert sink.committed[P0].offset == 4


def test_the_offset_does_not_pass_a_dead_letter_that_is_not_acknowledged() -> None:
    topic = InMemoryTopic(1)
    topic.append(0, b"S1/record/9", b"not json")
    sink = Sink(topic)
    sink.letters.failures = [FatalError("no such topic")]
    with pytest.raises(FatalError):
        sink.run()
    assert sink.committed == {}


def test_one_event_that_the_database_refuses_is_isolated_by_halving() -> None:
    sink = Sink(topic_of(8))
    refused = InvalidEventError("refused", reason="TypeError")
    write = sink.graph.write

    def refuse_five(changes: Sequence[NodeChange]) -> None:
        if any(change.identity.id == 5 for change in changes):
            sink.graph.writes += 1
            raise refused
        write(changes)

    sink.graph.write = refuse_five  # type: ignore[method-assign]
    sink.run()
    assert [letter.message.key for letter in sink.letters.letters] == [b"S1/record/5"]
    assert sink.graph.writes <= 2 * 3 + 1 + 3
    assert len([key for key in sink.graph.graph.nodes if key.label == "Record"]) == 7


def test_a_batch_that_is_too_large_is_written_in_halves() -> None:
    sink = Sink(topic_of(8))
    sink.graph.failures = [BatchTooLargeError("memory")]
    sink.run()
    assert_equal(fold(sink.topic.messages()), sink.graph.state("S1"))
    assert sink.letters.letters == []


def test_a_partition_lost_while_waiting_is_neither_written_nor_committed_again() -> None:
    sink = Sink(topic_of(4, partitions=1))
    sink.graph.failures = [RetryableError("down")]
    wait = sink.consumer.wait_paused

    def lose(seconds: float) -> None:
        wait(seconds)
        sink.consumer.revoke(0)

    sink.consumer.wait_paused = lose  # type: ignore[method-assign]
    sink.run()
    assert sink.committed == {}
    assert sink.graph.graph.nodes == {}


def test_a_commit_that_fails_is_repeated_without_writing_again() -> None:
    sink = Sink(topic_of(4))
    sink.consumer.commit_failures = [RetryableError("coordinator")]
    sink.run()
    assert sink.committed[P0].offset == 4
    assert sink.graph.writes == 1


def test_a_stop_during_an_outage_commits_nothing_that_is_not_applied() -> None:
    sink = Sink(topic_of(4))
    sink.graph.failures = [RetryableError("down")] * 1000

    def stop(seconds: float) -> None:
        sink.clock.advance(seconds)
        sink.stop.set()

    sink.consumer.wait_paused = stop  # type: ignore[method-assign]
    sink.run()
    assert sink.committed == {}


def test_a_probe_that_is_too_much_for_the_database_is_replaced_by_the_guarded_write() -> None:
    sink = Sink(topic_of(4))

    def too_much(versions: Mapping[Identity, int]) -> set[Identity]:
        raise BatchTooLargeError(f"memory, {len(versions)} rows")

    sink.graph.newer = too_much  # type: ignore[method-assign]
    sink.run()
    assert sink.committed[P0].offset == 4
    assert_equal(fold(sink.topic.messages()), sink.graph.state("S1"))


def test_an_older_state_is_written_when_the_newest_of_its_batch_is_refused() -> None:
    topic = InMemoryTopic(1)
    for version in (1, 2, 3):
        topic.append_event(upsert(record_row(1, recordStatus=f"v{version}"), version))
    topic.append(0, b"S1/record/1", b"not json")
    sink = Sink(topic)
    write = sink.graph.write

    def refuse_three(changes: Sequence[NodeChange]) -> None:
        if any(change.version == 3 for change in changes):
            raise InvalidEventError("refused", reason="TypeError")
        write(changes)

    sink.graph.write = refuse_three  # type: ignore[method-assign]
    sink.run()
    assert sorted(letter.message.offset for letter in sink.letters.letters) == [2, 3]
    (record,) = [node for key, node in sink.graph.graph.nodes.items() if key.label == "Record"]
    assert record["_version"] == 2
    assert sink.committed[P0].offset == 4
