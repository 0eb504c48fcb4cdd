"""Tests of when the sink polls, and of which partitions it pauses."""

import random
from typing import Any, cast

import pytest

from connector.interfaces import PartitionStart, Position, TopicPartition
from connector.model.events import Identity
from connector.sink.back_pressure import BackPressure
from connector.sink.batch import Batch
from connector.sink.lane import Lane, LaneLimits, message_bytes
from connector.sink.polling import Polling
from connector.sink.states import State
from tests import builders
from tests.fakes.clock import FakeClock
from tests.fakes.in_memory_kafka import InMemoryConsumer, InMemoryTopic

LIMITS = LaneLimits(
    transaction_events_max=10, batch_events_max=10, batch_bytes_max=10**9, linger_seconds=0.0
)


def unsubscribed() -> InMemoryConsumer:
    """Return a consumer whose polls bring nothing."""
    return InMemoryConsumer(InMemoryTopic(3), {})


def lane(number: int) -> Lane:
    created = Lane(TopicPartition("t", number), PartitionStart(0, 0, None), LIMITS)
    created.open(0)
    return created


def state(partition: int = 0, offset: int = 0) -> State:
    at = TopicPartition("t", partition)
    message = builders.message(at, offset, b"k", b"v" * 1000)
    return State(Identity("S1", "record", 1), 1, message)


def add(to: Lane, count: int) -> None:
    to.add([state(to.partition.partition, offset) for offset in range(count)], 0.0)


def apply_batch(to: Lane) -> None:
    """Apply the lane's next batch, as one that changes the graph."""
    arrivals = to.start_preparing(0.0) or []
    to.finish_preparing(Batch(arrivals, [cast("Any", None)] * len(arrivals), [], set()))
    to.start_writing()
    to.finish_writing()


def test_messages_that_no_lane_needs_stay_in_the_client() -> None:
    """While every lane has a batch in flight and its next one full, polls are half a second apart.

    A poll would add messages until the partitions must be paused, and a pause drops what the client
    has prefetched.
    """
    clock, consumer = FakeClock(), unsubscribed()
    size = message_bytes(state())
    polling = Polling(consumer, BackPressure(consumer, 100 * size), clock, 0.0)
    lanes = [lane(0), lane(1)]
    for each in lanes:
        add(each, 20)
        each.start_preparing(0.0)

    def polls(seconds: float) -> int:
        before = consumer.polls
        for _ in range(int(seconds * 50)):
            polling.poll(lanes, is_checking=False)
            clock.advance(0.02)
        return consumer.polls - before

    assert 9 <= polls(5.0) <= 11
    waiting = lane(3)
    lanes.append(waiting)
    add(waiting, 20)  # it needs a writer, but no message
    assert polls(1.0) <= 3
    short = lane(2)
    lanes.append(short)  # it is idle
    assert polls(1.0) == 50
    short.reached_end(Position(0, None))
    assert polls(1.0) == 50  # its messages may be behind those of the others
    add(waiting, 20)  # which fill half of the buffer now
    assert polls(1.0) <= 3
    short.add([], 0.0)  # no longer at its end
    assert polls(1.0) == 50
    add(short, 12)
    short.start_preparing(0.0)  # two more messages wait, fewer than a batch
    assert polls(1.0) == 50
    add(short, 8)
    assert polls(1.0) <= 3


def test_partitions_are_paused_only_once_all_together_have_used_up_the_buffer() -> None:
    """One partition may use what others leave free; then those with more than their share pause."""
    consumer = unsubscribed()
    back_pressure = BackPressure(consumer, 60 * message_bytes(state()))
    ahead, even, behind = lanes = [lane(0), lane(1), lane(2)]
    add(ahead, 50)
    back_pressure.apply(lanes)
    assert not consumer.paused
    add(even, 20)
    add(behind, 19)
    back_pressure.apply(lanes)
    assert consumer.paused == {ahead.partition, even.partition}
    while ahead.waiting_bytes > 20 * message_bytes(state()):
        apply_batch(ahead)
    back_pressure.apply(lanes)
    assert consumer.paused == {ahead.partition, even.partition}
    apply_batch(ahead)
    back_pressure.apply(lanes)
    assert consumer.paused == {even.partition}


@pytest.mark.parametrize("partitions", [1, 6, 50])
@pytest.mark.parametrize("seed", range(4))
def test_waiting_messages_never_take_more_than_twice_the_buffer(partitions: int, seed: int) -> None:
    """Nor do they if the database is down while one partition after the other has a burst."""
    chosen = random.Random(seed)
    size = message_bytes(state())
    consumer = unsubscribed()
    buffer_bytes = 1000 * size
    back_pressure = BackPressure(consumer, buffer_bytes)
    lanes = [lane(number) for number in range(partitions)]
    peak = 0
    for _ in range(500):
        receiving = [each for each in lanes if each.partition not in consumer.paused]
        if receiving:
            messages_max = back_pressure.poll_messages_max(lanes)
            add(chosen.choice(receiving), min(messages_max, chosen.choice([1, 300, 2000])))
        peak = max(peak, sum(each.waiting_bytes for each in lanes))
        back_pressure.apply(lanes)
    assert buffer_bytes <= peak <= 2 * buffer_bytes


def test_partitions_that_were_all_paused_are_resumed_once_the_buffer_has_drained() -> None:
    """All partitions are paused at twice the buffer; those with little resume first."""
    consumer = unsubscribed()
    back_pressure = BackPressure(consumer, 60 * message_bytes(state()))
    ahead, behind = lanes = [lane(0), lane(1)]
    add(ahead, 110)
    add(behind, 10)
    back_pressure.apply(lanes)
    assert consumer.paused == {ahead.partition, behind.partition}
    for _ in range(3):
        apply_batch(ahead)
        back_pressure.apply(lanes)
        assert consumer.paused == {ahead.partition, behind.partition}
    apply_batch(ahead)
    back_pressure.apply(lanes)
    assert consumer.paused == {ahead.partition}
    while ahead.waiting_messages:
        apply_batch(ahead)
        back_pressure.apply(lanes)
    assert not consumer.paused
