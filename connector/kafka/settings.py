"""librdkafka's options, made from our settings; each one that correctness needs is explicit."""

from typing import Any

from connector.config import KafkaSettings, SinkSettings

ConfigValue = str | int | float | bool


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def connection(settings: KafkaSettings, role: str) -> dict[str, Any]:
    """Options that every client needs to reach the cluster."""
    config: dict[str, ConfigValue | None] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": f"imednet-connector-{role}",
        "security.protocol": settings.security_protocol,
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": (
            settings.sasl_password.get_secret_value() if settings.sasl_password else None
        ),
        "ssl.ca.location": settings.ssl_ca_location,
        "socket.timeout.ms": _milliseconds(settings.request_timeout_seconds),
    }
    return {name: value for name, value in config.items() if value is not None}


def admin(settings: KafkaSettings) -> dict[str, Any]:
    """Options for short-lived admin clients; silent, since each failure is raised with its code."""
    return connection(settings, "admin") | {"log_level": 0}


def group_observer(settings: KafkaSettings, group_id: str) -> dict[str, Any]:
    """Options to read a group's offsets and lag without joining it.

    The end of a partition is the high watermark. The last stable offset, the default, lies before
    events that are committed: a transaction's markers are written after the commit is acknowledged.
    """
    return admin(settings) | {
        "group.id": group_id,
        "enable.auto.commit": False,
        "isolation.level": "read_uncommitted",
    }


def transactional_producer(settings: KafkaSettings, study_key: str) -> dict[str, Any]:
    """Options for the source. A second source of the same topic and study fences the first."""
    return connection(settings, "source") | {
        "transactional.id": f"imednet-source-{settings.events_topic}/{study_key}",
        "enable.idempotence": True,
        "transaction.timeout.ms": _milliseconds(settings.transaction_timeout_seconds),
        "socket.timeout.ms": _milliseconds(  # librdkafka: at most the transaction timeout
            min(settings.request_timeout_seconds, settings.transaction_timeout_seconds)
        ),
        "compression.type": "lz4",
        "linger.ms": 5,
    }


def dead_letter_producer(settings: KafkaSettings) -> dict[str, Any]:
    """Options for dead letters: acknowledged by all replicas, or reported as undelivered."""
    return connection(settings, "dead-letters") | {
        "enable.idempotence": True,
        "acks": "all",
        "delivery.timeout.ms": _milliseconds(settings.request_timeout_seconds),
    }


def group_consumer(settings: KafkaSettings, sink: SinkSettings) -> dict[str, Any]:
    """Options for a sink: offsets advance only by explicit commits, and a gap raises an error."""
    config = connection(settings, "sink") | {
        "group.id": sink.group_id,
        "group.protocol": sink.group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # start_positions.py assigns the first offset explicitly if the group has none.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        # How soon a recreated topic or new partitions are noticed (default: 300 s).
        "topic.metadata.refresh.interval.ms": 10_000,
        "max.poll.interval.ms": _milliseconds(sink.max_poll_interval_seconds),
        # librdkafka's default is 64 MB per consumer, plus its own copy of each message.
        "queued.max.messages.kbytes": 6_144,
        "fetch.queue.backoff.ms": 10,
        # A resumed partition waits for the fetch in flight, which covers only the others, and lasts
        # this long if they have no messages (with the default of 500 a replay took twice as long).
        "fetch.wait.max.ms": 100,
    }
    if sink.group_instance_id is not None:
        config["group.instance.id"] = sink.group_instance_id
    if sink.group_protocol == "classic":  # with KIP-848 both are the broker's
        config["partition.assignment.strategy"] = "cooperative-sticky"
        config["session.timeout.ms"] = _milliseconds(sink.session_timeout_seconds)
    return config


def log_reader(settings: KafkaSettings) -> dict[str, Any]:
    """Options to read committed messages from given offsets, without joining or committing."""
    return connection(settings, "log-reader") | {
        "group.id": "imednet-connector-reads-without-a-group",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    }


def epoch_checker(settings: KafkaSettings, group_id: str | None) -> dict[str, Any]:
    """Options to compare positions with the log, whatever a transaction holds back. Silent.

    ``group_id`` is one that the program may use by its ACLs; the client does not join it.
    """
    group = {} if group_id is None else {"group.id": group_id}
    return log_reader(settings) | group | {
        "isolation.level": "read_uncommitted",
        "fetch.wait.max.ms": 10,
        "log_level": 0,
    }  # fmt: skip
