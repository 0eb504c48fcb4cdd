"""The dead letter queue read back: its letters, the marks on them, and the messages they mean."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as RawMessage

from connector.config import KafkaSettings
from connector.errors import InvalidEventError, RetryableError
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
from connector.model.letters import Action, Letter, LetterId, Mark, Origin, Stage
from connector.model.serde import Headers

_ACTION, _LETTER, _WHY = "imednet.dlq.action", "imednet.dlq.letter", "imednet.dlq.why"
_FIRST_OF_SINK = f"{CONNECT}topic"


def read_letters(settings: KafkaSettings) -> Iterator[Letter]:
    """Yield the letters in the queue, each partition in order.

    Raises:
        RetryableError: the brokers do not answer, or the topic is missing.
    """
    for raw in read_to_end(settings, settings.dead_letter_topic):
        letter = letter_of(raw)
        if letter is not None:
            yield letter


def read_marks(settings: KafkaSettings) -> dict[LetterId, Mark]:
    """Return what was done with which letters; of several marks, the last.

    Raises:
        RetryableError: as `read_letters`.
    """
    found = {}
    for raw in read_to_end(settings, settings.dead_letter_topic):
        if (mark := _mark_of(raw)) is not None:
            found[mark.letter] = mark
    return found


def _headers_of(raw: RawMessage) -> Headers:
    message = message_of(raw, TopicPartition(raw.topic() or "", raw.partition() or 0))
    try:
        return message.headers
    except InvalidEventError:  # another program's message
        return []


def _mark_of(raw: RawMessage) -> Mark | None:
    headers = dict(_headers_of(raw))
    if _ACTION not in headers:
        return None
    text = {name: _text(headers.get(name)) for name in (_ACTION, _LETTER, _WHY)}
    letter = LetterId.parse(text[_LETTER])
    return Mark(letter, Action(text[_ACTION]), text[_WHY], raw.timestamp()[1])


def letter_of(raw: RawMessage) -> Letter | None:
    """Return the letter that this message of the queue is; None if it is a mark."""
    headers = _headers_of(raw)
    if any(name == _ACTION for name, _ in headers):
        return None
    # A sink's letter begins with the message's own headers, whatever their names are.
    starts = [index for index, (name, _) in enumerate(headers) if name == _FIRST_OF_SINK]
    own, ours = headers[: starts[-1]] if starts else [], headers
    text = {name: _text(value) for name, value in ours[len(own) :]}
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
        entity_id=str(identity.id) if identity else None,
        origin=_origin(text) if stage is Stage.SINK else None,
        value_bytes=_number(text.get(VALUE_BYTES)) or len(value or b""),
        is_reference=VALUE_BYTES in text,
        key=raw.key(),
        value=value,
        headers=own if stage is Stage.SINK else [],
    )


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

    for mark in marks:
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
    is_whole = not letter.is_reference and letter.key is not None
    if is_whole and (letter.value is not None or origin.timestamp_ms is not None):
        details = _Details(letter.headers, origin.timestamp_ms or letter.time_ms)
        return Message(partition, origin.offset, letter.key, letter.value, details)
    first, end = bounds(settings, origin.topic).get(origin.partition, Range(0, 0))
    if not first <= origin.offset < end:
        return None
    at = {origin.partition: Range(origin.offset, origin.offset + 1)}
    for raw in read_ranges(settings, origin.topic, at):
        if letter.key in (None, raw.key()):  # else the topic was recreated
            return message_of(raw, partition)
    return None
