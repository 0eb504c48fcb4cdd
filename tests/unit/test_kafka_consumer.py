"""Messages that the client returned are never dropped: its offset is already past them."""

import pytest
from confluent_kafka import KafkaError
from confluent_kafka import Message as RawMessage

from connector.config import KafkaSettings, SinkSettings
from connector.errors import RetryableError
from connector.interfaces import TopicPartition
from connector.kafka.consumer import KafkaEventConsumer
from connector.lab.servers.processes import free_port

AT = TopicPartition("imednet.events", 0)


def raw(offset: int, error: KafkaError | None = None) -> RawMessage:
    return RawMessage(
        topic=AT.topic, partition=0, offset=offset, key=b"k", value=b"v", error=error,
        timestamp=(1, 0), headers=[],
    )  # fmt: skip


def test_an_error_among_messages_is_raised_after_them() -> None:
    """An error among messages is raised only after those before it were returned."""
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    consumer = KafkaEventConsumer(kafka, SinkSettings(close_timeout_seconds=1))
    consumer._owned = {AT.partition: AT}
    error = KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE)
    queue = [raw(10), raw(11), raw(0, error), raw(12)]

    def consume(most: int, timeout_seconds: float) -> list[RawMessage]:
        del timeout_seconds
        taken, queue[:] = queue[:most], queue[most:]
        return taken

    consumer._consume = consume  # type: ignore[method-assign]
    assert [message.offset for message in consumer.poll(3, 0).messages] == [10, 11]
    with pytest.raises(RetryableError):
        consumer.poll(3, 0)
    assert [message.offset for message in consumer.poll(3, 0).messages] == [12]
    consumer.close()
