from connector.errors import InvalidEventError
from connector.interfaces import DeadLetter, Message, TopicPartition
from connector.model.serde import encode
from connector.sink.batch import (
    Batch,
    TransactionSize,
    decode_newest,
    first_changing,
    first_part,
    newest_states,
    superseded_by,
)
from tests.builders import delete, record_row, upsert

P0 = TopicPartition("t", 0)
NOW = 1_700_000_000_000


def message(offset: int, version: int = 1, record: int = 1) -> Message:
    key, value, headers = encode(upsert(record_row(record), version))
    return Message(P0, offset, 4, NOW, key, value, headers)


def bad(offset: int, version: int, record: int = 1) -> Message:
    """An event by key and headers; its payload is none."""
    good = message(offset, version, record)
    return good._replace(value=b"not json")


def versions(messages: list[Message]) -> tuple[list[int], list[int]]:
    """Versions of the candidates and offsets of the letters, if the graph is empty."""
    states, letters = newest_states(messages, NOW)
    candidates, invalid = decode_newest(states.values(), messages, NOW)
    return (
        [each.change.version for each in candidates],
        sorted(each.message.offset for each in letters + invalid),
    )


def test_of_several_states_the_newest_is_kept_whatever_the_order() -> None:
    assert versions([message(0, 5), message(1, 9), message(2, 7)]) == ([9], [])


def test_of_equal_versions_the_last_is_kept() -> None:
    states, _ = newest_states([message(0, 5), message(1, 5)], NOW)
    assert [state.message.offset for state in states.values()] == [1]


def test_a_superseded_payload_is_not_decoded() -> None:
    assert versions([bad(0, 5), message(1, 9)]) == ([9], [])


def test_what_the_graph_has_already_is_not_decoded() -> None:
    states, letters = newest_states([bad(0, 5), message(1, 9, record=2)], NOW)
    assert letters == []
    wanted = [state for state in states.values() if state.identity.id == 2]
    candidates, invalid = decode_newest(wanted, [bad(0, 5), message(1, 9, record=2)], NOW)
    assert (len(candidates), invalid) == (1, [])


def test_an_invalid_newest_state_gives_way_to_the_next_older_one() -> None:
    messages = [message(0, 3), message(1, 5), bad(2, 7), bad(3, 9), message(4, 1, record=2)]
    assert versions(messages) == ([1, 5], [2, 3])


def test_each_message_without_an_entity_is_a_letter() -> None:
    nothing = message(0)._replace(key=b"x")
    messages = [nothing, nothing._replace(offset=1), message(2)]
    assert versions(messages) == ([1], [0, 1])


def test_without_a_header_the_payload_says_the_version() -> None:
    assert versions([message(0, 9)._replace(headers=[]), message(1, 5)]) == ([9], [])
    assert versions([message(0)._replace(headers=[], value=b"{")]) == ([], [0])


def test_a_tombstone_without_a_header_is_a_delete_of_its_timestamp() -> None:
    key, value, headers = encode(delete(1, 5))
    assert versions([Message(P0, 0, 4, NOW, key, None, []), message(1, 5)]) == ([NOW], [])
    assert versions([Message(P0, 0, 4, -1, key, None, [])]) == ([], [0])
    assert versions([Message(P0, 0, 4, NOW, key, value, headers)]) == ([5], [])


def test_candidates_come_parents_first() -> None:
    messages = [message(0)]
    for offset, entity in enumerate(("visit", "study", "subject"), 1):
        key, value, headers = encode(
            upsert({"studyKey": "S1", f"{entity}Id": 5, "subjectId": 5}, 1, entity)
        )
        messages.append(Message(P0, offset, 4, NOW, key, value, headers))
    states, _ = newest_states(messages, NOW)
    candidates, _ = decode_newest(states.values(), messages, NOW)
    kinds = [each.change.identity.entity for each in candidates]
    assert kinds == ["study", "subject", "visit", "record"]


def test_a_transaction_is_bounded_by_events_and_bytes_but_holds_one_event() -> None:
    states, _ = newest_states([message(n, 1, n + 1) for n in range(10)], NOW)
    candidates, _ = decode_newest(states.values(), [], NOW)
    size = candidates[0].size_bytes
    assert len(first_part(candidates, 4, 10**9)) == 4
    assert len(first_part(candidates, 100, 3 * size + 1)) == 3
    assert len(first_part(candidates, 100, 1)) == 1


def test_what_a_refused_state_had_superseded_comes_back_once() -> None:
    messages = [message(0, 3), bad(1, 4), message(2, 5), message(3, 1, record=2)]
    error = InvalidEventError("refused", reason="TypeError")
    earlier = DeadLetter(messages[1], error.reason, str(error))
    refused = DeadLetter(messages[2], error.reason, str(error))
    batch = Batch(4, messages, [], [earlier], set())
    assert superseded_by([refused], batch) == [messages[0]]


def test_the_transaction_size_is_halved_and_grows_back() -> None:
    size = TransactionSize(500)
    size.was_too_large(500)
    size.was_too_large(250)
    assert size.events == 125
    size.was_too_large(1)
    assert size.events == 1
    for _ in range(200):
        size.fitted()
    assert size.events == 500


def test_a_batch_is_cut_before_it_changes_more_than_a_transaction_takes() -> None:
    messages = [message(number, 1, record=number % 4 + 1) for number in range(12)]
    messages.insert(1, messages[0]._replace(key=b"no event"))
    newer = {upsert(record_row(number)).identity for number in (1, 2, 4)}
    assert [first_changing(messages, newer, most) for most in (1, 2, 3)] == [2, 4, 13]
