"""A consumer group from outside: where it is, how far behind, and moving it."""

from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as RawTopicPartition
from confluent_kafka.admin import AdminClient

from connector.config import KafkaSettings
from connector.errors import ConnectorError, FatalError, RetryableError
from connector.kafka.failures import error_of, translate
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


class CommittedOffset(NamedTuple):
    """What a group has committed of a partition: the next offset (None: nothing), and its note."""

    offset: int | None
    note: str


class GroupOffsets:
    """One group's offsets on the events topic; keeps its connection while that answers.

    Not by the admin client: when the answer to its ``list_consumer_group_offsets`` holds a
    coordinator error (a new broker), librdkafka 2.16.0 follows a null pointer in
    ``rd_kafka_handle_OffsetFetch`` and the process dies. A consumer that never subscribes asks
    the same safely, and joins nothing.
    """

    def __init__(self, settings: KafkaSettings, group_id: str) -> None:
        self._settings, self._group_id = settings, group_id
        self._topic = settings.events_topic
        count = Topics(settings).partitions(self._topic)
        self._partitions = [RawTopicPartition(self._topic, each) for each in range(count)]
        self._timeout = settings.request_timeout_seconds
        self._consumer = self._connected()

    def _connected(self) -> Consumer:
        return made(Consumer, group_observer(self._settings, self._group_id))

    def lag(self) -> int:
        """Offsets that the group has not committed; 0 when it has all. Blocks.

        Raises:
            RetryableError: the brokers do not answer, a partition has no leader, or the
                coordinator is not known yet.
        """
        try:
            ends = [
                self._consumer.get_watermark_offsets(each, timeout=self._timeout)[1]
                for each in self._partitions
            ]
        except KafkaException as exception:
            raise self._not_answered(exception, "reading the group's lag") from exception
        return sum(ends) - sum(each.offset or 0 for each in self.committed().values())

    def committed(self) -> dict[int, CommittedOffset]:
        """By partition. Blocks.

        Raises:
            RetryableError: the brokers do not answer, or the coordinator is not known yet.
        """
        try:
            found = self._consumer.committed(self._partitions, timeout=self._timeout)
        except KafkaException as exception:
            raise self._not_answered(exception, "reading committed offsets") from exception
        return {
            each.partition: CommittedOffset(
                each.offset if each.offset >= 0 else None, each.metadata or ""
            )
            for each in found
        }

    def _not_answered(self, exception: KafkaException, doing: str) -> ConnectorError:
        """The error to raise; the next question is a new client's.

        When no broker leads anything, as one that was cut off for its session does not until it
        is heard again, librdkafka 2.16.0 remembers it (it says _UNKNOWN_PARTITION for minutes)
        and forgets the brokers: then even asking for metadata has no answer.
        """
        error = error_of(exception)
        self._consumer = self._connected()
        if error.code() == KafkaError._UNKNOWN_PARTITION:
            return RetryableError(f"{doing}: partitions have no leader")
        return translate(error, doing)

    def move(self, to: Mapping[int, CommittedOffset]) -> None:
        """Commit these for a group without members; the broker itself refuses it otherwise.

        Raises:
            FatalError: the group has members.
            RetryableError: the brokers do not answer.
        """
        offsets = [
            RawTopicPartition(self._topic, partition, at.offset or 0, metadata=at.note)
            for partition, at in to.items()
        ]
        try:
            answer = self._consumer.commit(offsets=offsets, asynchronous=False)
            errors = [each.error for each in answer or [] if each.error is not None]
        except KafkaException as exception:
            errors = [error_of(exception)]
        for error in errors:
            if error.code() in _HAS_MEMBERS:
                raise FatalError(
                    f"group {self._group_id} has members: its offsets are theirs; stop them first"
                )
            raise translate(error, "moving the group's offsets")

    def forget(self) -> None:
        """Delete the group, unless it has members or is gone."""
        client = made(AdminClient, admin(self._settings))  # it must outlive its futures
        deleted = client.delete_consumer_groups([self._group_id], request_timeout=self._timeout)
        try:
            deleted[self._group_id].result(self._timeout + 5.0)
        except TimeoutError as late:
            raise RetryableError("deleting the replay's group: no answer") from late
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() not in {*_HAS_MEMBERS, KafkaError.GROUP_ID_NOT_FOUND}:
                raise translate(error, "deleting the replay's group") from exception

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
