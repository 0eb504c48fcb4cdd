from connector.interfaces import Message, Polled, Position, TopicPartition
from connector.serde import encode
from connector.sink.batch import decode_all, next_positions
from tests.builders import record_row, upsert

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


def message(partition: TopicPartition, offset: int, version: int = 1, epoch: int = 4) -> Message:
    key, value, headers = encode(upsert(record_row(), version))
    return Message(partition, offset, epoch, 0, key, value, headers)


def test_the_committed_offset_is_the_one_after_the_last_of_each_partition() -> None:
    polled = Polled([message(P0, 3), message(P0, 4), message(P1, 9)], {})
    assert next_positions(polled) == {P0: Position(5, 4), P1: Position(10, 4)}


def test_an_end_moves_the_offset_past_control_records_and_keeps_the_epoch() -> None:
    polled = Polled([message(P0, 3)], {P0: Position(6, None), P1: Position(2, None)})
    assert next_positions(polled) == {P0: Position(6, 4), P1: Position(2, None)}


def test_an_end_before_later_messages_does_not_move_the_offset_back() -> None:
    assert next_positions(Polled([message(P0, 8)], {P0: Position(6, None)})) == {P0: Position(9, 4)}


def test_of_several_states_the_newest_is_kept_whatever_the_order() -> None:
    decoded = decode_all([message(P0, 0, 5), message(P1, 0, 9), message(P0, 1, 7)], 1)
    assert [each.change.version for each in decoded.newest.values()] == [9]


def test_an_invalid_message_is_set_aside_with_a_reason() -> None:
    bad = Message(P0, 0, 0, 0, b"S1/record/1", b"not json", [])
    decoded = decode_all([bad, message(P0, 1)], 1)
    assert [letter.message for letter in decoded.letters] == [bad]
    assert len(decoded.newest) == 1
