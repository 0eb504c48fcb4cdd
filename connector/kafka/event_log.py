"""The events topic as a transactional log: `connector.interfaces.EventLog` on confluent_kafka."""

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Container, Iterator, Mapping, Sequence

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
from connector.kafka.dead_letters import VALUE_BYTES, invalid_row_headers, oversize_headers
from connector.kafka.failures import FENCED, error_of, fatal_cause, translate
from connector.kafka.outgoing import Outgoing, PartitionWrites, fits, produce
from connector.kafka.partitioner import partition_of
from connector.kafka.reasons import made
from connector.kafka.settings import transactional_producer
from connector.kafka.topic_log import (
    LeaderEpochs,
    OpenTransactionError,
    mark_of,
    newest_by_key,
    read_to_end,
)
from connector.kafka.topics import Topics
from connector.kafka.truncation import loss_since
from connector.model.cursor import Cursor, TopicMark
from connector.model.events import Identity, KnownState, RecordEvent
from connector.model.serde import encode, known_state

_CHECK_SECONDS = 60.0
"""The events topic may be deleted and recreated, or truncated, under a running source."""


class KafkaEventLog:
    """See `connector.interfaces.EventLog` for the contract of each call."""

    def __init__(self, settings: KafkaSettings, study_key: str) -> None:
        self._settings = settings
        self._study_key = study_key
        self._producer: Producer | None = None
        self._event_bytes_max = self._letter_bytes_max = 0
        self._mark = TopicMark(topic_id="", starts=(), ends=())
        """The events topic as this log left it."""
        self._loss: str | None = None
        """How the topic has lost events, until a cursor that accounts for it is committed."""
        self._may_hang = False
        """Whether a topic may have lost the end of a transaction of this study."""
        self._checked_at = 0.0

    def open(self) -> OpenedLog:
        """Fence before reading: fencing aborts a transaction that a dead source left open."""
        topics, settings = Topics(self._settings), self._settings
        topics.partitions(settings.events_topic)
        self._event_bytes_max = topics.message_bytes_max(settings.events_topic)
        self._letter_bytes_max = topics.message_bytes_max(settings.dead_letter_topic)
        config = transactional_producer(settings, self._study_key)
        # A message that the brokers would refuse with its transaction fails here, alone.
        config["message.max.bytes"] = max(1000, self._event_bytes_max, self._letter_bytes_max)
        self._producer = made(Producer, config, logger=logging.getLogger("confluent_kafka"))
        # A client that saw the topic without leaders, or deleted, does not find the new ones.
        self._epochs = LeaderEpochs(settings, settings.events_topic)
        try:
            self._producer.init_transactions(settings.request_timeout_seconds)
            if self._may_hang:
                self._end_hanging_transactions(self._producer, topics)
            cursor = self._read_cursor()
            self._mark = mark_of(settings, settings.events_topic)
            loss = self._loss or self._loss_since(cursor)
            if loss and not self._may_hang:
                self._end_hanging_transactions(self._producer, topics)
        except KafkaException as exception:
            raise translate(error_of(exception), "open the event log") from exception
        except OpenTransactionError:
            self._may_hang = True
            raise
        self._may_hang = False
        self._checked_at = time.monotonic()
        return OpenedLog(cursor, loss)

    def _end_hanging_transactions(self, producer: Producer, topics: Topics) -> None:
        """End this study's transactions whose end the topics have lost, by aborting one in each.

        A truncated log may have lost the marker that ended a transaction. No reader of committed
        messages would ever pass it, but the next marker of the same producer ends it.
        """
        producer.begin_transaction()
        for topic in (self._settings.events_topic, self._settings.cursors_topic):
            for partition in range(topics.partitions(topic)):
                produce(producer, topic, Outgoing(self._cursor_key, None, [], partition))
        producer.flush(self._settings.request_timeout_seconds)
        producer.abort_transaction(self._settings.request_timeout_seconds)

    def _loss_since(self, cursor: Cursor | None) -> str | None:
        if cursor is None:
            return None
        if cursor.topic is None:
            return "unknown: the cursor has no mark"
        return loss_since(self._settings, self._settings.events_topic, cursor.topic, self._mark)

    def _read_cursor(self) -> Cursor | None:
        """Return the cursor of this events topic, or the study's own (as older versions wrote)."""
        found = newest_by_key(self._settings, self._settings.cursors_topic)
        raw = found.get(self._cursor_key, found.get(self._study_key.encode()))
        return None if raw is None else Cursor.from_bytes(raw.value() or b"")

    @property
    def _cursor_key(self) -> bytes:
        # A study may be streamed to several events topics of one cluster.
        return f"{self._settings.events_topic}/{self._study_key}".encode()

    def publish(
        self,
        events: Sequence[tuple[RecordEvent, int | None]],
        invalid: Sequence[InvalidRow],
        cursor: Cursor,
        dead_lettered: Container[Identity] = (),
    ) -> Collection[Identity]:
        """Publish in one transaction across the three topics."""
        if self._producer is None:
            raise RetryableError("The event log is not open")
        self._check_topic()
        producer, started = self._producer, clocks()
        try:
            producer.begin_transaction()
            diverted, written = self._produce_events(producer, events, dead_lettered)
            for row in invalid:
                self._produce_invalid(producer, row)
            mark = self._mark_after(producer, written)
            value = cursor.model_copy(update={"topic": mark}).to_bytes()
            produce(producer, self._settings.cursors_topic, Outgoing(self._cursor_key, value, []))
            producer.commit_transaction(self._settings.request_timeout_seconds)
        except (KafkaException, SystemError) as exception:
            # No abort is needed: `open` ends the transaction, committed or not, before it reads
            # back the outcome.
            self._producer = None
            lasted = seconds_between(started, clocks())
            raise self._translate(fatal_cause(producer, error_of(exception)), lasted) from exception
        except ConnectorError:
            self._producer = None
            raise
        self._mark, self._loss = mark, None
        return diverted

    def _check_topic(self) -> None:
        """Check that the topic is still as this log left it.

        Raises:
            RetryableError: it is not. The next `open` reports what it has lost.
        """
        if time.monotonic() - self._checked_at < _CHECK_SECONDS:
            return
        self._checked_at = time.monotonic()
        now = mark_of(self._settings, self._settings.events_topic)
        if loss := self._mark.loss(now):
            self._loss, self._producer = loss, None
            raise self._lost_events(loss)
        if self._mark.epochs_left_by(now):
            self._producer = None
            raise self._new_leader()

    def _new_leader(self) -> RetryableError:
        # It may have truncated the log. Only `open` checks that, against the committed mark: the
        # mark of this transaction would already count messages that followed.
        topic = self._settings.events_topic
        return RetryableError(f"Topic {topic} has a new leader; its log is checked first")

    def _lost_events(self, loss: str) -> RetryableError:
        return RetryableError(f"Topic {self._settings.events_topic} has lost events: {loss}")

    def _produce_events(
        self,
        producer: Producer,
        events: Sequence[tuple[RecordEvent, int | None]],
        dead_lettered: Container[Identity],
    ) -> tuple[list[Identity], dict[int, PartitionWrites]]:
        """Return events too large for the topic, and what was written to each partition."""
        diverted: list[Identity] = []
        written: dict[int, PartitionWrites] = defaultdict(PartitionWrites)
        count = len(self._mark.ends)
        partitions = [partition_of(event.identity, subject, count) for event, subject in events]
        # Only a partition's last message gets a delivery callback: one per message costs time.
        last = {partition: index for index, partition in enumerate(partitions)}
        for index, (event, _) in enumerate(events):
            key, value, headers = encode(event)
            if not fits(key, value, headers, self._event_bytes_max):
                diverted.append(event.identity)
                if event.identity not in dead_lettered:
                    self._produce_reference(producer, event, key, len(value))
                continue
            partition = partitions[index]
            writes = written[partition]
            writes.messages += 1
            on_delivery = writes.on_delivery if index == last[partition] else None
            message = Outgoing(key, value, headers, partition, on_delivery)
            produce(producer, self._settings.events_topic, message)
        return diverted, written

    def _mark_after(self, producer: Producer, written: Mapping[int, PartitionWrites]) -> TopicMark:
        """Flush, and return the topic's mark after these messages, all delivered.

        Raises:
            RetryableError: the topic has lost earlier messages, or a partition has a new leader.
            BatchTooLargeError: the messages were not delivered in time.
        """
        if not written:
            return self._mark
        if producer.flush(self._settings.request_timeout_seconds):
            raise BatchTooLargeError("Cannot publish a transaction: not delivered in time")
        ends = list(self._mark.ends)
        for partition, writes in written.items():
            if writes.end is None:
                # Either the last message was diverted, and the end stays a lower bound; or it was
                # not delivered, and the commit fails with the reason.
                continue
            if writes.end - writes.messages < ends[partition]:
                self._loss = f"partition {partition} ended before offset {ends[partition]}"
                raise self._lost_events(self._loss)
            ends[partition] = writes.end
        if any(
            epoch != self._mark.epochs[partition]
            for partition, epoch in self._epochs.now(written).items()
        ):
            raise self._new_leader()
        return self._mark.model_copy(update={"ends": tuple(ends)})

    def _translate(self, error: KafkaError, lasted_seconds: float) -> ConnectorError:
        """Translate a failed transaction; a new producer recovers from all errors but fencing."""
        text = f"Cannot publish a transaction: {error.name()}"
        limit = self._settings.transaction_timeout_seconds
        if error.code() in FENCED:
            if lasted_seconds <= limit:
                return translate(error, "publish a transaction")
            # The brokers fenced it, not another source. If there is another source after all, one
            # of the two is fenced again, within a transaction of the usual length.
            return BatchTooLargeError(
                f"{text}. The brokers aborted it after {lasted_seconds:.0f} s"
            )
        if lasted_seconds > min(limit, self._settings.request_timeout_seconds) / 2:
            return BatchTooLargeError(f"{text} after {lasted_seconds:.0f} s")
        if error.fatal():
            return RetryableError(f"{text}. The source opens a new producer")
        return translate(error, "publish a transaction")

    def replay(self) -> Iterator[tuple[Identity, KnownState]]:
        """Skip messages that are not events of the study: the sink reports them."""
        topic = self._settings.events_topic
        for raw in self._read_events():
            try:
                identity = Identity.from_key(raw.key())
                if identity.study_key == self._study_key:
                    message = message_of(raw, TopicPartition(topic, raw.partition() or 0))
                    yield identity, known_state(identity, message, time.time_ns() // 1_000_000)
            except InvalidEventError:
                continue

    def _read_events(self) -> Iterator[Message]:
        try:
            yield from read_to_end(self._settings, self._settings.events_topic)
        except OpenTransactionError:
            self._may_hang, self._producer = True, None
            raise

    def _produce_invalid(self, producer: Producer, row: InvalidRow) -> None:
        topic, headers, key = (
            self._settings.dead_letter_topic,
            invalid_row_headers(row),
            row.entity.encode(),
        )
        if fits(key, row.raw, headers, self._letter_bytes_max):
            produce(producer, topic, Outgoing(key, row.raw, headers))
        else:
            headers.append((VALUE_BYTES, str(len(row.raw)).encode()))
            produce(producer, topic, Outgoing(key, None, headers))

    def _produce_reference(
        self, producer: Producer, event: RecordEvent, key: bytes, value_bytes: int
    ) -> None:
        """Dead-letter the event without its value: the source retries it in every full pass."""
        headers = [
            *oversize_headers(event, self._settings.events_topic),
            (VALUE_BYTES, str(value_bytes).encode()),
        ]
        produce(producer, self._settings.dead_letter_topic, Outgoing(key, None, headers))
