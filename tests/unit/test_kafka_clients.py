"""Every Kafka client reports which of its settings it refuses."""

from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from connector.config import KafkaSettings
from connector.errors import FatalError
from connector.kafka.dead_letters import KafkaDeadLetterQueue
from connector.kafka.reasons import made
from connector.kafka.settings import admin, log_reader, transactional_producer
from connector.kafka.topics import Topics

SERVERS = "127.0.0.1:1"


def settings(**values: Any) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=SERVERS, **values)


def test_a_transaction_timeout_that_no_client_takes_is_named() -> None:
    """A transaction timeout that the client refuses is reported by its setting."""
    config = transactional_producer(settings(transaction_timeout_seconds=0.5), "S1")
    with pytest.raises(FatalError, match="KAFKA_TRANSACTION_TIMEOUT_SECONDS"):
        made(Producer, config)


def test_every_client_names_the_setting_that_it_refuses() -> None:
    """Every client names the setting that it refuses."""
    refused = settings(request_timeout_seconds=0.001)
    for make in (
        lambda: made(Consumer, log_reader(refused)),
        lambda: made(AdminClient, admin(refused)),
        lambda: Topics(refused),
        lambda: KafkaDeadLetterQueue(refused, "sink"),
    ):
        with pytest.raises(FatalError, match="KAFKA_REQUEST_TIMEOUT_SECONDS"):
            make()
