"""The promises of EventConsumer and DeadLetterQueue, on the fakes and on a real Kafka alike."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka import Producer

from connector.config import KafkaSettings, SinkSettings
from connector.cursor import Cursor
from connector.errors import FatalError
from connector.interfaces import (
    DeadLetter,
    EventConsumer,
    Message,
    Polled,
    Position,
    TopicPartition,
)
from connector.kafka.consumer import KafkaEventConsumer
from connector.kafka.dead_letters import KafkaDeadLetterQueue
from connector.kafka.event_log import KafkaEventLog, read_to_end
from connector.kafka.lag import GroupLag
from connector.sink.batch import next_positions
from tests.builders import record_row, upsert
from tests.fakes.in_memory_kafka import InMemoryConsumer, InMemoryTopic


@dataclass
class Group:
    """A topic of four partitions with messages, and members of one group, one after another."""

    produce: Callable[[int], None]
    join: Callable[[], EventConsumer]


@pytest.fixture(params=["fake", pytest.param("kafka", marks=pytest.mark.servers)])
def group(request: pytest.FixtureRequest, study: str) -> Iterator[Group]:
    if request.param == "fake":
        topic, committed = InMemoryTopic(4), dict[TopicPartition, Position]()

        def append(count: int) -> None:
            for number in range(count):
                topic.append(number % 4, b"k%d" % number, b"v")

        yield Group(append, lambda: InMemoryConsumer(topic, committed))
        return
    kafka: KafkaSettings = request.getfixturevalue("kafka_settings")
    members: list[KafkaEventConsumer] = []

    def join() -> KafkaEventConsumer:
        members.append(KafkaEventConsumer(kafka, SinkSettings(group_id=study)))
        return members[-1]

    yield Group(lambda count: produce(kafka, count), join)
    for member in members:
        member.close()


def produce(kafka: KafkaSettings, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for number in range(count):
        producer.produce(kafka.events_topic, b"v", b"k%d" % number, number % 4)
    producer.flush(10)


def take(member: EventConsumer, count: int) -> list[Message]:
    """Poll until so many messages came; none more may come at once."""
    messages: list[Message] = []
    end = time.monotonic() + 30
    while len(messages) < count and time.monotonic() < end:
        messages += member.poll(1000, 0.2).messages
    assert len(messages) == count
    return messages


def places(messages: list[Message]) -> set[tuple[int, int]]:
    return {(message.partition.partition, message.offset) for message in messages}


def test_a_first_start_begins_at_the_beginning(group: Group) -> None:
    group.produce(20)
    taken = take(group.join(), 20)
    assert places(taken) == {(partition, offset) for partition in range(4) for offset in range(5)}


def test_what_is_not_committed_comes_again_and_what_is_does_not(group: Group) -> None:
    group.produce(20)
    member = group.join()
    taken = take(member, 20)
    done = [message for message in taken if message.partition.partition < 2]
    member.commit(next_positions(Polled(done, {})))
    member.close()
    again = take(group.join(), 10)
    assert places(again) == places(taken) - places(done)


def test_messages_that_arrive_during_a_pause_are_not_lost(group: Group) -> None:
    member = group.join()
    group.produce(8)
    first = take(member, 8)
    group.produce(8)
    for _ in range(3):
        member.wait_paused(0.1)
    assert places(take(member, 8)).isdisjoint(places(first))


@pytest.mark.servers
def test_the_end_of_a_partition_is_told_so_that_the_lag_is_0(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """Transactions end with control records, which no message tells of."""
    log = KafkaEventLog(kafka_settings, study)
    log.open()
    rows = [upsert(record_row(number, studyKey=study)) for number in range(1, 40)]
    log.publish(
        [(event, event.version + number) for number, event in enumerate(rows)],
        [],
        Cursor(study_key=study),
    )
    member = KafkaEventConsumer(kafka_settings, SinkSettings(group_id=study))
    lag, end = GroupLag(kafka_settings, study), time.monotonic() + 30
    while lag.read() and time.monotonic() < end:
        member.commit(next_positions(member.poll(1000, 0.2)))
    assert lag.read() == 0
    member.close()


@pytest.mark.servers
def test_a_member_that_joins_takes_partitions_and_gives_them_back(
    kafka_settings: KafkaSettings, study: str
) -> None:
    one = KafkaEventConsumer(kafka_settings, SinkSettings(group_id=study))
    take(one, 0)
    other = KafkaEventConsumer(kafka_settings, SinkSettings(group_id=study))
    partitions = {TopicPartition(kafka_settings.events_topic, each) for each in range(4)}
    shared = False
    end = time.monotonic() + 40
    while not shared and time.monotonic() < end:
        one.poll(10, 0.1)
        other.poll(10, 0.1)
        owned = [{each for each in partitions if member.owns(each)} for member in (one, other)]
        shared = all(len(each) == 2 for each in owned)
        assert not owned[0] & owned[1]
    assert shared
    other.commit({min(owned[0]): Position(3, None)})  # not its own: nothing happens
    other.close()
    while not all(one.owns(each) for each in partitions) and time.monotonic() < end:
        one.poll(10, 0.1)
    assert all(one.owns(each) for each in partitions)
    one.close()


@pytest.mark.servers
def test_a_gap_is_reported_and_never_skipped(kafka_settings: KafkaSettings, study: str) -> None:
    """The group's offset is beyond the topic's end, as after the topic was made anew."""
    produce(kafka_settings, 40)
    member = KafkaEventConsumer(kafka_settings, SinkSettings(group_id=study))
    take(member, 40)
    member.commit({TopicPartition(kafka_settings.events_topic, 0): Position(500, None)})
    member.close()
    late = KafkaEventConsumer(kafka_settings, SinkSettings(group_id=study))
    end = time.monotonic() + 30
    with pytest.raises(FatalError, match="events may be missing"):
        while time.monotonic() < end:
            late.poll(100, 0.2)
    late.close()


@pytest.mark.servers
def test_a_dead_letter_keeps_key_value_and_headers_and_says_why(
    kafka_settings: KafkaSettings,
) -> None:
    at = TopicPartition("origin", 3)
    message = Message(at, 17, 0, 0, b"\xff key", b"\xff value", [("own", b"\x00"), ("none", None)])
    KafkaDeadLetterQueue(kafka_settings, "sink-a").publish([DeadLetter(message, "value", "why")])
    (letter,) = read_to_end(kafka_settings, kafka_settings.dead_letter_topic)
    assert (letter.key(), letter.value()) == (message.key, message.value)
    headers: list[tuple[str, str | bytes | None]] = list(letter.headers() or [])  # type: ignore[arg-type]
    assert headers[:2] == message.headers
    why = dict(headers)
    assert why["__connect.errors.topic"] == b"origin"
    assert (why["__connect.errors.partition"], why["__connect.errors.offset"]) == (b"3", b"17")
    assert why["__connect.errors.exception.class.name"] == b"value"


@pytest.mark.servers
def test_a_letter_that_is_too_large_with_its_reason_is_kept_by_reference(
    kafka_settings: KafkaSettings,
) -> None:
    huge = Message(TopicPartition("origin", 0), 1, 0, 0, b"k", b"x" * 1_000_000, [])
    KafkaDeadLetterQueue(kafka_settings, "sink-a").publish([DeadLetter(huge, "value", "why")])
    (letter,) = read_to_end(kafka_settings, kafka_settings.dead_letter_topic)
    assert letter.value() is None
    assert dict(letter.headers() or [])["imednet.value.bytes"] == b"1000000"
