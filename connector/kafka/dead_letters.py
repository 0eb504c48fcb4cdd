"""The dead letter queue: original bytes, with the reason in Kafka Connect's error headers."""

import logging
import queue
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as RawMessage

from connector.config import KafkaSettings
from connector.errors import RetryableError
from connector.interfaces import DeadLetter, InvalidRow
from connector.kafka.failures import error_of, translate
from connector.kafka.reasons import made
from connector.kafka.settings import dead_letter_producer
from connector.model.events import RecordEvent
from connector.model.letters import Stage
from connector.model.serde import Headers

CONNECT = "__connect.errors."
"""Prefix of Kafka Connect's headers; all others are ours."""
ATTEMPTS = "imednet.error.attempts"
TIMESTAMP = "imednet.error.timestamp"
"""Of the message: a tombstone without a version has this one as its version."""
STUDY, KIND = "imednet.error.study", "imednet.error.entity"
VALUE_BYTES = "imednet.value.bytes"
"""Size of a value that the letter leaves out."""
_POLL_SECONDS = 0.1
_WHOLE, _BY_REFERENCE, _WITHOUT_KEY = range(3)
"""Forms of a letter, from complete to one that always fits. The origin keeps the whole message."""


def letter_headers(
    letter: DeadLetter, connector_name: str, *, with_message_headers: bool = True
) -> Headers:
    """Return the message's own headers, then its origin and the reason. No record content."""
    message = letter.message
    return [
        *(message.headers if with_message_headers else ()),
        *_headers(
            {
                "topic": message.partition.topic,
                "partition": str(message.partition.partition),
                "offset": str(message.offset),
                "connector.name": connector_name,
                "stage": Stage.SINK,
                "exception.class.name": letter.reason,
                "exception.message": letter.explanation,
            }
        ),
        (ATTEMPTS, str(letter.attempts).encode()),
        (TIMESTAMP, str(message.timestamp_ms).encode()),
    ]


def invalid_row_headers(row: InvalidRow) -> Headers:
    """Return headers that say why an API row could not become an event."""
    found = _headers(
        {
            "connector.name": "imednet-source",
            "stage": Stage.SOURCE,
            "exception.class.name": row.reason,
            "exception.message": f"API row of {row.entity} in study {row.study_key}",
        }
    )
    return [*found, (STUDY, row.study_key.encode()), (KIND, row.entity.encode())]


def oversize_headers(event: RecordEvent, topic: str) -> Headers:
    """Return headers that say that an event is too large for its topic."""
    row = InvalidRow(event.study_key, event.entity, b"", "too_large")
    return [*invalid_row_headers(row), *_headers({"topic": topic})]


def _headers(values: dict[str, str]) -> Headers:
    return [(f"{CONNECT}{name}", value.encode()) for name, value in values.items()]


class KafkaDeadLetterQueue:
    """`connector.interfaces.DeadLetterQueue` on a topic."""

    def __init__(self, settings: KafkaSettings, connector_name: str) -> None:
        self._topic = settings.dead_letter_topic
        self._timeout = settings.request_timeout_seconds
        self._connector_name = connector_name
        self._producer = made(
            Producer, dead_letter_producer(settings), logger=logging.getLogger("confluent_kafka")
        )

    def publish(self, letters: Sequence[DeadLetter]) -> None:
        """See `connector.interfaces.DeadLetterQueue`."""
        # A broker refuses a whole request because of one message: retry each letter alone.
        for letter in self._write(letters, _WHOLE):
            forms = iter((_WHOLE, _BY_REFERENCE, _WITHOUT_KEY))
            while self._write([letter], next(forms)):
                pass

    def _write(self, letters: Sequence[DeadLetter], form: int) -> list[DeadLetter]:
        """Write the letters; return those refused as too large, alone or as one request."""
        results: queue.SimpleQueue[tuple[DeadLetter, KafkaError | None]] = queue.SimpleQueue()
        for letter in letters:
            self._send(letter, form, results)
        too_large = []
        end = time.monotonic() + self._timeout
        for _ in letters:
            while results.empty():
                if time.monotonic() > end:
                    raise RetryableError(
                        f"Cannot write dead letters to {self._topic}: no acknowledgement in time"
                    )
                self._producer.poll(_POLL_SECONDS)
            letter, error = results.get()
            if error is None:
                continue
            if error.code() != KafkaError.MSG_SIZE_TOO_LARGE or form == _WITHOUT_KEY:
                raise translate(error, f"write dead letters to {self._topic}")
            too_large.append(letter)
        return too_large

    def _send(
        self,
        letter: DeadLetter,
        form: int,
        results: queue.SimpleQueue[tuple[DeadLetter, KafkaError | None]],
    ) -> None:
        def delivered(error: KafkaError | None, _: RawMessage) -> None:
            results.put((letter, error))

        key, value, headers = _in_form(letter, self._connector_name, form)
        try:
            self._producer.produce(
                self._topic, key=key, value=value, headers=headers, on_delivery=delivered
            )
        except KafkaException as exception:
            results.put((letter, error_of(exception)))
        except BufferError:
            raise RetryableError(
                f"Cannot write dead letters to {self._topic}: the producer's queue is full"
            ) from None


def _in_form(
    letter: DeadLetter, connector_name: str, form: int
) -> tuple[bytes | None, bytes | None, Headers]:
    """Return a letter's key, value and headers in this form."""
    message = letter.message
    if form == _WHOLE:
        return message.key, message.value, letter_headers(letter, connector_name)
    reference = letter_headers(letter, connector_name, with_message_headers=False)
    reference += [(VALUE_BYTES, str(len(message.value or b"")).encode())]
    return (message.key if form == _BY_REFERENCE else None), None, reference
