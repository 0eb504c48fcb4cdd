"""Topics of a real broker: their names, and the changes that tests make to them."""

from collections.abc import Iterable

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from connector.config import KafkaSettings
from connector.model.events import RecordEvent
from connector.model.serde import encode


def topic_names(study: str) -> dict[str, str]:
    """The study's own topics, as environment variables."""
    return {
        "KAFKA_EVENTS_TOPIC": f"{study}.events",
        "KAFKA_CURSORS_TOPIC": f"{study}.cursors",
        "KAFKA_DEAD_LETTER_TOPIC": f"{study}.dlq",
    }


def kafka_with(environment: dict[str, str], topics: dict[str, str]) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"],
        events_topic=topics["KAFKA_EVENTS_TOPIC"],
        cursors_topic=topics["KAFKA_CURSORS_TOPIC"],
        dead_letter_topic=topics["KAFKA_DEAD_LETTER_TOPIC"],
        topic_partitions=4,
    )


def set_message_bytes_max(kafka: KafkaSettings, topic: str, most: int) -> None:
    set_topic(kafka, topic, "max.message.bytes", str(most))


def delete_records(kafka: KafkaSettings, topic: str, partitions: int) -> None:
    """Delete all records, which the broker allows only with the policy ``delete``."""
    set_topic(kafka, topic, "cleanup.policy", "compact,delete")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    ends = [TopicPartition(topic, each, -1) for each in range(partitions)]
    for future in admin.delete_records(ends).values():
        future.result(30)
    set_topic(kafka, topic, "cleanup.policy", "compact")


def set_topic(kafka: KafkaSettings, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(20)


def publish_raw(kafka: KafkaSettings, key: bytes | None, value: bytes | None) -> None:
    """Publish one message to the events topic, outside any transaction."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(kafka.events_topic, value, key)
    assert producer.flush(30) == 0


def publish_all(kafka: KafkaSettings, events: Iterable[RecordEvent]) -> None:
    """Publish events outside any transaction, to the partitions of their keys."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for event in events:
        key, value, headers = encode(event)
        producer.produce(kafka.events_topic, value, key, headers=headers)
    assert producer.flush(30) == 0
