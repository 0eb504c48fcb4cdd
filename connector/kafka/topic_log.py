"""A topic as a log: its bounds, and the messages between two offsets. Belongs to no group."""

import logging
import time
from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, IsolationLevel, KafkaError
from confluent_kafka import Message as RawMessage
from confluent_kafka import TopicPartition as RawTopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from connector.config import KafkaSettings
from connector.errors import RetryableError
from connector.interfaces import Range
from connector.kafka.failures import answer_of, translate
from connector.kafka.reasons import made
from connector.kafka.settings import admin, log_reader
from connector.kafka.topics import Topics
from connector.model.cursor import TopicMark

# Another study's source may have died inside a transaction; the broker ends it after
# transaction.timeout.ms (60 s), and until then committed messages behind it cannot be read.
_STUCK_SECONDS_MAX = 90.0


def read_to_end(settings: KafkaSettings, topic: str) -> Iterator[RawMessage]:
    """Every committed message that the topic holds now, each partition in order.

    Raises:
        RetryableError: the brokers do not answer, or a transaction stays open.
    """
    return read_ranges(settings, topic, bounds(settings, topic))


def read_ranges(
    settings: KafkaSettings, topic: str, ranges: Mapping[int, Range]
) -> Iterator[RawMessage]:
    """Every committed message within the ranges, by partition, each partition in order.

    Raises:
        RetryableError: the brokers do not answer, or a transaction stays open.
    """
    unread = {partition for partition, (start, end) in ranges.items() if end > start}
    consumer = made(Consumer, log_reader(settings), logger=logging.getLogger("confluent_kafka"))
    try:
        consumer.assign([RawTopicPartition(topic, each, ranges[each].start) for each in unread])
        deadline = time.monotonic() + _STUCK_SECONDS_MAX
        while unread:
            for message in consumer.consume(1000, 0.5):
                error, partition = message.error(), message.partition() or 0
                offset, end = message.offset() or 0, ranges[partition].end
                if error is None:
                    deadline = time.monotonic() + _STUCK_SECONDS_MAX
                    if offset < end:
                        yield message
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise translate(error, f"reading {topic}")
                if offset + (error is None) >= end:
                    unread.discard(partition)
            if time.monotonic() > deadline:
                raise RetryableError(f"reading {topic}: a transaction stays open")
    finally:
        consumer.close()


def bounds(settings: KafkaSettings, topic: str) -> dict[int, Range]:
    """Each partition's first offset and the next one to be written.

    Open transactions hold back what lies behind them, so the end is the high watermark, not the
    last stable offset: ending there could miss what is committed already.

    Raises:
        RetryableError: the brokers do not answer.
        FatalError: there is no such topic.
    """
    firsts = _offsets(settings, topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    ends = _offsets(settings, topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    return {partition: Range(first, ends[partition]) for partition, first in firsts.items()}


def mark_of(settings: KafkaSettings, topic: str) -> TopicMark:
    """The topic as it is now.

    Raises:
        RetryableError: the brokers do not answer, or there is no such topic.
    """
    there = bounds(settings, topic)
    ranges = [there[partition] for partition in sorted(there)]
    return TopicMark(
        topic_id=Topics(settings).topic_id(topic),
        starts=tuple(each.start for each in ranges),
        ends=tuple(each.end for each in ranges),
    )


def offsets_at(settings: KafkaSettings, topic: str, since_ms: int) -> dict[int, int]:
    """Each partition's first offset whose message is not older; without those where all are.

    Raises:
        RetryableError: the brokers do not answer.
        FatalError: there is no such topic.
    """
    found = _offsets(settings, topic, OffsetSpec.for_timestamp(since_ms))
    return {partition: offset for partition, offset in found.items() if offset >= 0}


def _offsets(settings: KafkaSettings, topic: str, wanted: OffsetSpec) -> dict[int, int]:
    count = Topics(settings).partitions(topic)
    timeout = settings.request_timeout_seconds
    client = made(AdminClient, admin(settings))  # it must outlive its futures
    futures = client.list_offsets(
        {RawTopicPartition(topic, each): wanted for each in range(count)},
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=timeout,
    )
    doing = f"reading offsets of {topic}"
    return {
        each.partition: answer_of(future, timeout, doing).offset for each, future in futures.items()
    }
