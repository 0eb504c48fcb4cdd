"""Changes that tests make to topics of a real broker."""

from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from connector.config import KafkaSettings


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
