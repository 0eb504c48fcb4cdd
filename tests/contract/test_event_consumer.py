"""Contract tests of EventConsumer and DeadLetterQueue, on the fake and on a real Kafka."""

import random
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from connector.config import KafkaSettings, SinkSettings
from connector.errors import ConnectorError, FatalError
from connector.interfaces import (
    CommitResult,
    DeadLetter,
    EventConsumer,
    Message,
    PartitionStart,
    PollResult,
    Position,
    TopicPartition,
)
from connector.kafka.consumer import KafkaEventConsumer
from connector.kafka.dead_letters import KafkaDeadLetterQueue
from connector.kafka.event_log import KafkaEventLog
from connector.kafka.group_offsets import CommittedOffset, GroupOffsets
from connector.kafka.settings import transactional_producer
from connector.kafka.topic_log import read_to_end
from connector.kafka.topics import Topics
from connector.model.cursor import Cursor
from tests.brokers import set_message_bytes_max
from tests.builders import message, record_row, upsert
from tests.fakes.in_memory_kafka import InMemoryConsumer, InMemoryTopic
from tests.programs import wait_until


class Member:
    """A consumer that records the callbacks about its assignment."""

    def __init__(self, consumer: EventConsumer) -> None:
        self.consumer = consumer
        self.owned: set[TopicPartition] = set()
        self.callbacks: list[str] = []
        self.starts: dict[TopicPartition, int] = {}
        self.commit_when_revoked: Position | None = None
        consumer.subscribe(self)

    def assigned(self, starts: Mapping[TopicPartition, PartitionStart]) -> None:
        if starts:  # a cooperative rebalance ends with an assignment of nothing
            self.callbacks.append("assigned")
        self.owned |= set(starts)
        self.starts |= {partition: start.offset for partition, start in starts.items()}

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.callbacks.append("revoked")
        self.owned -= set(partitions)
        if self.commit_when_revoked:
            self.consumer.commit(dict.fromkeys(partitions, self.commit_when_revoked))

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        self.callbacks.append("lost")
        self.owned -= set(partitions)

    def poll(self, most: int = 1000, seconds: float = 0.2) -> PollResult:
        return self.consumer.poll(most, seconds)

    def commit(self, messages: list[Message]) -> None:
        """Commit as if all these messages were applied."""
        last = {each.partition: each for each in messages}
        self.consumer.commit(
            {at: Position(each.offset + 1, each.leader_epoch) for at, each in last.items()}
        )


@dataclass
class Group:
    """A topic of four partitions, and one consumer group that members join one by one."""

    produce: Callable[[int], None]
    join: Callable[[], Member]


@pytest.fixture(params=["fake", pytest.param("kafka", marks=pytest.mark.servers)])
def group(request: pytest.FixtureRequest, study: str) -> Iterator[Group]:
    if request.param == "fake":
        topic, committed = InMemoryTopic(4), dict[TopicPartition, Position]()

        def append(count: int) -> None:
            for number in range(count):
                topic.append(number % 4, b"k%d" % number, b"v")

        yield Group(append, lambda: Member(InMemoryConsumer(topic, committed)))
        return
    kafka: KafkaSettings = request.getfixturevalue("kafka_settings")
    members: list[Member] = []

    def join() -> Member:
        members.append(joined(kafka, study))
        return members[-1]

    yield Group(lambda count: produce(kafka, count), join)
    for member in members:
        member.consumer.close()


def joined(kafka: KafkaSettings, group_id: str, **settings: Any) -> Member:
    return Member(KafkaEventConsumer(kafka, SinkSettings(group_id=group_id, **settings)))


