"""From our settings to librdkafka's, each option that the promise rests on said explicitly."""

from typing import Any

from connector.config import KafkaSettings, SinkSettings

ConfigValue = str | int | float | bool


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def connection(settings: KafkaSettings, role: str) -> dict[str, Any]:
    """What every client needs to reach the cluster."""
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
    """For short-lived administration: silent, since every failure is raised with its code."""
    return connection(settings, "admin") | {"log_level": 0}


def group_observer(settings: KafkaSettings, group_id: str) -> dict[str, Any]:
    """Asks for a group's offsets without being a member."""
    return admin(settings) | {"group.id": group_id, "enable.auto.commit": False}


def transactional_producer(settings: KafkaSettings, study_key: str) -> dict[str, Any]:
    """One transactional id for each events topic and study: a second source fences the first."""
    return connection(settings, "source") | {
        "transactional.id": f"imednet-source-{settings.events_topic}/{study_key}",
        "enable.idempotence": True,
        "transaction.timeout.ms": _milliseconds(settings.transaction_timeout_seconds),
        "socket.timeout.ms": _milliseconds(  # librdkafka insists on no more than that
            min(settings.request_timeout_seconds, settings.transaction_timeout_seconds)
        ),
        "compression.type": "lz4",
        "linger.ms": 5,
    }


def dead_letter_producer(settings: KafkaSettings) -> dict[str, Any]:
    """A letter is acknowledged by all replicas or reported as not delivered."""
    return connection(settings, "dead-letters") | {
        "enable.idempotence": True,
        "acks": "all",
        "delivery.timeout.ms": _milliseconds(settings.request_timeout_seconds),
    }


def group_consumer(settings: KafkaSettings, sink: SinkSettings) -> dict[str, Any]:
    """Offsets move by explicit commits only, and a gap is an error rather than a jump."""
    config = connection(settings, "sink") | {
        "group.id": sink.group_id,
        "group.protocol": sink.group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # A first start begins at the beginning by an explicit assignment (starting.py).
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        # Within this a topic that is made again, or grows, is seen (by default within 300 s).
        "topic.metadata.refresh.interval.ms": 10_000,
        "max.poll.interval.ms": _milliseconds(sink.max_poll_interval_seconds),
        # librdkafka's default is 64 MB a consumer, and its own copy of each message beside it.
        "queued.max.messages.kbytes": 6_144,
        "fetch.queue.backoff.ms": 10,
        # A partition that goes on waits for the request under way, which holds the others only: up
        # to so long where they have nothing (by the default of 500 a replay took twice as long).
        "fetch.wait.max.ms": 100,
    }
    if sink.group_instance_id is not None:
        config["group.instance.id"] = sink.group_instance_id
    if sink.group_protocol == "classic":  # with KIP-848 both are the broker's
        config["partition.assignment.strategy"] = "cooperative-sticky"
        config["session.timeout.ms"] = _milliseconds(sink.session_timeout_seconds)
    return config


def log_reader(settings: KafkaSettings) -> dict[str, Any]:
    """Reads committed messages from given offsets; belongs to no group and commits nothing."""
    return connection(settings, "log-reader") | {
        "group.id": "imednet-connector-reads-without-a-group",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    }
