"""A member of the consumer group: `connector.interfaces.EventConsumer` on confluent_kafka."""

import logging
import threading
from collections.abc import Mapping

import structlog
from confluent_kafka import OFFSET_BEGINNING, OFFSET_INVALID, Consumer, KafkaError, KafkaException
from confluent_kafka import Message as RawMessage
from confluent_kafka import TopicPartition as RawTopicPartition

from connector.config import KafkaSettings, SinkSettings
from connector.errors import FatalError, RetryableError
from connector.interfaces import Message, Polled, Position, TopicPartition
from connector.kafka.failures import error_of, translate
from connector.kafka.settings import group_consumer
from connector.serde import Headers

log = structlog.stdlib.get_logger("connector.kafka.consumer")

_PASSING = {  # librdkafka recovers from these by itself; poll goes on
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}
_NOT_COMMITTED = {  # a rebalance is under way: whoever owns the partition reads it again
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._NO_OFFSET,
    KafkaError.STALE_MEMBER_EPOCH,
}
_COMMITTED_TRIES = 3
_GAP = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}


class KafkaEventConsumer:
    """See `connector.interfaces.EventConsumer` for the contract of each call."""

    def __init__(self, kafka: KafkaSettings, sink: SinkSettings) -> None:
        self._request_timeout = kafka.request_timeout_seconds
        self._close_timeout = sink.close_timeout_seconds
        self._owned: set[TopicPartition] = set()
        self._paused = False
        self._held: list[RetryableError] = []
        self._consumer = Consumer(
            group_consumer(kafka, sink), logger=logging.getLogger("confluent_kafka")
        )
        self._consumer.subscribe(
            [kafka.events_topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    def poll(self, max_messages: int, timeout_seconds: float) -> Polled:
        """Wait for the first message only, then take what is already here.

        An error that passes never hides messages that came with it: the client's position is past
        them already, so they are handed over first, and the error is raised by the next call.
        """
        if self._held:
            raise self._held.pop()
        raw = self._consume(1, timeout_seconds)
        if raw and max_messages > 1:
            raw += self._consume(max_messages - 1, 0)
        messages: list[Message] = []
        ends: dict[TopicPartition, Position] = {}
        for item in raw:
            error = item.error()
            if error is None:
                messages.append(_message(item))
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[_partition(item)] = Position(item.offset() or 0, None)
            else:
                self._hold(item, error)
        # A callback may have taken a partition away after its messages were fetched.
        polled = Polled(
            [message for message in messages if message.partition in self._owned],
            {partition: at for partition, at in ends.items() if partition in self._owned},
        )
        if self._held and not polled.messages and not polled.ends:
            raise self._held.pop()
        return polled

    def _hold(self, item: RawMessage, error: KafkaError) -> None:
        try:
            _raise_unless_passing(item, error)
        except RetryableError as passing:
            self._held = [passing]

    def owns(self, partition: TopicPartition) -> bool:
        """Whether the partition is assigned to this member now."""
        return partition in self._owned

    def wait_paused(self, seconds: float) -> None:
        """Poll without consuming, so that the group does not take the member for dead."""
        self._paused = True
        self._consumer.pause(_raw_partitions(self._owned))
        try:
            for item in self._consume(1, seconds):
                error = item.error()
                if error is None:  # cannot be: every partition is paused
                    raise FatalError("a paused partition delivered a message")
                if error.code() != KafkaError._PARTITION_EOF:
                    _raise_unless_passing(item, error)
        except RetryableError:
            pass  # waiting is what the caller does already
        finally:
            self._paused = False
            self._consumer.resume(_raw_partitions(self._owned))

    def commit(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Commit synchronously, with the leader epoch, what is still owned."""
        offsets = [
            RawTopicPartition(
                partition.topic,
                partition.partition,
                at.offset,
                leader_epoch=-1 if at.leader_epoch is None else at.leader_epoch,
            )
            for partition, at in positions.items()
            if partition in self._owned
        ]
        if not offsets:
            return
        try:
            answer = self._consumer.commit(offsets=offsets, asynchronous=False)
            errors = [each.error for each in answer or [] if each.error is not None]
        except KafkaException as exception:
            errors = [error_of(exception)]
        for error in errors:
            if error.code() not in _NOT_COMMITTED:
                raise translate(error, "committing offsets")
            log.info("offsets not committed during a rebalance", error=error.name())

    def close(self) -> None:
        """Leave the group, in a thread of its own: the client's close can hang."""
        closing = threading.Thread(target=self._consumer.close, daemon=True)
        closing.start()
        closing.join(self._close_timeout)
        if closing.is_alive():
            log.warning("the group was not left in time", seconds=self._close_timeout)

    def _consume(self, most: int, timeout_seconds: float) -> list[RawMessage]:
        try:
            return self._consumer.consume(most, timeout_seconds)
        except KafkaException as exception:
            # The client drops what this call had fetched: only a new start reads it again.
            raise FatalError(f"consuming: {error_of(exception).name()}: start again") from exception

    def _on_assign(self, consumer: Consumer, partitions: list[RawTopicPartition]) -> None:
        """Begin where the group committed; at the beginning where it never has."""
        committed = self._committed(consumer, partitions)
        for partition in committed:
            if partition.offset == OFFSET_INVALID:
                partition.offset = OFFSET_BEGINNING
        consumer.incremental_assign(committed)
        if self._paused:
            consumer.pause(partitions)
        self._owned.update(_partition(partition) for partition in partitions)
        log.info("partitions assigned", partitions=[p.partition for p in partitions])

    def _committed(
        self, consumer: Consumer, partitions: list[RawTopicPartition]
    ) -> list[RawTopicPartition]:
        """Where the group is. To guess would be to lose or to jump: rather the program ends.

        Raises:
            FatalError: the coordinator does not say, also not when asked again.
        """
        for _ in range(_COMMITTED_TRIES):
            try:
                answer = consumer.committed(partitions, timeout=self._request_timeout)
            except KafkaException as exception:
                log.warning("committed offsets unknown", error=error_of(exception).name())
                continue
            if all(each.error is None for each in answer):
                return answer
        raise FatalError("the group's committed offsets cannot be read: start again")

    def _on_revoke(self, consumer: Consumer, partitions: list[RawTopicPartition]) -> None:
        """Called within `poll`, so nothing is in flight: what was applied was committed."""
        consumer.incremental_unassign(partitions)
        self._owned.difference_update(_partition(partition) for partition in partitions)
        log.info("partitions revoked", partitions=[p.partition for p in partitions])


def _partition(of: RawMessage | RawTopicPartition) -> TopicPartition:
    if isinstance(of, RawTopicPartition):
        return TopicPartition(of.topic, of.partition)
    return TopicPartition(of.topic() or "", of.partition() or 0)


def _raw_partitions(partitions: set[TopicPartition]) -> list[RawTopicPartition]:
    return [RawTopicPartition(each.topic, each.partition) for each in partitions]


def list_headers(raw: RawMessage) -> Headers:
    """The message's headers as pairs (the client's type also allows what it never returns)."""
    headers = raw.headers() or []
    return headers if isinstance(headers, list) else list(headers.items())


def _message(raw: RawMessage) -> Message:
    _, timestamp_ms = raw.timestamp()
    return Message(
        partition=_partition(raw),
        offset=raw.offset() or 0,
        leader_epoch=raw.leader_epoch(),
        timestamp_ms=timestamp_ms,
        key=raw.key(),
        value=raw.value(),
        headers=list_headers(raw),
    )


def _raise_unless_passing(item: RawMessage, error: KafkaError) -> None:
    if error.code() in _PASSING:
        return
    if error.code() in _GAP:
        raise FatalError(
            f"the group's offset {item.offset()} of {item.topic()}[{item.partition()}] is not in"
            " the topic any more: events may be missing. Compare with the API, then reset the"
            " group's offset to go on"
        )
    raise translate(error, "consuming")
