"""The events topic as a transactional log: `connector.interfaces.EventLog` on confluent_kafka."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connector.clock import clocks, seconds_between
from connector.config import KafkaSettings
from connector.errors import (
    BatchTooLargeError,
    ConnectorError,
    InvalidEventError,
    RetryableError,
)
from connector.interfaces import InvalidRow, OpenedLog, TopicPartition
from connector.kafka.consumer import message_of
from connector.kafka.dead_letters import invalid_row_headers
from connector.kafka.failures import FENCED, error_of, translate
from connector.kafka.partitioner import partition_of
from connector.kafka.reasons import made
from connector.kafka.settings import transactional_producer
from connector.kafka.topic_log import mark_of, read_to_end
from connector.kafka.topics import Topics
from connector.model.cursor import Cursor, TopicMark
from connector.model.events import Identity, KnownState, RecordEvent
from connector.model.serde import Headers, encode, known_state

_PRODUCE_ROOM_SECONDS = 30.0
_BATCH_OVERHEAD_BYTES = 300
"""What a batch of one message takes beside key, value and headers, generously."""
_CHECK_SECONDS = 60.0
"""The events topic may be deleted and made again, or cut, under a running source."""


class KafkaEventLog:
    """See `connector.interfaces.EventLog` for the contract of each call."""

    def __init__(self, settings: KafkaSettings, study_key: str) -> None:
        self._settings = settings
        self._study_key = study_key
        self._producer: Producer | None = None
        self._event_bytes_max = self._letter_bytes_max = 0
        self._mark = TopicMark(topic_id="", starts=(), ends=())
        """The events topic as this log left it."""
        self._lost: str | None = None
        self._checked_at = 0.0

    def open(self) -> OpenedLog:
        """Fence first, read then: what a dead source left open is aborted by it."""
        topics, settings = Topics(self._settings), self._settings
        topics.partitions(settings.events_topic)
        self._event_bytes_max = topics.message_bytes_max(settings.events_topic)
        self._letter_bytes_max = topics.message_bytes_max(settings.dead_letter_topic)
        config = transactional_producer(settings, self._study_key)
        # What the brokers would refuse is refused here, alone, not with its transaction.
        config["message.max.bytes"] = max(1000, self._event_bytes_max, self._letter_bytes_max)
        self._producer = made(Producer, config, logger=_logger())
        try:
            self._producer.init_transactions(settings.request_timeout_seconds)
        except KafkaException as exception:
            raise translate(error_of(exception), "opening the event log") from exception
        cursor = self._read_cursor()
        self._mark = mark_of(settings, settings.events_topic)
        self._checked_at = time.monotonic()
        lost = self._lost  # until a cursor is committed that knows of it
        if lost is None and cursor is not None:
            lost = (
                "the cursor does not say" if cursor.topic is None else cursor.topic.lost(self._mark)
            )
        return OpenedLog(cursor, lost)

    def _read_cursor(self) -> Cursor | None:
        """Of this events topic; else by its study alone, as earlier versions wrote it."""
        found: dict[bytes, bytes] = {}
        for message in read_to_end(self._settings, self._settings.cursors_topic):
            if (key := message.key()) is not None and (value := message.value()) is not None:
                found[key] = value
        value = found.get(self._cursor_key, found.get(self._study_key.encode()))
        return None if value is None else Cursor.from_bytes(value)

    @property
    def _cursor_key(self) -> bytes:
        # A study may be streamed to several events topics of one cluster.
        return f"{self._settings.events_topic}/{self._study_key}".encode()

    def publish(
        self,
        events: Sequence[tuple[RecordEvent, int | None]],
        invalid: Sequence[InvalidRow],
        cursor: Cursor,
        lettered: Container[Identity] = (),
    ) -> Collection[Identity]:
        """One transaction over the three topics."""
        if self._producer is None:
            raise RetryableError("the event log is not open")
        self._check_topic()
        producer, began = self._producer, clocks()
        try:
            producer.begin_transaction()
            diverted, written = self._produce_events(producer, events, lettered)
            for row in invalid:
                self._produce_invalid(producer, row)
            mark = self._mark_after(producer, written)
            value = cursor.model_copy(update={"topic": mark}).to_bytes()
            _produce(producer, self._settings.cursors_topic, _Outgoing(self._cursor_key, value, []))
            producer.commit_transaction(self._settings.request_timeout_seconds)
        except (KafkaException, SystemError) as exception:
            # Whether it was committed is found out by `open`, which ends the transaction either
            # way before it reads: no abort is needed here.
            self._producer = None
            lasted = seconds_between(began, clocks())
            raise self._translated(_cause(producer, error_of(exception)), lasted) from exception
        except ConnectorError:
            self._producer = None
            raise
        self._mark, self._lost = mark, None
        return diverted

    def _check_topic(self) -> None:
        """Find out whether the topic is still as this log left it.

        Raises:
            RetryableError: it is not; `open` says what it has lost.
        """
        if time.monotonic() - self._checked_at < _CHECK_SECONDS:
            return
        self._checked_at = time.monotonic()
        if lost := self._mark.lost(mark_of(self._settings, self._settings.events_topic)):
            self._lost, self._producer = lost, None
            raise RetryableError(f"the events topic has lost events: {lost}")

    def _produce_events(
        self,
        producer: Producer,
        events: Sequence[tuple[RecordEvent, int | None]],
        lettered: Container[Identity],
    ) -> tuple[list[Identity], dict[int, "_Written"]]:
        """Those that are too large for the topic, and what each partition was given."""
        diverted: list[Identity] = []
        written: dict[int, _Written] = defaultdict(_Written)
        count = len(self._mark.ends)
        partitions = [partition_of(event.identity, subject, count) for event, subject in events]
        # Only a partition's last message is asked for its offset: a callback for each costs time.
        last = {partition: index for index, partition in enumerate(partitions)}
        for index, (event, _) in enumerate(events):
            key, value, headers = encode(event)
            if not _fits(key, value, headers, self._event_bytes_max):
                diverted.append(event.identity)
                if event.identity not in lettered:
                    self._produce_reference(producer, event, key, len(value))
                continue
            partition = partitions[index]
            into = written[partition]
            into.messages += 1
            delivered = into.delivered if index == last[partition] else None
            message = _Outgoing(key, value, headers, partition, delivered)
            _produce(producer, self._settings.events_topic, message)
        return diverted, written

    def _mark_after(self, producer: Producer, written: Mapping[int, "_Written"]) -> TopicMark:
        """The topic with these messages, which are all delivered on return.

        Raises:
            RetryableError: the topic has lost what was there before.
            BatchTooLargeError: they were not delivered in time.
        """
        if not written:
            return self._mark
        if producer.flush(self._settings.request_timeout_seconds):
            raise BatchTooLargeError("publishing a transaction: not delivered in time")
        ends = list(self._mark.ends)
        for partition, into in written.items():
            if into.end is None:
                # The last one was diverted: the end stays a lower bound. Or it was not delivered:
                # then the commit fails, and says why.
                continue
            if into.end - into.messages < ends[partition]:
                self._lost = f"partition {partition} ended before {ends[partition]}"
                raise RetryableError(f"the events topic has lost events: {self._lost}")
            ends[partition] = into.end
        return self._mark.model_copy(update={"ends": tuple(ends)})

    def _translated(self, error: KafkaError, lasted_seconds: float) -> ConnectorError:
        """What a failed transaction means; a new producer can go on after all but fencing."""
        doing = f"publishing a transaction: {error.name()}"
        limit = self._settings.transaction_timeout_seconds
        if error.code() in FENCED:
            if lasted_seconds <= limit:
                return translate(error, "publishing a transaction")
            # Fenced by the brokers, not by another source; if there is one after all, one of
            # the two is fenced again, within a transaction of the usual length.
            return BatchTooLargeError(
                f"{doing}: it took {lasted_seconds:.0f} s, so the brokers ended it"
            )
        if lasted_seconds > min(limit, self._settings.request_timeout_seconds) / 2:
            return BatchTooLargeError(f"{doing}: it took {lasted_seconds:.0f} s")
        if error.fatal():
            return RetryableError(f"{doing}: a new producer is needed")
        return translate(error, "publishing a transaction")

    def replay(self) -> Iterator[tuple[Identity, KnownState]]:
        """Messages that are not events of the study are passed over: the sink reports them."""
        topic = self._settings.events_topic
        for raw in read_to_end(self._settings, topic):
            try:
                identity = Identity.from_key(raw.key())
                if identity.study_key == self._study_key:
                    message = message_of(raw, TopicPartition(topic, raw.partition() or 0))
                    yield identity, known_state(identity, message, time.time_ns() // 1_000_000)
            except InvalidEventError:
                continue

    def _produce_invalid(self, producer: Producer, row: InvalidRow) -> None:
        topic, headers, key = (
            self._settings.dead_letter_topic,
            invalid_row_headers(row),
            row.entity.encode(),
        )
        if _fits(key, row.raw, headers, self._letter_bytes_max):
            _produce(producer, topic, _Outgoing(key, row.raw, headers))
        else:
            headers.append(("imednet.value.bytes", str(len(row.raw)).encode()))
            _produce(producer, topic, _Outgoing(key, None, headers))

    def _produce_reference(
        self, producer: Producer, event: RecordEvent, key: bytes, value_bytes: int
    ) -> None:
        """Not cut, not lost: the source tries the event again at each full pass."""
        headers = [
            *_oversize_headers(event, self._settings.events_topic),
            ("imednet.value.bytes", str(value_bytes).encode()),
        ]
        _produce(producer, self._settings.dead_letter_topic, _Outgoing(key, None, headers))


@dataclass(slots=True)
class _Written:
    """What a partition was given within a transaction."""

    messages: int = 0
    end: int | None = None

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """The client's delivery report of the last message."""
        if error is None:
            self.end = (message.offset() or 0) + 1


def _fits(key: bytes, value: bytes, headers: Headers, bytes_max: int) -> bool:
    room = bytes_max - _BATCH_OVERHEAD_BYTES - len(key) - len(value)
    if room > 10 * _BATCH_OVERHEAD_BYTES:  # as nearly all: headers need no counting
        return True
    return room >= sum(len(name) + len(text or b"") for name, text in headers)


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


class _Outgoing(NamedTuple):
    """A message that is to be produced."""

    key: bytes
    value: bytes | None
    headers: Headers
    partition: int = -1
    delivered: Callable[[KafkaError | None, Message], None] | None = None


def _produce(producer: Producer, topic: str, message: _Outgoing) -> None:
    """Queue one message; waits for room when the producer's queue is full."""
    deadline = time.monotonic() + _PRODUCE_ROOM_SECONDS
    while True:
        try:
            producer.produce(
                topic,
                message.value,
                message.key,
                partition=message.partition,
                headers=message.headers,
                on_delivery=message.delivered,
            )
        except BufferError:
            if time.monotonic() > deadline:
                raise BatchTooLargeError("the producer's queue stays full") from None
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _logger() -> logging.Logger:
    return logging.getLogger("confluent_kafka")
