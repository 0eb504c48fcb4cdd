"""A consumer group seen from outside: its committed offsets, its lag, and moving its offsets."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as RawTopicPartition
from confluent_kafka.admin import AdminClient

from connector.config import KafkaSettings
from connector.errors import ConnectorError, FatalError, RetryableError
from connector.kafka.failures import commit_errors, error_of, translate
from connector.kafka.offset_metadata import OffsetMetadata
from connector.kafka.reasons import made
from connector.kafka.settings import admin, group_observer
from connector.kafka.topics import Topics

_HAS_MEMBERS = {
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.NON_EMPTY_GROUP,
}


_POLL_SECONDS = 0.1


class CommittedOffset(NamedTuple):
    """A partition's committed offset (None if the group has committed none), and its metadata."""

    offset: int | None
    metadata: OffsetMetadata = OffsetMetadata()


class GroupOffsets:
    """One group's offsets on the events topic. Keeps one connection while the brokers answer.

    It does not use the admin client: when the response to ``list_consumer_group_offsets`` holds a
    coordinator error (a new broker), librdkafka 2.16.0 follows a null pointer in
    ``rd_kafka_handle_OffsetFetch`` and the process dies. A consumer that never subscribes makes
    the same request safely, and joins no group.
    """

    def __init__(self, settings: KafkaSettings, group_id: str) -> None:
        self._settings, self._group_id = settings, group_id
        self._topic = settings.events_topic
        count = Topics(settings).partitions(self._topic)
        self._partitions = [RawTopicPartition(self._topic, each) for each in range(count)]
        self._timeout = settings.request_timeout_seconds
        self._moved: list[KafkaError] | None = None
        """Errors of the latest `move`; None until it has ended."""
        self._consumer = self._connect()

    def _connect(self) -> Consumer:
        config = group_observer(self._settings, self._group_id)
        return made(Consumer, config | {"on_commit": self._on_commit})

    def _on_commit(self, error: KafkaError | None, partitions: list[RawTopicPartition]) -> None:
        self._moved = commit_errors(error, partitions)

    def lag(self) -> int:
        """Return the number of offsets not yet committed, over all partitions. Blocks.

        Raises:
            RetryableError: as `lag_by_partition`.
        """
        return sum(self.lag_by_partition().values())

    def lag_by_partition(self) -> dict[int, int]:
        """Return the number of offsets not yet committed, by partition. Blocks.

        Raises:
            RetryableError: the brokers do not answer, a partition has no leader, or the
                coordinator is not known yet.
        """
        try:
            ends = {
                each.partition: self._consumer.get_watermark_offsets(each, timeout=self._timeout)[1]
                for each in self._partitions
            }
        except KafkaException as exception:
            raise self._reconnect_after(exception, "read the group's lag") from exception
        committed = self.committed()
        return {number: end - (committed[number].offset or 0) for number, end in ends.items()}

    def committed(self) -> dict[int, CommittedOffset]:
        """Return the committed offsets by partition. Blocks.

        Raises:
            RetryableError: the brokers do not answer, or the coordinator is not known yet.
        """
        try:
            found = self._consumer.committed(self._partitions, timeout=self._timeout)
        except KafkaException as exception:
            raise self._reconnect_after(exception, "read committed offsets") from exception
        return {
            each.partition: CommittedOffset(
                each.offset if each.offset >= 0 else None,
                OffsetMetadata.parsed(each.metadata or ""),
            )
            for each in found
        }

    def _reconnect_after(self, exception: KafkaException, action: str) -> ConnectorError:
        """Replace the client, and return the error to raise.

        A broker that loses its session leads no partition until it re-registers. If no broker
        leads any, librdkafka 2.16.0 reports _UNKNOWN_PARTITION for minutes and forgets the
        brokers, so that even metadata requests get no response.
        """
        error = error_of(exception)
        self._consumer = self._connect()
        if error.code() == KafkaError._UNKNOWN_PARTITION:
            return RetryableError(f"Cannot {action}: partitions have no leader")
        return translate(error, action)

    def move(self, to: Mapping[int, CommittedOffset]) -> None:
        """Commit these offsets for a group without members; the broker refuses it otherwise.

        Blocks. A synchronous commit could block forever; see `KafkaEventConsumer.commit`.

        Raises:
            FatalError: the group has members.
            RetryableError: the brokers do not answer.
        """
        offsets = [
            RawTopicPartition(self._topic, partition, at.offset or 0, metadata=str(at.metadata))
            for partition, at in to.items()
        ]
        action = f"move the offsets of group {self._group_id}"
        self._moved = None
        end = time.monotonic() + self._timeout
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
            while self._moved is None and time.monotonic() < end:
                self._consumer.poll(_POLL_SECONDS)
        except KafkaException as exception:
            self._moved = [error_of(exception)]
        if self._moved is None:
            raise RetryableError(f"Cannot {action}: no response")
        for error in self._moved:
            if error.code() in _HAS_MEMBERS:
                raise FatalError(f"Cannot {action}: it has members. Stop them first")
            raise translate(error, action)

    def forget(self) -> None:
        """Delete the group, unless it has members or no longer exists."""
        client = made(AdminClient, admin(self._settings))  # it must outlive its futures
        deleted = client.delete_consumer_groups([self._group_id], request_timeout=self._timeout)
        try:
            deleted[self._group_id].result(self._timeout + 5.0)
        except TimeoutError as timeout:
            raise RetryableError(f"Cannot delete group {self._group_id}: no response") from timeout
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() not in {*_HAS_MEMBERS, KafkaError.GROUP_ID_NOT_FOUND}:
                raise translate(error, f"delete group {self._group_id}") from exception

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
