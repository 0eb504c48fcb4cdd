"""What the brokers allow this user to do."""

import logging

from confluent_kafka import KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from connector.config import KafkaSettings
from connector.kafka.failures import answer_of, error_of, translate
from connector.kafka.reasons import made
from connector.kafka.settings import admin, transactional_producer

_NEEDED = (AclOperation.READ, AclOperation.WRITE)


def missing_operations(settings: KafkaSettings, topic: str) -> list[str]:
    """Return which of reading and writing the topic this user lacks; empty if brokers do not say.

    Raises:
        RetryableError: no broker answers, or the topic is missing.
        FatalError: no access at all.
    """
    timeout = settings.request_timeout_seconds
    client = made(AdminClient, admin(settings))  # it must outlive its futures
    described = client.describe_topics(
        TopicCollection([topic]), include_authorized_operations=True, request_timeout=timeout
    )
    found = answer_of(described[topic], timeout, f"describe topic {topic}").authorized_operations
    if not found:
        return []
    return [each.name.lower() for each in _NEEDED if each not in found]


def may_write_transactions(settings: KafkaSettings) -> None:
    """Check that this user may write transactions. Blocks.

    The id is that of a study without a key, so it fences no source. It is always the same one:
    brokers remember an id for a week.

    Raises:
        RetryableError: no broker answers.
        FatalError: the user may not.
    """
    config = transactional_producer(settings, study_key="")
    producer = made(Producer, config, logger=logging.getLogger("confluent_kafka"))
    try:
        producer.init_transactions(settings.request_timeout_seconds)
    except KafkaException as exception:
        raise translate(error_of(exception), "open a transaction") from exception