def produce(kafka: KafkaSettings, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for number in range(count):
        producer.produce(kafka.events_topic, b"v", b"k%d" % number, number % 4)
    producer.flush(10)


def take(member: Member, count: int) -> list[Message]:
    """Poll until ``count`` messages have arrived; fail if more arrive with them."""
    messages: list[Message] = []
    end = time.monotonic() + 150
    while len(messages) < count and time.monotonic() < end:
        messages += member.poll().messages
    assert len(messages) == count
    return messages


def places(messages: list[Message]) -> set[tuple[int, int]]:
    return {(message.partition.partition, message.offset) for message in messages}


def test_a_first_start_begins_at_the_beginning(group: Group) -> None:
    """A group without committed offsets reads each partition from its first offset."""
    group.produce(20)
    taken = take(group.join(), 20)
    assert places(taken) == {(partition, offset) for partition in range(4) for offset in range(5)}


def test_what_is_not_committed_comes_again_and_what_is_does_not(group: Group) -> None:
    """After a restart, exactly the uncommitted messages are delivered again."""
    group.produce(20)
    member = group.join()
    taken = take(member, 20)
    done = [message for message in taken if message.partition.partition < 2]
    member.commit(done)
    member.consumer.close()
    again = take(group.join(), 10)
    assert places(again) == places(taken) - places(done)


def test_each_commit_has_one_result(group: Group) -> None:
    """Each commit has one result, which a later poll returns: also one of partitions not owned."""
    group.produce(20)
    member = group.join()
    taken = take(member, 20)
    known = {each.partition: each.leader_epoch for each in taken}
    commits = [{at: Position(offset, epoch) for at, epoch in known.items()} for offset in (2, 5)]
    for positions in (
        commits[0],
        {},
        {TopicPartition(taken[0].partition.topic, 99): Position(1, 1)},
    ):
        member.consumer.commit(positions)
    results = results_of(member, 3)
    assert [each.error for each in results] == [None] * 3
    assert sorted((each.offsets for each in results), key=len) == [{}, {}, dict.fromkeys(known, 2)]
    member.consumer.commit(commits[1])
    assert [each.offsets for each in results_of(member, 1)] == [dict.fromkeys(known, 5)]


def results_of(member: Member, count: int) -> list[CommitResult]:
    """Poll until this many commits have a result."""
    found: list[CommitResult] = []

    def are_found() -> bool:
        found.extend(member.poll().commits)
        return len(found) >= count

    wait_until(are_found, 60, "the results")
    return found


def test_a_paused_partition_brings_nothing_and_loses_nothing(group: Group) -> None:
    """A paused partition delivers nothing until it is resumed, and then loses nothing."""
    member = group.join()
    group.produce(8)
    first = take(member, 8)
    held = {each for each in member.owned if each.partition < 3}
    member.consumer.pause(held)
    group.produce(8)
    assert {message.partition.partition for message in take(member, 2)} == {3}
    assert member.poll().messages == []
    member.consumer.resume(held)
    assert places(take(member, 6)).isdisjoint(places(first))


def test_a_partition_that_is_sought_is_read_from_there_whatever_was_fetched(group: Group) -> None:
    """After a seek, the next message is the one at that offset, whatever was prefetched."""
    member = group.join()
    group.produce(40)
    take(member, 40)
    (back, ahead) = (each for each in member.owned if each.partition < 2)
    member.consumer.pause([back, ahead])
    group.produce(40)
    member.consumer.seek(back, 3)
    member.consumer.seek(ahead, 15)
    found = take(member, 17 + 5 + 20)
    offsets = {at: [each.offset for each in found if each.partition == at] for at in member.owned}
    assert offsets[back] == list(range(3, 20))
    assert offsets[ahead] == list(range(15, 20))


@pytest.mark.servers
@pytest.mark.parametrize(("paused", "resumes"), [(1, 1), (4, 1), (4, 2)])
def test_a_resumed_partition_delivers_at_once(
    kafka_settings: KafkaSettings, study: str, paused: int, resumes: int
) -> None:
    """A resumed partition delivers at once, whether or not others are paused, too.

    By default the client lets the broker hold a fetch of idle partitions for half a second. Without
    any to fetch it sleeps for up to a second. Nor does it know a position if it has delivered
    nothing since the partition was resumed before.
    """
    member = joined(kafka_settings, study)
    produce(kafka_settings, 4)
    take(member, 4)
    held = {each for each in member.owned if each.partition < paused}
    waited = []
    for _ in range(9):
        for _ in range(resumes - 1):
            member.consumer.pause(held)
            member.consumer.resume(held)
        member.consumer.pause(held)
        produce(kafka_settings, 1)
        member.poll()
        began = time.monotonic()
        member.consumer.resume(held)
        take(member, 1)
        waited.append(time.monotonic() - began)
    assert statistics.median(waited) < 0.2, waited
    member.consumer.close()


@pytest.mark.servers
def test_the_lag_counts_events_whose_transaction_has_not_ended(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """The lag counts events whose transaction has not ended.

    It ends after its commit is acknowledged. Until then the lag was 0, as if they did not exist.
    """
    lag = GroupOffsets(kafka_settings, study)
    before = lag.lag()
    producer = Producer(transactional_producer(kafka_settings, study))
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(kafka_settings.events_topic, b"x", b"key")
    producer.flush(60)
    assert lag.lag() == before + 1
    producer.abort_transaction(60)


@pytest.mark.servers
def test_the_end_of_a_partition_is_reported_so_that_the_lag_reaches_0(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """Committing the reported end of a partition brings the lag to 0.

    Transactions end with control records, which are not delivered as messages.
    """
    log = KafkaEventLog(kafka_settings, study)
    log.open()
    rows = [upsert(record_row(number, studyKey=study)) for number in range(1, 40)]
    log.publish(
        [(event, event.version + number) for number, event in enumerate(rows)],
        [],
        Cursor(study_key=study),
    )
    member = joined(kafka_settings, study)
    lag, end = GroupOffsets(kafka_settings, study), time.monotonic() + 150
    while lag.lag() and time.monotonic() < end:
        polled = member.poll()
        member.commit(polled.messages)
        member.consumer.commit(polled.ends)
    assert lag.lag() == 0
    member.consumer.close()


@pytest.mark.servers
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_member_that_joins_takes_partitions_and_gives_them_back(
    kafka_settings: KafkaSettings, study: str, protocol: str
) -> None:
    """A joining member takes over its share of the partitions and returns it when it leaves."""
    one = joined(kafka_settings, study, group_protocol=protocol)
    take(one, 0)
    other = joined(kafka_settings, study, group_protocol=protocol)
    shared = False
    end = time.monotonic() + 300
    while not shared and time.monotonic() < end:
        one.poll(10, 0.1)
        other.poll(10, 0.1)
        shared = len(one.owned) == len(other.owned) == 2
        assert not one.owned & other.owned
    assert shared
    other.consumer.commit({min(one.owned): Position(3, None)})  # not its own: a no-op
    other.consumer.close()
    assert other.callbacks[-1] == "revoked"
    while len(one.owned) < 4 and time.monotonic() < end:
        one.poll(10, 0.1)
    assert len(one.owned) == 4
    one.consumer.close()


@pytest.mark.servers
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_commit_that_is_started_while_revoking_ends_before_the_next_owner_reads(
    kafka_settings: KafkaSettings, study: str, protocol: str
) -> None:
    """The next owner starts at what the last one committed, when revoked or before it closed."""
    produce(kafka_settings, 400)
    one = joined(kafka_settings, study, group_protocol=protocol)
    one.commit_when_revoked = Position(70, None)
    wait_until(lambda: one.poll() and len(one.owned) == 4, 60, "all partitions")
    other = joined(kafka_settings, study, group_protocol=protocol)
    wait_until(lambda: one.poll() and other.poll() and len(other.owned) == 2, 60, "its half")
    assert set(other.starts.values()) == {70}
    one.commit_when_revoked = None
    one.consumer.commit(dict.fromkeys(one.owned, Position(70, None)))
    one.consumer.close()
    wait_until(lambda: other.poll() and len(other.owned) == 4, 60, "the rest")
    assert set(other.starts.values()) == {70}
    other.consumer.close()


@pytest.mark.servers
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_member_that_ends_before_it_takes_its_partitions_leaves_the_group_at_once(
    kafka_settings: KafkaSettings, study: str, protocol: str
) -> None:
    """A member that closes before it took its assignment leaves the group at once.

    Closing delivers the assignment. Asking for committed offsets then would hang, and the other
    members would wait.
    """
    member = joined(kafka_settings, study, group_protocol=protocol, close_timeout_seconds=30)
    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap_servers})

    def members() -> list[Any]:
        described = admin.describe_consumer_groups([study])[study].result(20)
        return [each for each in described.members if each.assignment.topic_partitions]

    wait_until(lambda: len(members()) == 1, 30, "the group gives it all partitions")
    began = time.monotonic()
    member.consumer.close()
    assert time.monotonic() - began < 5
    assert members() == []
    assert member.callbacks == []


@pytest.mark.servers
def test_a_partition_revoked_while_paused_is_not_paused_when_it_comes_back(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """A pause does not outlive the assignment of its partition."""
    one = joined(kafka_settings, study)
    take(one, 0)
    end = time.monotonic() + 300
    while len(one.owned) < 4 and time.monotonic() < end:
        one.poll(10, 0.1)
    one.consumer.pause(set(one.owned))
    other = joined(kafka_settings, study)
    while len(other.owned) < 2 and time.monotonic() < end:
        one.poll(10, 0.1)
        other.poll(10, 0.1)
    taken = set(other.owned)
    other.consumer.close()
    while len(one.owned) < 4 and time.monotonic() < end:
        one.poll(10, 0.1)
    produce(kafka_settings, 40)
    assert {each.partition for each in take(one, 20)} == taken
    one.consumer.close()


@pytest.mark.servers
def test_what_an_open_transaction_holds_back_is_no_gap(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """A committed offset beyond the last stable offset is not reported as a gap.

    The group has committed an offset beyond an open transaction, as a replay's plan may.
    """
    open_one = Producer(
        {"bootstrap.servers": kafka_settings.bootstrap_servers, "transactional.id": study}
    )
    open_one.init_transactions(20)
    open_one.begin_transaction()
    for _ in range(5):
        open_one.produce(kafka_settings.events_topic, b"v", b"k", 0)
    open_one.flush(20)
    offsets = GroupOffsets(kafka_settings, study)
    offsets.move({0: CommittedOffset(5)})
    member = joined(kafka_settings, study)
    end = time.monotonic() + 150
    while len(member.owned) < 4 and time.monotonic() < end:
        member.poll(10, 0.1)
    assert len(member.owned) == 4
    member.consumer.close()
    open_one.abort_transaction(20)


@pytest.mark.servers
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_static_member_that_restarts_gets_its_partitions_without_a_rebalance(
    kafka_settings: KafkaSettings, study: str, protocol: str
) -> None:
    """A static member that restarts gets its partitions back without a rebalance."""
    one = joined(kafka_settings, study, group_protocol=protocol, group_instance_id="one")
    other = joined(kafka_settings, study, group_protocol=protocol, group_instance_id="other")
    end = time.monotonic() + 300
    while not len(one.owned) == len(other.owned) == 2 and time.monotonic() < end:
        one.poll(10, 0.1)
        other.poll(10, 0.1)
    had, callback_count = set(other.owned), len(one.callbacks)
    assert len(had) == 2
    other.consumer.close()
    again = joined(kafka_settings, study, group_protocol=protocol, group_instance_id="other")
    while not again.owned and time.monotonic() < end:
        one.poll(10, 0.1)
        again.poll(10, 0.1)
    assert again.owned == had
    assert len(one.callbacks) == callback_count
    again.consumer.close()
    one.consumer.close()


@pytest.mark.servers
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_one_of_two_members_with_the_same_instance_id_ends_with_advice(
    kafka_settings: KafkaSettings, study: str, protocol: str
) -> None:
    """One of two members with the same instance id ends with an error that names the setting."""
    members = [
        joined(kafka_settings, study, group_protocol=protocol, group_instance_id="same")
        for _ in range(2)
    ]
    end = time.monotonic() + 200
    with pytest.raises(FatalError, match="SINK_GROUP_INSTANCE_ID"):
        while time.monotonic() < end:
            for member in members:
                member.poll(10, 0.1)
    for member in members:
        member.consumer.close()


@pytest.mark.servers
def test_a_gap_is_reported_and_skipped_only_on_request(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """A gap ends the member; it is skipped only with ``accept_gap``.

    The group's offset belongs to another topic of the same name.
    """
    produce(kafka_settings, 40)
    leave_offset(kafka_settings, study, 5, topic_id="another")
    late = joined(kafka_settings, study)
    end = time.monotonic() + 150
    with pytest.raises(FatalError, match="recreated"):
        while time.monotonic() < end:
            late.poll()
    late.consumer.close()
    bold = joined(kafka_settings, study, accept_gap=True)
    take(bold, 40)
    bold.consumer.close()


@pytest.mark.servers
def test_a_partition_that_ends_before_the_committed_offset_is_read_from_its_beginning(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """A partition that ends before the committed offset is read from its beginning.

    Its log was truncated. What was cut was applied, but the offsets are given to other events.
    """
    produce(kafka_settings, 40)
    leave_offset(kafka_settings, study, 500)
    late = joined(kafka_settings, study)
    take(late, 40)
    late.consumer.close()


def leave_offset(kafka: KafkaSettings, group_id: str, at: int, topic_id: str | None = None) -> None:
    """Commit an offset of partition 0, also one that does not exist, and leave the group."""
    consumer = KafkaEventConsumer(kafka, SinkSettings(group_id=group_id))
    take(Member(consumer), 40)
    consumer._starting.topic_id = topic_id or consumer._starting.topic_id
    consumer.commit({TopicPartition(kafka.events_topic, 0): Position(at, None)})
    consumer.close()


@pytest.mark.servers
def test_a_recreated_topic_is_read_from_its_beginning(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """A recreated topic is read from its first offset.

    The broker forgets the group's offsets together with the topic (Kafka 4.1).
    """
    produce(kafka_settings, 40)
    member = joined(kafka_settings, study)
    member.commit(take(member, 40))
    member.consumer.close()
    remake(kafka_settings)
    produce(kafka_settings, 80)
    again = joined(kafka_settings, study)
    take(again, 80)
    again.consumer.close()


def remake(kafka: KafkaSettings) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.delete_topics([kafka.events_topic]).values():
        future.result(20)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            Topics(kafka).ensure(create=True)
            Topics(kafka).partitions(kafka.events_topic)
        except ConnectorError:
            time.sleep(0.2)
        else:
            return


@pytest.mark.servers
def test_a_dead_letter_keeps_key_value_and_headers_and_says_why(
    kafka_settings: KafkaSettings,
) -> None:
    """A dead letter keeps its message's key, value and headers, and adds origin and reason."""
    at = TopicPartition("origin", 3)
    broken = message(at, 17, b"\xff key", b"\xff value", [("own", b"\x00"), ("none", None)])
    KafkaDeadLetterQueue(kafka_settings, "sink-a").publish([DeadLetter(broken, "value", "why")])
    (letter,) = read_to_end(kafka_settings, kafka_settings.dead_letter_topic)
    assert (letter.key(), letter.value()) == (broken.key, broken.value)
    headers: list[tuple[str, str | bytes | None]] = list(letter.headers() or [])  # type: ignore[arg-type]
    assert headers[:2] == broken.headers
    why = dict(headers)
    assert why["__connect.errors.topic"] == b"origin"
    assert (why["__connect.errors.partition"], why["__connect.errors.offset"]) == (b"3", b"17")
    assert why["__connect.errors.exception.class.name"] == b"value"
    assert why["imednet.error.attempts"] == b"1"


@pytest.mark.servers
def test_a_letter_that_is_too_large_with_its_reason_is_kept_by_reference(
    kafka_settings: KafkaSettings,
) -> None:
    """A letter that is too large once the reason is added is kept by reference."""
    at = TopicPartition("origin", 0)
    big = b"x" * 1_000_000
    letters = [
        message(at, 1, b"k", big, []),
        message(at, 2, b"k", b"v", [("own", big)]),
        message(at, 3, big, b"v", []),
    ]
    KafkaDeadLetterQueue(kafka_settings, "sink-a").publish(
        [DeadLetter(each, "value", "why") for each in letters]
    )
    kept = list(read_to_end(kafka_settings, kafka_settings.dead_letter_topic))
    assert [(each.key(), each.value()) for each in kept] == [
        (b"k", None), (b"k", None), (None, None),
    ]  # fmt: skip
    headers = [dict(each.headers() or []) for each in kept]
    assert [each["imednet.value.bytes"] for each in headers] == [b"1000000", b"1", b"1"]
    assert [each["__connect.errors.offset"] for each in headers] == [b"1", b"2", b"3"]


@pytest.mark.servers
def test_a_letter_that_only_the_broker_finds_too_large_is_kept_by_reference(
    kafka_settings: KafkaSettings,
) -> None:
    """A letter over the topic's own limit is kept by reference; those sent with it stay whole."""
    topic = kafka_settings.dead_letter_topic
    set_message_bytes_max(kafka_settings, topic, 20_000)
    at = TopicPartition("origin", 0)
    value = random.Random(1).randbytes(100_000)  # incompressible
    letters = [message(at, 1, b"k", value, []), message(at, 2, b"k", b"v", [])]
    KafkaDeadLetterQueue(kafka_settings, "sink-a").publish(
        [DeadLetter(each, "value", "why") for each in letters]
    )
    kept = {each.value() for each in read_to_end(kafka_settings, topic)}
    assert kept == {None, b"v"}
