"""The events topic as a transactional log: `connector.interfaces.EventLog` on confluent_kafka."""

import logging
import time
from collections.abc import Iterator, Sequence

from confluent_kafka import (
    KafkaError,
    KafkaException,
    Producer,
)

from connector.config import KafkaSettings
from connector.cursor import Cursor
from connector.errors import ConnectorError, InvalidEventError, RetryableError
from connector.events import Identity, Known, RecordEvent
from connector.interfaces import InvalidRow
from connector.kafka.consumer import list_headers
from connector.kafka.dead_letters import invalid_row_headers
from connector.kafka.failures import FENCED, error_of, translate
from connector.kafka.partitioner import partition_of
from connector.kafka.settings import transactional_producer
from connector.kafka.topic_log import read_to_end
from connector.kafka.topics import Topics
from connector.serde import Headers, encode, known_state

_PRODUCE_ROOM_SECONDS = 30.0
_BATCH_OVERHEAD_BYTES = 300
"""What a batch of one message takes beside key, value and headers, generously."""


class KafkaEventLog:
    """See `connector.interfaces.EventLog` for the contract of each call."""

    def __init__(self, settings: KafkaSettings, study_key: str) -> None:
        self._settings = settings
        self._study_key = study_key
        self._producer: Producer | None = None
        self._partitions = self._letter_bytes_max = 0

    def open(self) -> Cursor | None:
        """Fence first, read then: what a dead source left open is aborted by it."""
        topics, events_topic = Topics(self._settings), self._settings.events_topic
        self._partitions = topics.partitions(events_topic)
        config = transactional_producer(self._settings, self._study_key)
        self._letter_bytes_max = topics.message_bytes_max(self._settings.dead_letter_topic)
        # What the brokers would refuse is refused here, alone, not with its transaction.
        config["message.max.bytes"] = max(
            1000, topics.message_bytes_max(events_topic) - _BATCH_OVERHEAD_BYTES
        )
        self._producer = Producer(config, logger=_logger())
        try:
            self._producer.init_transactions(self._settings.request_timeout_seconds)
        except KafkaException as exception:
            raise translate(error_of(exception), "opening the event log") from exception
        cursor = None
        for message in read_to_end(self._settings, self._settings.cursors_topic):
            if message.key() == self._study_key.encode() and message.value() is not None:
                cursor = Cursor.from_bytes(message.value() or b"")
        return cursor

    def publish(
        self,
        events: Sequence[tuple[RecordEvent, int | None]],
        invalid: Sequence[InvalidRow],
        cursor: Cursor,
    ) -> None:
        """One transaction over the three topics."""
        if self._producer is None:
            raise RetryableError("the event log is not open")
        producer, began = self._producer, time.monotonic()
        try:
            producer.begin_transaction()
            for event, subject_id in events:
                self._produce_event(producer, event, subject_id)
            for row in invalid:
                self._produce_invalid(producer, row)
            _produce(
                producer,
                self._settings.cursors_topic,
                self._study_key.encode(),
                cursor.to_bytes(),
                [],
            )
            producer.commit_transaction(self._settings.request_timeout_seconds)
        except KafkaException as exception:
            # Whether it was committed is found out by `open`, which ends the transaction either
            # way before it reads: no abort is needed here.
            self._producer = None
            lasted = time.monotonic() - began
            raise self._translated(_cause(producer, error_of(exception)), lasted) from exception

    def _translated(self, error: KafkaError, lasted_seconds: float) -> ConnectorError:
        """What a failed transaction means; a new producer can go on after all but fencing."""
        doing = f"publishing a transaction: {error.name()}"
        if error.code() in FENCED:
            if lasted_seconds <= self._settings.transaction_timeout_seconds:
                return translate(error, "publishing a transaction")
            # Fenced by the brokers, not by another source; if there is one after all, one of
            # the two is fenced again, within a transaction of the usual length.
            return RetryableError(
                f"{doing}: it took {lasted_seconds:.0f} s, so the brokers ended it"
            )
        if error.fatal():
            return RetryableError(f"{doing}: a new producer is needed")
        return translate(error, "publishing a transaction")

    def replay(self) -> Iterator[tuple[Identity, Known]]:
        """Messages that are not events of the study are passed over: the sink reports them."""
        for message in read_to_end(self._settings, self._settings.events_topic):
            try:
                identity = Identity.from_key(message.key())
                if identity.study_key == self._study_key:
                    yield (
                        identity,
                        known_state(
                            message.key(),
                            message.value(),
                            list_headers(message),
                            timestamp_ms=message.timestamp()[1],
                            now_ms=time.time_ns() // 1_000_000,
                        ),
                    )
            except InvalidEventError:
                continue

    def _produce_invalid(self, producer: Producer, row: InvalidRow) -> None:
        topic, headers = self._settings.dead_letter_topic, invalid_row_headers(row)
        size = len(row.raw) + sum(len(name) + len(value or b"") for name, value in headers)
        if size + _BATCH_OVERHEAD_BYTES <= self._letter_bytes_max:
            _produce(producer, topic, row.entity.encode(), row.raw, headers)
        else:
            headers.append(("imednet.value.bytes", str(len(row.raw)).encode()))
            _produce(producer, topic, row.entity.encode(), None, headers)

    def _produce_event(
        self, producer: Producer, event: RecordEvent, subject_id: int | None
    ) -> None:
        key, value, headers = encode(event)
        partition = partition_of(event.identity, subject_id, self._partitions)
        try:
            _produce(producer, self._settings.events_topic, key, value, headers, partition)
        except KafkaException as exception:
            if error_of(exception).code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise
            # Not cut, not lost: by reference, with the size, for a person to see.
            headers = [
                *_oversize_headers(event, self._settings.events_topic),
                ("imednet.value.bytes", str(len(value)).encode()),
            ]
            _produce(producer, self._settings.dead_letter_topic, key, None, headers)


def _cause(producer: Producer, error: KafkaError) -> KafkaError:
    """Why the client cannot go on: ``produce`` says only that it cannot."""
    if error.code() != KafkaError._FATAL:
        return error
    try:
        producer.begin_transaction()
    except KafkaException as exception:
        return error_of(exception)
    return error


def _oversize_headers(event: RecordEvent, topic: str) -> Headers:
    row = InvalidRow(event.study_key, event.entity, b"", "too_large")
    return [*invalid_row_headers(row), ("__connect.errors.topic", topic.encode())]


def _produce(
    producer: Producer,
    topic: str,
    key: bytes,
    value: bytes | None,
    headers: Headers,
    partition: int = -1,
) -> None:
    """Queue one message; waits for room when the producer's queue is full."""
    deadline = time.monotonic() + _PRODUCE_ROOM_SECONDS
    while True:
        try:
            producer.produce(topic, value=value, key=key, headers=headers, partition=partition)
        except BufferError:
            if time.monotonic() > deadline:
                raise RetryableError("the producer's queue stays full") from None
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _logger() -> logging.Logger:
    return logging.getLogger("confluent_kafka")
