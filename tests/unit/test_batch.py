from typing import ClassVar

import pytest

from connector.errors import InvalidEventError
from connector.interfaces import DeadLetter, Message, TopicPartition
from connector.model.serde import Headers, encode
from connector.sink.batch import (
    Candidate,
    TransactionSize,
    dead_on_arrival,
    decode_newest,
    first_transaction,
    prefix_length,
)
from connector.sink.states import Arrival, State, newest_states, older_states, parse
from tests import builders
from tests.builders import NOW, Details, delete, record_row, upsert

P0 = TopicPartition("t", 0)


def message(offset: int, version: int = 1, record: int = 1) -> Message:
    key, value, headers = encode(upsert(record_row(record), version))
    return builders.message(P0, offset, key, value, headers)


def bad(offset: int, version: int, record: int = 1) -> Message:
    """Return a message with a valid key and headers and an invalid payload."""
    good = message(offset, version, record)
    return good._replace(value=b"not json")


def arrived(messages: list[Message]) -> list[Arrival]:
    return [parse(each, NOW) for each in messages]


def decoded(messages: list[Message]) -> tuple[list[Candidate], list[DeadLetter]]:
    """Decode as if the graph were empty."""
    arrivals = arrived(messages)
    candidates, invalid = decode_newest(newest_states(arrivals).values(), arrivals, NOW)
    return candidates, dead_on_arrival(arrivals) + invalid


def versions(messages: list[Message]) -> tuple[list[int], list[int]]:
    """Return the candidates' versions and the dead letters' offsets for an empty graph."""
    candidates, letters = decoded(messages)
    return (
        [each.change.version for each in candidates],
        sorted(each.message.offset for each in letters),
    )


def test_of_several_states_the_newest_is_kept_whatever_the_order() -> None:
    """Of several states of an entity, the newest is kept, whatever their order."""
    assert versions([message(0, 5), message(1, 9), message(2, 7)]) == ([9], [])


def test_of_equal_versions_the_first_is_kept() -> None:
    """Of states with equal versions, the first is kept, as it would be in separate batches."""
    states = newest_states(arrived([message(0, 5), message(1, 5)]))
    assert [state.message.offset for state in states.values()] == [0]


def test_a_superseded_payload_is_not_decoded() -> None:
    """The payload of a superseded state is never decoded."""
    assert versions([bad(0, 5), message(1, 9)]) == ([9], [])


def test_what_the_graph_has_already_is_not_decoded() -> None:
    """States that the graph already has are not decoded."""
    arrivals = arrived([bad(0, 5), message(1, 9, record=2)])
    assert dead_on_arrival(arrivals) == []
    wanted = [each for each in newest_states(arrivals).values() if each.identity.id == 2]
    candidates, invalid = decode_newest(wanted, arrivals, NOW)
    assert (len(candidates), invalid) == (1, [])


def test_an_invalid_newest_state_gives_way_to_the_next_older_one() -> None:
    """If an entity's newest state is invalid, the next older valid one is applied."""
    messages = [message(0, 3), message(1, 5), bad(2, 7), bad(3, 9), message(4, 1, record=2)]
    assert versions(messages) == ([1, 5], [2, 3])


def test_each_message_without_an_entity_is_a_letter() -> None:
    """Each message whose key names no entity becomes a dead letter."""
    nothing = message(0)._replace(key=b"x")
    messages = [nothing, nothing._replace(offset=1), message(2)]
    assert versions(messages) == ([1], [0, 1])


def test_without_a_header_the_payload_gives_the_version() -> None:
    """Without a version header the payload gives the version, however it is formatted."""
    without = Details([], NOW, 0)
    assert versions([message(0, 9)._replace(details=without), message(1, 5)]) == ([9], [])
    assert versions([message(0)._replace(details=without, value=b"{")]) == ([], [0])
    key, value, _ = encode(upsert(record_row(), 9))
    spaced = value.replace(b":", b": ", 1)  # not how this program formats it
    assert versions([builders.message(P0, 0, key, spaced), message(1, 5)]) == ([9], [])


def test_a_tombstone_without_a_header_is_a_delete_versioned_by_its_timestamp() -> None:
    """A tombstone without a version header is a delete with its timestamp as version."""
    key, value, headers = encode(delete(1, 5))
    assert versions([builders.message(P0, 0, key, None), message(1, 5)]) == ([NOW], [])
    assert versions([builders.message(P0, 0, key, None, timestamp_ms=-1)]) == ([], [0])
    assert versions([builders.message(P0, 0, key, value, headers)]) == ([5], [])


def test_candidates_come_parents_first() -> None:
    """Changes are ordered parents first."""
    messages = [message(0)]
    for offset, entity in enumerate(("visit", "study", "subject"), 1):
        key, value, headers = encode(
            upsert({"studyKey": "S1", f"{entity}Id": 5, "subjectId": 5}, 1, entity)
        )
        messages.append(builders.message(P0, offset, key, value, headers))
    candidates, _ = decoded(messages)
    kinds = [each.change.identity.entity for each in candidates]
    assert kinds == ["study", "subject", "visit", "record"]


