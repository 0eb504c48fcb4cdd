"""A topic read as a log, outside any group: its bounds, and the messages between two offsets."""

import logging
import time
from collections.abc import Collection, Iterator, Mapping

from confluent_kafka import Consumer, IsolationLevel, KafkaError
from confluent_kafka import Message as RawMessage
from confluent_kafka import TopicPartition as RawTopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from connector.config import KafkaSettings
from connector.errors import RetryableError
from connector.interfaces import Range
from connector.kafka.failures import answer_of, translate
from connector.kafka.reasons import made
from connector.kafka.settings import admin, log_reader
from connector.kafka.topics import Topics
from connector.model.cursor import TopicMark

# Another study's source may have died within a transaction. The broker aborts it after
# transaction.timeout.ms (60 s); until then, committed messages behind it cannot be read.
_STALLED_SECONDS_MAX = 90.0


class OpenTransactionError(RetryableError):
    """A transaction that has not ended keeps readers from what follows."""


def read_to_end(settings: KafkaSettings, topic: str) -> Iterator[RawMessage]:
    """Yield every committed message that the topic holds now, each partition in order.

    Raises:
        RetryableError: the brokers do not answer.
        OpenTransactionError: a transaction stays open.
    """
    return read_ranges(settings, topic, bounds(settings, topic))


def newest_by_key(settings: KafkaSettings, topic: str) -> dict[bytes, RawMessage]:
    """Return the last message with a value of each key in a compacted topic.

    Raises:
        RetryableError: as `read_to_end`.
    """
    found: dict[bytes, RawMessage] = {}
    for raw in read_to_end(settings, topic):
        if (key := raw.key()) is not None and raw.value() is not None:
            found[key] = raw
    return found


def read_ranges(
    settings: KafkaSettings, topic: str, ranges: Mapping[int, Range]
) -> Iterator[RawMessage]:
    """Yield every committed message within the ranges, each partition in order.

    Raises:
        RetryableError: the brokers do not answer.
        OpenTransactionError: a transaction stays open.
    """
    unread = {partition for partition, (start, end) in ranges.items() if end > start}
    consumer = made(Consumer, log_reader(settings), logger=logging.getLogger("confluent_kafka"))
    try:
        consumer.assign([RawTopicPartition(topic, each, ranges[each].start) for each in unread])
        deadline = time.monotonic() + _STALLED_SECONDS_MAX
        while unread:
            has_progress = False
            for message in consumer.consume(1000, 0.5):
                error, partition = message.error(), message.partition() or 0
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise translate(error, f"read topic {topic}")
                if partition not in unread:
                    continue  # it was read to its end, and may get new messages all the time
                offset, end = message.offset() or 0, ranges[partition].end
                if error is None:
                    has_progress = True
                    if offset < end:
                        yield message
                if offset + (error is None) >= end:
                    has_progress = True
                    unread.discard(partition)
                    consumer.pause([RawTopicPartition(topic, partition)])
            if has_progress:  # after the reader has dealt with them, which may have taken long
                deadline = time.monotonic() + _STALLED_SECONDS_MAX
            if unread and time.monotonic() > deadline:
                raise OpenTransactionError(
                    f"Cannot read topic {topic}: a transaction stays open. If this lasts, find and"
                    " abort it with Kafka's kafka-transactions.sh (find-hanging, abort)"
                )
    finally:
        consumer.close()


def bounds(settings: KafkaSettings, topic: str) -> dict[int, Range]:
    """Return each partition's first offset and high watermark.

    The end is the high watermark and not the last stable offset: an open transaction holds back
    messages behind it that are already committed, and they must not be missed.

    Raises:
        RetryableError: the brokers do not answer, or the topic is missing.
    """
    limits = enumerate(zip(*_limits(settings, topic), strict=True))
    return {partition: Range(first.offset, end.offset) for partition, (first, end) in limits}


def mark_of(settings: KafkaSettings, topic: str) -> TopicMark:
    """Return the topic's mark as of now.

    Raises:
        RetryableError: the brokers do not answer, or the topic is missing.
    """
    topic_id = Topics(settings).topic_id(topic)
    firsts, ends = _limits(settings, topic)
    return TopicMark(
        topic_id=topic_id,
        starts=tuple(each.offset for each in firsts),
        ends=tuple(each.offset for each in ends),
        epochs=tuple(_epoch(each) for each in ends),
    )


class LeaderEpochs:
    """Asks for the leader epochs of a topic's partitions. Keeps one connection."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._admin = made(AdminClient, admin(settings))

    def now(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the leader epochs of these partitions; -1: unknown. Blocks.

        Raises:
            RetryableError: the brokers do not answer, or a partition has no leader.
        """
        spec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        found = _listed(self._admin, self._settings, self._topic, spec, partitions)
        return {partition: _epoch(at) for partition, at in found.items()}


def _epoch(found: ListOffsetsResultInfo) -> int:
    return -1 if found.leader_epoch is None else int(found.leader_epoch)


def offsets_at(settings: KafkaSettings, topic: str, since_ms: int) -> dict[int, int]:
    """Return each partition's first offset at or after a time; omit partitions without one.

    Raises:
        RetryableError: the brokers do not answer, or the topic is missing.
    """
    partitions = range(Topics(settings).partitions(topic))
    client = made(AdminClient, admin(settings))  # it must outlive its futures
    found = _listed(client, settings, topic, OffsetSpec.for_timestamp(since_ms), partitions)
    return {partition: at.offset for partition, at in found.items() if at.offset >= 0}


def _limits(settings: KafkaSettings, topic: str) -> list[list[ListOffsetsResultInfo]]:
    """The first offsets and the ends, each by partition."""
    partitions = range(Topics(settings).partitions(topic))
    client = made(AdminClient, admin(settings))  # it must outlive its futures
    found = [
        _listed(client, settings, topic, spec, partitions)
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
    ]
    return [[each[partition] for partition in partitions] for each in found]


def _listed(
    client: AdminClient,
    settings: KafkaSettings,
    topic: str,
    spec: OffsetSpec,
    partitions: Collection[int],
) -> dict[int, ListOffsetsResultInfo]:
    timeout = settings.request_timeout_seconds
    futures = client.list_offsets(
        {RawTopicPartition(topic, each): spec for each in partitions},
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=timeout,
    )
    action = f"read the offsets of topic {topic}"
    return {each.partition: answer_of(future, timeout, action) for each, future in futures.items()}
