"""The dead letter queue read back: its letters, the marks on them, and the messages they mean."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as RawMessage

from connector.config import KafkaSettings
from connector.errors import FatalError, InvalidEventError, RetryableError
from connector.interfaces import Message, Range, TopicPartition
from connector.kafka.consumer import message_of
from connector.kafka.dead_letters import (
    ATTEMPTS,
    CONNECT,
    KIND,
    STUDY,
    TIMESTAMP,
    VALUE_BYTES,
)
from connector.kafka.failures import translate
from connector.kafka.reasons import made
from connector.kafka.settings import dead_letter_producer
from connector.kafka.topic_log import bounds, read_ranges, read_to_end
from connector.model.events import Identity
from connector.model.letters import Action, Letter, LetterId, Mark, Origin, QueueHistory, Stage
from connector.model.serde import Headers

_MARKS_AT_ONCE = 10_000
_ACTION, _LETTER, _WHY = "imednet.dlq.action", "imednet.dlq.letter", "imednet.dlq.why"
_PLAIN_ID = re.compile(r"[0-9A-Za-z/_.-]{1,100}")
_FIRST_OF_SINK = f"{CONNECT}topic"


def read_letters(settings: KafkaSettings) -> Iterator[tuple[Letter, Mark | None]]:
    """Yield the letters in the queue with their marks, each partition in order.

    Raises:
        RetryableError: the brokers do not answer, or the topic is missing.
    """
    history = _read_history(settings)
    for raw in read_to_end(settings, settings.dead_letter_topic):
        found = entry_of(raw)
        if isinstance(found, Letter):
            yield found, history.mark_of(found)


def _read_history(settings: KafkaSettings) -> QueueHistory:
    history = QueueHistory()
    for raw in read_to_end(settings, settings.dead_letter_topic):
        found = entry_of(raw)
        if isinstance(found, Letter):
            history.add_letter(found)
        else:
            history.add_mark(found)
    return history


def _headers_of(raw: RawMessage) -> Headers:
    """Return the headers; call it once for each message (see `Message.headers`)."""
    message = message_of(raw, TopicPartition(raw.topic() or "", raw.partition() or 0))
    try:
        return message.headers
    except InvalidEventError:  # another program's message
        return []


def _mark_of(raw: RawMessage, headers: Headers) -> Mark | None:
    """Return the mark that this message is, if it is one.

    A dead letter begins with the headers of its message, which may look like those of a mark.
    """
    is_mark = [name for name, _ in headers] == [_ACTION, _LETTER, _WHY]
    if not is_mark or raw.key() is not None or raw.value() is not None:
        return None
    action, letter, why = (_text(value) for _, value in headers)
    try:
        return Mark(LetterId.parse(letter), Action(action), why, raw.timestamp()[1])
    except (FatalError, ValueError):  # not by this program
        return None


def entry_of(raw: RawMessage) -> Letter | Mark:
    """Return the letter, or the mark on one, that this message of the queue is."""
    headers = _headers_of(raw)
    mark = _mark_of(raw, headers)
    return _letter_of(raw, headers) if mark is None else mark


def _letter_of(raw: RawMessage, headers: Headers) -> Letter:
    own, ours = _split(headers)
    text = {name: _text(value) for name, value in ours}
    stage = Stage.SOURCE if text.get(f"{CONNECT}stage") == Stage.SOURCE else Stage.SINK
    identity = _identity(raw.key())
    value = raw.value()
    return Letter(
        id=LetterId(raw.partition() or 0, raw.offset() or 0),
        time_ms=raw.timestamp()[1],
        stage=stage,
        reason=text.get(f"{CONNECT}exception.class.name", "unknown"),
        explanation=text.get(f"{CONNECT}exception.message", ""),
        attempts=_number(text.get(ATTEMPTS)) or 1,
        study=text.get(STUDY) or (identity.study_key if identity else None),
        kind=text.get(KIND) or (identity.entity if identity else None),
        entity_id=_shown_id(identity),
        connector=text.get(f"{CONNECT}connector.name", ""),
        origin=_origin(text) if stage is Stage.SINK else None,
        value_bytes=_number(text.get(VALUE_BYTES)) or len(value or b""),
        is_reference=VALUE_BYTES in text,
        key=raw.key(),
        value=value,
        headers=own,
    )


def _split(headers: Headers) -> tuple[Headers, Headers]:
    """Split into the message's own headers, whatever their names are, and those of the letter.

    The letter's come last; the source's letters have no others.
    """
    names = [name for name, _ in headers]
    if f"{CONNECT}stage" not in names:
        return headers, []
    stage = len(names) - 1 - names[::-1].index(f"{CONNECT}stage")
    if _text(headers[stage][1]) == Stage.SOURCE:
        return [], headers
    starts = [index for index, name in enumerate(names[:stage]) if name == _FIRST_OF_SINK]
    start = starts[-1] if starts else stage
    return headers[:start], headers[start:]


def _shown_id(identity: Identity | None) -> str | None:
    """Return the id, unless it is a text that may be anything: a key is not checked."""
    text = str(identity.id) if identity else ""
    return text if _PLAIN_ID.fullmatch(text) else None


def _origin(text: Mapping[str, str]) -> Origin | None:
    partition, offset = (_number(text.get(f"{CONNECT}{name}")) for name in ("partition", "offset"))
    if partition is None or offset is None:
        return None
    topic = text.get(f"{CONNECT}topic", "")
    return Origin(topic, partition, offset, _number(text.get(TIMESTAMP)))


def _identity(key: bytes | None) -> Identity | None:
    try:
        return Identity.from_key(key)
    except InvalidEventError:
        return None


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def publish_marks(settings: KafkaSettings, marks: Sequence[Mark]) -> None:
    """Publish marks; on return all are acknowledged. Blocks.

    Raises:
        RetryableError: not acknowledged; some marks may already be in the queue.
        ConnectorError: the brokers refuse them.
    """
    config = dead_letter_producer(settings)
    producer = made(Producer, config, logger=logging.getLogger("confluent_kafka"))
    errors: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: RawMessage) -> None:
        if error is not None:
            errors.append(error)

    for number, mark in enumerate(marks):
        if number % _MARKS_AT_ONCE == 0:  # the client's queue holds 100 000
            producer.flush(settings.request_timeout_seconds)
        values = {_ACTION: mark.action, _LETTER: str(mark.letter), _WHY: mark.why}
        headers: Headers = [(name, value.encode()) for name, value in values.items()]
        producer.produce(
            settings.dead_letter_topic, None, None, headers=headers, on_delivery=delivered
        )
    unsent = producer.flush(settings.request_timeout_seconds)
    action = f"mark dead letters in {settings.dead_letter_topic}"
    if errors:
        raise translate(errors[0], action)
    if unsent:
        raise RetryableError(f"Cannot {action}: no acknowledgement in time")


@dataclass(frozen=True, slots=True)
class _Details:
    """The details of a message that is made from its letter."""

    own_headers: Headers
    timestamp_ms: int

    def headers(self) -> Headers:
        return self.own_headers

    def timestamp(self) -> tuple[int, int]:
        return 1, self.timestamp_ms

    def leader_epoch(self) -> int | None:
        return None


def message_in(letter: Letter, settings: KafkaSettings) -> Message | None:
    """Return the message that a sink could not apply, from its letter or else from its topic.

    None if neither has it. A letter of a tombstone has it only if it knows the message's time: the
    time of the letter is later, and would delete states that came after the tombstone.

    Raises:
        RetryableError: the brokers do not answer.
    """
    origin = letter.origin
    if origin is None:
        return None
    partition = TopicPartition(origin.topic, origin.partition)
    # Without its headers, a tombstone would get its time as version, which may be too high.
    is_whole = not letter.is_reference and letter.key is not None and letter.reason != "headers"
    if is_whole and (letter.value is not None or origin.timestamp_ms is not None):
        details = _Details(letter.headers, origin.timestamp_ms or letter.time_ms)
        return Message(partition, origin.offset, letter.key, letter.value, details)
    first, end = bounds(settings, origin.topic).get(origin.partition, Range(0, 0))
    if not first <= origin.offset < end:
        return None
    at = {origin.partition: Range(origin.offset, origin.offset + 1)}
    for raw in read_ranges(settings, origin.topic, at):
        if _is_meant(raw, letter):
            return message_of(raw, partition)
    return None


def _is_meant(raw: RawMessage, letter: Letter) -> bool:
    """Whether it is the letter's message; the topic may have been recreated since."""
    if letter.key is not None:
        return raw.key() == letter.key
    time_ms = letter.origin.timestamp_ms if letter.origin else None
    return time_ms in (None, raw.timestamp()[1])
