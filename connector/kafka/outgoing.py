"""Messages on their way to the brokers within a transaction."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import KafkaError, Message, Producer

from connector.errors import BatchTooLargeError
from connector.model.serde import Headers

_QUEUE_FULL_SECONDS_MAX = 30.0
_BATCH_OVERHEAD_BYTES = 300
"""A generous bound on a one-message batch's size besides key, value and headers."""


@dataclass(slots=True)
class PartitionWrites:
    """Messages written to one partition within a transaction."""

    messages: int = 0
    end: int | None = None

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """Take the end from the client's delivery report of the last message."""
        if error is None:
            self.end = (message.offset() or 0) + 1


def fits(key: bytes, value: bytes, headers: Headers, bytes_max: int) -> bool:
    """Whether a topic with this ``max.message.bytes`` takes the message."""
    room = bytes_max - _BATCH_OVERHEAD_BYTES - len(key) - len(value)
    if room > 10 * _BATCH_OVERHEAD_BYTES:  # nearly always: no need to measure the headers
        return True
    return room >= sum(len(name) + len(text or b"") for name, text in headers)


class Outgoing(NamedTuple):
    """A message to produce."""

    key: bytes
    value: bytes | None
    headers: Headers
    partition: int = -1
    on_delivery: Callable[[KafkaError | None, Message], None] | None = None


def produce(producer: Producer, topic: str, message: Outgoing) -> None:
    """Queue one message; waits for room while the producer's queue is full.

    Raises:
        BatchTooLargeError: the queue stayed full for 30 s.
        KafkaException: the client refuses the message.
    """
    deadline = time.monotonic() + _QUEUE_FULL_SECONDS_MAX
    while True:
        try:
            producer.produce(
                topic,
                message.value,
                message.key,
                partition=message.partition,
                headers=message.headers,
                on_delivery=message.on_delivery,
            )
        except BufferError:
            if time.monotonic() > deadline:
                raise BatchTooLargeError(
                    "Cannot publish a transaction: the producer's queue stayed full for"
                    f" {_QUEUE_FULL_SECONDS_MAX:.0f} s"
                ) from None
            producer.poll(0.1)
        else:
            producer.poll(0)
            return
