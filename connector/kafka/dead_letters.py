"""The dead letter queue: original bytes, and Kafka Connect's header names for the why."""

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
from connector.model.serde import Headers

_POLL_SECONDS = 0.1
_WHOLE, _BY_REFERENCE, _WITHOUT_KEY = range(3)
"""How a letter is kept, from the best to what always fits. The origin still has it all."""


def letter_headers(letter: DeadLetter, connector_name: str, *, with_own: bool = True) -> Headers:
    """The message's own headers, then where it was and why it is here. No record content."""
    message = letter.message
    return [
        *(message.headers if with_own else ()),
        *_headers(
            {
                "topic": message.partition.topic,
                "partition": str(message.partition.partition),
                "offset": str(message.offset),
                "connector.name": connector_name,
                "stage": "SINK",
                "exception.class.name": letter.reason,
                "exception.message": letter.explanation,
            }
        ),
        ("imednet.error.attempts", str(letter.attempts).encode()),
    ]


def invalid_row_headers(row: InvalidRow) -> Headers:
    """Why the source could not make an event of an API row."""
    return _headers(
        {
            "connector.name": "imednet-source",
            "stage": "SOURCE",
            "exception.class.name": row.reason,
            "exception.message": f"API row of {row.entity} in study {row.study_key}",
        }
    )


def _headers(values: dict[str, str]) -> Headers:
    return [(f"__connect.errors.{name}", value.encode()) for name, value in values.items()]


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
        # A broker refuses a whole request for one message: those beside it go alone.
        for letter in self._too_large(letters, _WHOLE):
            forms = iter((_WHOLE, _BY_REFERENCE, _WITHOUT_KEY))
            while self._too_large([letter], next(forms)):
                pass

    def _too_large(self, letters: Sequence[DeadLetter], form: int) -> list[DeadLetter]:
        """Write them; those that this client or the broker finds too large, maybe together."""
        results: queue.SimpleQueue[tuple[DeadLetter, KafkaError | None]] = queue.SimpleQueue()
        for letter in letters:
            self._send(letter, form, results)
        too_large = []
        end = time.monotonic() + self._timeout
        for _ in letters:
            while results.empty():
                if time.monotonic() > end:
                    raise RetryableError("dead letters were not acknowledged in time")
                self._producer.poll(_POLL_SECONDS)
            letter, error = results.get()
            if error is None:
                continue
            if error.code() != KafkaError.MSG_SIZE_TOO_LARGE or form == _WITHOUT_KEY:
                raise translate(error, "writing dead letters")
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
            raise RetryableError("the dead letter producer's queue is full") from None


def _in_form(
    letter: DeadLetter, connector_name: str, form: int
) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of a letter."""
    message = letter.message
    if form == _WHOLE:
        return message.key, message.value, letter_headers(letter, connector_name)
    reference = letter_headers(letter, connector_name, with_own=False)
    reference += [("imednet.value.bytes", str(len(message.value or b"")).encode())]
    return (message.key if form == _BY_REFERENCE else None), None, reference
