"""A consumer group member: `connector.interfaces.EventConsumer` on confluent_kafka."""

import contextlib
import logging
import threading
from collections.abc import Collection, Mapping

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import Message as RawMessage
from confluent_kafka import TopicPartition as RawTopicPartition

from connector.config import KafkaSettings, SinkSettings
from connector.errors import FatalError, RetryableError
from connector.interfaces import (
    AssignmentListener,
    CommitResult,
    Message,
    PartitionStart,
    PollResult,
    Position,
    TopicPartition,
)
from connector.kafka.failures import OUT_OF_LOG, commit_errors, error_of, translate
from connector.kafka.reasons import made
from connector.kafka.settings import group_consumer
from connector.kafka.start_positions import StartPositions
from connector.kafka.truncation import raw_epoch

log = structlog.stdlib.get_logger("connector.kafka.consumer")

_IGNORED = {  # librdkafka recovers from these by itself, so polling continues
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}
_REBALANCING = {  # the commit failed, and the partition's new owner reads the messages again
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._NO_OFFSET,
    KafkaError.STALE_MEMBER_EPOCH,
}


class KafkaEventConsumer:
    """See `connector.interfaces.EventConsumer` for the contract of each call."""

    def __init__(self, kafka: KafkaSettings, sink: SinkSettings) -> None:
        self._kafka = kafka
        self._topic = kafka.events_topic
        self._close_timeout = sink.close_timeout_seconds / 3  # a third each for writes and commit
        self._owned: dict[int, TopicPartition] = {}
        """Assigned partitions of the one topic, by number."""
        self._sought: dict[int, int] = {}
        """The offset of each partition's last seek."""
        self._deferred: list[RetryableError] = []
        """At most one: the next `poll` raises it, after the messages that came with it."""
        self._commits: list[CommitResult] = []
        """Results that the next `poll` returns."""
        self._is_closing = False
        self._starting = StartPositions(kafka, sink.group_id, accept_gap=sink.accept_gap)
        self._consumer = made(
            Consumer,
            group_consumer(kafka, sink) | {"on_commit": self._on_commit},
            logger=logging.getLogger("confluent_kafka"),
        )

    def subscribe(self, listener: AssignmentListener) -> None:
        """See `connector.interfaces.EventConsumer`; calls the listener within poll and close."""

        def on_assign(consumer: Consumer, partitions: list[RawTopicPartition]) -> None:
            if self._is_closing:
                return  # a closing client gets no responses, and returns the partitions itself
            starts: dict[TopicPartition, PartitionStart] = {}
            if partitions:
                positions, starts = self._starting.positions(consumer, partitions)
                consumer.incremental_assign(positions)
            self._owned.update((each.partition, each) for each in starts)
            listener.assigned(starts)
            offsets = {each.partition: start.offset for each, start in starts.items()}
            log.info("partitions assigned", offsets=offsets)

        def on_revoke(consumer: Consumer, partitions: list[RawTopicPartition]) -> None:
            if owned := self._owned_of(partitions):
                listener.revoked(owned)
            self._unassign(consumer, partitions)
            log.info("partitions revoked", partitions=[p.partition for p in partitions])

        def on_lost(consumer: Consumer, partitions: list[RawTopicPartition]) -> None:
            if owned := self._owned_of(partitions):
                listener.lost(owned)
            self._unassign(consumer, partitions)
            log.warning("partitions lost", partitions=[p.partition for p in partitions])

        self._consumer.subscribe(
            [self._topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost
        )

    def _owned_of(self, partitions: list[RawTopicPartition]) -> list[TopicPartition]:
        return [_partition(each) for each in partitions if each.partition in self._owned]

    def _unassign(self, consumer: Consumer, partitions: list[RawTopicPartition]) -> None:
        for each in partitions:
            self._owned.pop(each.partition, None)
            self._sought.pop(each.partition, None)
            self._starting.forget(each.partition)
        # A pause outlives the assignment: a partition assigned again would stay paused.
        consumer.resume(partitions)
        consumer.incremental_unassign(partitions)

    def poll(self, max_messages: int, timeout_seconds: float) -> PollResult:
        """Wait for the first message only, then return it with those already fetched.

        A transient error never hides messages that came with it: the client's position is already
        past them, so they are returned first, and the next call raises the error.
        """
        if self._deferred:
            raise self._deferred.pop()
        raw = self._consume(1, timeout_seconds)
        if raw and max_messages > 1:
            owned = dict(self._owned)
            more = self._consume(max_messages - 1, 0)
            # A partition revoked and assigned again meanwhile is read from its committed offset.
            raw = [each for each in raw if self._is_unchanged(owned, each.partition())] + more
        messages: list[Message] = []
        ends: dict[TopicPartition, Position] = {}
        for item in raw:
            error = item.error()
            if error is None:
                # A partition may have been revoked in a callback after its messages were fetched.
                if (partition := self._owned.get(item.partition() or 0)) is not None:
                    messages.append(message_of(item, partition))
            elif error.code() != KafkaError._PARTITION_EOF:
                self._defer(item, error)
            elif (partition := self._owned.get(item.partition() or 0)) is not None:
                ends[partition] = Position(item.offset() or 0, None)
        if self._deferred and not messages and not ends:
            raise self._deferred.pop()
        commits, self._commits = self._commits, []
        return PollResult(messages, ends, commits)

    def _is_unchanged(self, owned: Mapping[int, TopicPartition], number: int | None) -> bool:
        return owned.get(number or 0) is self._owned.get(number or 0)

    def _defer(self, item: RawMessage, error: KafkaError) -> None:
        try:
            _raise_unless_ignored(item, error)
        except RetryableError as retryable:
            self._deferred = [retryable]

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `connector.interfaces.EventConsumer`. Prefetched messages are fetched again."""
        self._consumer.pause(_raw_partitions(partitions))

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See `connector.interfaces.EventConsumer`.

        Resuming does not wake the client's fetcher (2.16.1), which sleeps for up to a second while
        all partitions of a broker are paused. Seeking does, to the position it has anyway.
        """
        raw = _raw_partitions(partitions)
        self._consumer.resume(raw)
        for each in self._consumer.position(raw):
            # A position is unknown between a seek and the next message.
            offset = each.offset if each.offset >= 0 else self._sought.get(each.partition)
            if offset is not None:
                # Without the position's epoch, whose validation takes the broker a long poll of the
                # other partitions (100 ms). `check_topic` finds a truncated log, too.
                with contextlib.suppress(KafkaException):
                    self._consumer.seek(RawTopicPartition(each.topic, each.partition, offset))
                    self._sought[each.partition] = offset

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See `connector.interfaces.EventConsumer`."""
        # With an epoch, so that the client notices a log that is truncated from now on.
        epoch = self._starting.epoch(partition, offset)
        raw = RawTopicPartition(partition.topic, partition.partition, offset, leader_epoch=epoch)
        # Resume before seeking: resuming moves the position to where the partition was paused.
        self._consumer.resume([raw])
        try:
            self._consumer.seek(raw)
            self._sought[partition.partition] = offset
        except KafkaException as exception:
            self._consumer.pause([raw])
            raise RetryableError(
                f"Cannot seek {partition.topic}[{partition.partition}] to offset {offset}:"
                f" {error_of(exception).name()}"
            ) from exception

    def check_topic(self) -> None:
        """See `connector.interfaces.EventConsumer`."""
        self._starting.check_log(self._topic)

    def commit(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Start to commit, with leader epoch and topic id; `poll` serves the result's callback.

        A synchronous commit would block until the coordinator answers, without a poll: as long as
        it refuses the login (more than 150 s measured with librdkafka 2.16.1).
        """
        offsets = [
            RawTopicPartition(
                partition.topic,
                partition.partition,
                at.offset,
                metadata=self._starting.metadata(partition, at),
                leader_epoch=raw_epoch(at),
            )
            for partition, at in positions.items()
            if partition.partition in self._owned
        ]
        if not offsets:
            self._commits.append(CommitResult({}))
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exception:
            self._on_commit(error_of(exception), offsets)

    def _on_commit(self, error: KafkaError | None, partitions: list[RawTopicPartition]) -> None:
        self._commits.append(_commit_result(error, partitions))

    def close(self) -> None:
        """Finish commits and leave the group, in a separate thread: the client's close can hang."""
        self._is_closing = True
        closer = threading.Thread(target=self._consumer.close, daemon=True)
        closer.start()
        closer.join(self._close_timeout)
        if closer.is_alive():
            log.warning("leaving the group timed out", seconds=self._close_timeout)
        for error in {str(each.error) for each in self._commits if each.error is not None}:
            log.warning("offsets not committed", reason=error)

    def _consume(self, most: int, timeout_seconds: float) -> list[RawMessage]:
        try:
            return self._consumer.consume(most, timeout_seconds)
        except KafkaException as exception:
            # The client drops the messages that this call fetched: only a restart reads them again.
            raise FatalError(
                f"Cannot consume {self._topic}: {error_of(exception).name()}. Restart the command"
            ) from exception


def _partition(raw: RawTopicPartition) -> TopicPartition:
    return TopicPartition(raw.topic, raw.partition)


def _raw_partitions(partitions: Collection[TopicPartition]) -> list[RawTopicPartition]:
    return [RawTopicPartition(each.topic, each.partition) for each in partitions]


def message_of(raw: RawMessage, partition: TopicPartition) -> Message:
    """Wrap the client's message; headers and timestamp are converted only on request."""
    return Message(partition, raw.offset() or 0, raw.key(), raw.value(), raw)


def _commit_result(error: KafkaError | None, partitions: list[RawTopicPartition]) -> CommitResult:
    """The result of a commit that failed as a whole, or for some of these partitions."""
    offsets = {
        _partition(each): each.offset for each in partitions if error is None and each.error is None
    }
    errors = commit_errors(error, partitions)
    failed = [each for each in errors if each.code() not in _REBALANCING]
    if errors and not failed:
        log.info("offsets not committed during a rebalance", error=errors[0].name())
    return CommitResult(offsets, translate(failed[0], "commit offsets") if failed else None)


def _raise_unless_ignored(item: RawMessage, error: KafkaError) -> None:
    if error.code() in _IGNORED:
        return
    if error.code() in OUT_OF_LOG:
        raise FatalError(
            f"Events may be missing: offset {item.offset()} is no longer in"
            f" {item.topic()}[{item.partition()}]. Nothing was skipped. Restart to see which"
            " offsets are missing"
        )
    raise translate(error, f"consume {item.topic()}")