def test_a_transaction_is_bounded_by_events_and_bytes_but_holds_one_event() -> None:
    """A transaction is bounded by events and bytes but holds at least one event."""
    candidates, _ = decoded([message(n, 1, n + 1) for n in range(10)])
    size = candidates[0].size_bytes
    assert len(first_transaction(candidates, 4, 10**9)) == 4
    assert len(first_transaction(candidates, 100, 3 * size + 1)) == 3
    assert len(first_transaction(candidates, 100, 1)) == 1


def test_what_a_refused_state_had_superseded_comes_back_once() -> None:
    """After a state is refused, the states that it superseded come back once."""
    messages = [message(0, 3), bad(1, 4), message(2, 5), message(3, 1, record=2)]
    error = InvalidEventError("refused", reason="TypeError")
    letters = [DeadLetter(messages[at], error.reason, str(error)) for at in (1, 2)]
    refused = upsert(record_row(1)).identity
    older = older_states([refused], letters, arrived(messages))
    assert [state.message for state in older] == [messages[0]]


def test_the_transaction_size_is_halved_and_grows_back() -> None:
    """The transaction size is halved when a transaction was too large, and grows back."""
    size = TransactionSize(500)
    size.shrink(500)
    size.shrink(250)
    assert size.events == 125
    size.shrink(1)
    assert size.events == 1
    for _ in range(200):
        size.grow()
    assert size.events == 500


def test_a_batch_is_cut_before_it_changes_more_than_a_transaction_takes() -> None:
    """A batch is cut before it changes more entities than a transaction takes."""
    messages = [message(number, 1, record=number % 4 + 1) for number in range(12)]
    messages.insert(1, messages[0]._replace(key=b"no event"))
    newer = {upsert(record_row(number)).identity for number in (1, 2, 4)}
    arrivals = arrived(messages)
    assert [prefix_length(arrivals, newer, most) for most in (1, 2, 3)] == [2, 4, 13]


def test_parsing_a_message_converts_neither_headers_nor_timestamp() -> None:
    """Parsing a message converts neither its headers nor its timestamp.

    They cost as much as all the rest, and the beginning of the payload gives the version.
    """

    class NeverAsked(Details):
        def headers(self) -> None:
            raise AssertionError("headers are converted")

        def timestamp(self) -> tuple[int, int]:
            raise AssertionError("the timestamp is converted")

    for event in (upsert(record_row(), 7), delete(1, 7)):
        key, value, _ = encode(event)
        quick = Message(P0, 0, key, value, NeverAsked([], 0, 0))
        assert parse(quick, NOW) == State(event.identity, 7, quick)


def test_a_version_inside_the_content_is_not_mistaken_for_the_events() -> None:
    """A version inside the content is not mistaken for the event's version.

    Another program may write the fields in another order.
    """
    key, value, headers = encode(upsert(record_row(recordStatus=',"version":99,'), 7))
    moved = value.replace(b',"version":7', b"").replace(
        b'{"schemaVersion"', b'{"version":7,"schemaVersion"'
    )
    assert versions([builders.message(P0, 0, key, moved, headers)]) == ([7], [])
    assert versions([builders.message(P0, 0, key, moved)]) == ([7], [])


def test_a_payload_and_a_header_that_give_different_versions_are_a_dead_letter() -> None:
    """A message whose payload and header give different versions is dead-lettered."""
    key, value, _ = encode(upsert(record_row(), 7))
    assert versions([builders.message(P0, 0, key, value, [("version", b"8")])]) == ([], [0])


class Broken(Details):
    """confluent-kafka with a header name that is not UTF-8: an error, then null pointers."""

    asked: ClassVar[list[int]] = []

    def headers(self) -> Headers:
        assert self.asked == [], "a second call would crash the process"
        self.asked.append(1)
        raise SystemError


@pytest.mark.parametrize("is_ours", [True, False])
def test_headers_that_cannot_be_read_make_a_dead_letter_that_has_none(*, is_ours: bool) -> None:
    """A message with unreadable headers is dead-lettered without them."""
    Broken.asked.clear()
    key, value, _ = encode(upsert(record_row(), 7))
    written = value if is_ours else value.replace(b":", b": ", 1)
    broken = Message(P0, 0, key, written, Broken([], NOW, 0))
    candidates, (letter,) = decoded([broken])
    assert candidates == []
    assert (letter.reason, letter.message.headers) == ("headers", [])
    assert (letter.message.key, letter.message.value) == (key, written)


def test_a_payload_that_gives_two_versions_is_a_dead_letter() -> None:
    """A message whose payload gives two versions is dead-lettered."""
    key, value, _ = encode(upsert(record_row(), 5))
    twice = value.replace(b'"version":5,', b'"version":5,"version":7,', 1)
    assert versions([builders.message(P0, 0, key, twice)]) == ([], [0])
