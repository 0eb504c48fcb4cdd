"""The dead letter queue: original bytes, and Kafka Connect's header names for the why."""

import logging
import queue
import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as RawMessage

from connector.config import KafkaSettings
from connector.errors import RetryableError
from connector.interfaces import DeadLetter, InvalidRow
from connector.kafka.failures import error_of, translate
from connector.kafka.settings import dead_letter_producer
from connector.serde import Headers

OnDelivery = Callable[[KafkaError | None, RawMessage], None]
_POLL_SECONDS = 0.1


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
        self._producer = Producer(
            dead_letter_producer(settings), logger=logging.getLogger("confluent_kafka")
        )

    def publish(self, letters: Sequence[DeadLetter]) -> None:
        """See `connector.interfaces.DeadLetterQueue`."""
        results: queue.SimpleQueue[KafkaError | None] = queue.SimpleQueue()

        def delivered(error: KafkaError | None, _: RawMessage) -> None:
            results.put(error)

        end = time.monotonic() + self._timeout
        for letter in letters:
            self._produce(letter, delivered)
        for _ in letters:
            while results.empty():
                if time.monotonic() > end:
                    raise RetryableError("dead letters were not acknowledged in time")
                self._producer.poll(_POLL_SECONDS)
            if (error := results.get()) is not None:
                raise translate(error, "writing dead letters")

    def _produce(self, letter: DeadLetter, delivered: OnDelivery) -> None:
        message = letter.message
        headers = letter_headers(letter, self._connector_name)
        if self._sent(message.key, message.value, headers, delivered):
            return
        # Too large with the headers on top: kept by reference, the origin still has it.
        reference = letter_headers(letter, self._connector_name, with_own=False)
        reference += [("imednet.value.bytes", str(len(message.value or b"")).encode())]
        if not self._sent(message.key, None, reference, delivered):
            self._sent(None, None, reference, delivered)  # then it is the key that is too large

    def _sent(
        self, key: bytes | None, value: bytes | None, headers: Headers, delivered: OnDelivery
    ) -> bool:
        """Whether it was queued; False: it is larger than the topic takes."""
        try:
            self._producer.produce(
                self._topic, key=key, value=value, headers=headers, on_delivery=delivered
            )
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                return False
            raise translate(error, "writing dead letters") from exception
        except BufferError:
            raise RetryableError("the dead letter producer's queue is full") from None
        return True
