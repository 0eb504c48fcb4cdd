"""The dead letter queue: original bytes, and Kafka Connect's header names for the why."""

import logging
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as RawMessage

from connector.config import KafkaSettings
from connector.errors import RetryableError
from connector.interfaces import DeadLetter, InvalidRow
from connector.kafka.failures import error_of, translate
from connector.kafka.settings import dead_letter_producer
from connector.serde import Headers


def letter_headers(letter: DeadLetter, connector_name: str) -> Headers:
    """The message's own headers, then where it was and why it is here. No record content."""
    message = letter.message
    return [
        *message.headers,
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


OnDelivery = Callable[[KafkaError | None, RawMessage], None]


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
        failures: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: RawMessage) -> None:
            if error is not None:
                failures.append(error)

        for letter in letters:
            self._produce(letter, delivered)
        if self._producer.flush(self._timeout):
            raise RetryableError("dead letters were not acknowledged in time")
        if failures:
            raise translate(failures[0], "writing dead letters")

    def _produce(self, letter: DeadLetter, delivered: OnDelivery) -> None:
        headers = letter_headers(letter, self._connector_name)
        try:
            self._producer.produce(
                self._topic,
                key=letter.message.key,
                value=letter.message.value,
                headers=headers,
                on_delivery=delivered,
            )
        except KafkaException as exception:
            error = error_of(exception)
            if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise translate(error, "writing dead letters") from exception
            # Too large with the headers on top: kept by reference, the origin still has it.
            size = str(len(letter.message.value or b"")).encode()
            self._producer.produce(
                self._topic,
                key=letter.message.key,
                headers=[*headers, ("imednet.value.bytes", size)],
                on_delivery=delivered,
            )
        except BufferError:
            raise RetryableError("the dead letter producer's queue is full") from None
