import pytest

from connector.interfaces import PartitionStart, Position, TopicPartition
from connector.model.events import Identity
from connector.sink.batch import Batch, Candidate
from connector.sink.lane import Lane, LaneLimits, message_bytes
from connector.sink.states import State
from tests import builders

P0 = TopicPartition("t", 0)
LIMITS = LaneLimits(
    transaction_events_max=10, batch_events_max=40, batch_bytes_max=10**9, linger_seconds=0.0
)


def message(offset: int) -> State:
    return State(
        Identity("S1", "record", 1), 1, builders.message(P0, offset, b"k", b"v" * 100, epoch=4)
    )


def lane_with(count: int, limits: LaneLimits = LIMITS) -> Lane:
    lane = Lane(P0, PartitionStart(0, 0, None), limits)
    lane.open(0)
    lane.add([message(offset) for offset in range(count)], now=0.0)
    return lane


def prepare(lane: Lane, changed: int = 0) -> list[int]:
    """Prepare the next batch and return its offsets; messages that change the graph come first."""
    messages = lane.start_preparing(0.0) or []
    if messages:
        if changed > LIMITS.transaction_events_max:
            changed = LIMITS.transaction_events_max
            messages = messages[:changed]
        candidates: list[Candidate] = [None] * changed  # type: ignore[list-item]
        lane.finish_preparing(Batch(messages, candidates, [], set()))
    return [each.message.offset for each in messages]


def apply(lane: Lane, changed: int = 0) -> int:
    """Apply the next batch and return how many messages it had."""
    offsets = prepare(lane, changed)
    lane.start_writing()
    lane.finish_writing()
    return len(offsets)


def test_the_next_batch_is_prepared_while_one_is_written_but_no_third() -> None:
    """A second batch may be prepared while one is written, but no third."""
    lane = lane_with(100)
    assert prepare(lane, changed=10) == list(range(10))
    assert lane.start_writing() is not None
    assert prepare(lane, changed=10) == list(range(10, 20))
    assert lane.start_writing() is None
    assert lane.start_preparing(0.0) is None


def test_the_offset_to_commit_is_the_one_after_the_last_that_is_acknowledged() -> None:
    """The offset to commit is the one after the last acknowledged message."""
    lane = lane_with(20)
    prepare(lane, changed=10)
    lane.start_writing()
    prepare(lane, changed=10)
    assert lane.applied is None
    lane.finish_writing()
    assert lane.applied == Position(10, 4)


def test_an_end_counts_when_everything_before_it_is_acknowledged() -> None:
    """An end of partition counts once everything before it is acknowledged."""
    lane = lane_with(1)
    lane.reached_end(Position(5, None))
    assert lane.applied is None
    apply(lane)
    assert lane.applied == Position(5, 4, 1)


def test_an_end_of_a_partition_without_messages_counts_at_once() -> None:
    """The end of a partition without messages counts at once."""
    lane = lane_with(0)
    lane.reached_end(Position(5, None))
    assert lane.applied == Position(5, None)


def test_an_end_before_later_messages_does_not_move_the_offset_back() -> None:
    """An end that was reported before later messages does not move the offset back."""
    lane = lane_with(9)
    lane.reached_end(Position(6, None))
    apply(lane)
    assert lane.applied == Position(9, 4)


def test_batches_grow_while_nothing_is_new_and_shrink_to_a_transaction_when_all_is() -> None:
    """Batches grow while nothing is new and shrink to one transaction when everything is."""
    lane = lane_with(300)
    assert [apply(lane) for _ in range(4)] == [10, 40, 40, 40]
    assert [apply(lane, changed=40), apply(lane, changed=10), apply(lane)] == [10, 10, 10]
    assert apply(lane) == 40


def test_messages_cut_from_a_batch_return_to_the_front_of_the_queue() -> None:
    """Messages cut from a batch return to the front of the queue."""
    lane = lane_with(60)
    apply(lane)
    before = lane.waiting_bytes
    assert prepare(lane, changed=40) == list(range(10, 20))
    assert lane.waiting_bytes == before - 10 * message_bytes(message(0))
    lane.start_writing()
    lane.finish_writing()
    assert lane.applied == Position(20, 4)
    assert prepare(lane)[0] == 20


def test_an_idle_lane_takes_whatever_is_waiting() -> None:
    """Without a linger, an idle lane takes whatever is waiting."""
    assert prepare(lane_with(1)) == [0]


def test_a_lane_that_can_get_no_more_messages_does_not_linger() -> None:
    """Otherwise a full buffer would stand still for the linger, with all partitions paused."""
    limits = LaneLimits(10, 40, 10**9, linger_seconds=2.0)
    lane = lane_with(9, limits)
    assert lane.start_preparing(1.9) is None
    lane.is_paused = True
    assert len(lane.start_preparing(1.9) or []) == 9


def test_messages_that_are_too_large_for_one_batch_are_enough_for_the_next() -> None:
    """A batch is full by bytes, too: a lane with more does not linger, nor need messages."""
    limits = LaneLimits(10, 40, 300, linger_seconds=2.0)
    assert not lane_with(2, limits).has_full_batch
    lane = lane_with(3, limits)
    assert lane.has_full_batch
    assert len(lane.start_preparing(0.0) or []) == 3


def test_with_a_linger_a_lane_waits_for_a_full_batch_or_for_its_time() -> None:
    """With a linger, a lane waits for a full batch or until the linger has passed."""
    limits = LaneLimits(10, 40, 10**9, linger_seconds=2.0)
    lane = lane_with(9, limits)
    assert lane.start_preparing(1.9) is None
    assert lane_with(10, limits).start_preparing(0.0) is not None
    assert lane.start_preparing(2.0) is not None


def test_a_batch_is_bounded_by_bytes_but_holds_one_message() -> None:
    """A batch is bounded by bytes but holds at least one message."""
    assert len(prepare(lane_with(9, LaneLimits(10, 40, 300, 0.0)))) == 3
    assert len(prepare(lane_with(9, LaneLimits(10, 40, 1, 0.0)))) == 1


def test_a_lane_is_full_by_bytes_and_low_at_half_of_them() -> None:
    """A lane is full at its byte limit and low at half of it."""
    lane = lane_with(20)
    size = message_bytes(message(0))
    assert lane.is_full(20 * size)
    assert not lane.is_full(21 * size)
    prepare(lane)
    assert lane.is_low(20 * size)
    assert not lane.is_low(19 * size)


def test_a_dropped_lane_begins_nothing() -> None:
    """A dropped lane starts no further work."""
    lane = lane_with(20)
    prepare(lane, changed=10)
    lane.dropped.set()
    assert lane.start_writing() is None
    assert lane_with(0).start_preparing(0.0) is None


def test_a_batch_that_was_not_started_cannot_be_ready() -> None:
    """A batch whose preparation was never started cannot be ready."""
    with pytest.raises(AssertionError):
        lane_with(1).finish_preparing(Batch([], [], [], set()))
