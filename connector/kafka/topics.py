"""The three topics: their required settings, creating them, and reporting differences."""

from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from connector.config import KafkaSettings
from connector.errors import RetryableError
from connector.kafka.failures import answer_of, error_of
from connector.kafka.reasons import made, require_broker
from connector.kafka.settings import admin

_NO_TOPIC_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""16 zero bytes: brokers before Kafka 2.8 have no topic ids."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic's required settings. ``partitions`` applies only when the topic is created."""

    name: str
    partitions: int
    config: dict[str, str]


@dataclass(frozen=True, slots=True)
class TopicState:
    """What `Topics.ensure` found or did: created, missing, or settings that differ."""

    name: str
    created: bool
    missing: bool
    differences: tuple[str, ...]


def specs(settings: KafkaSettings) -> list[TopicSpec]:
    """Return the required topics.

    Events and cursors are compacted, so a graph can be rebuilt at any time. Dead letters are kept
    forever.
    """
    return [
        TopicSpec(
            settings.events_topic,
            settings.topic_partitions,
            # Broker timestamps bound the versions and make a replay's --from time exact.
            {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"},
        ),
        TopicSpec(
            settings.cursors_topic,
            1,
            # Read in full at every start, so segments are small and compacted within the hour.
            {
                "cleanup.policy": "compact",
                "segment.bytes": "1048576",
                "segment.ms": "3600000",
                "max.compaction.lag.ms": "3600000",
                "min.cleanable.dirty.ratio": "0.1",
            },
        ),
        TopicSpec(
            settings.dead_letter_topic, 1, {"cleanup.policy": "delete", "retention.ms": "-1"}
        ),
    ]


class Topics:
    """Topic administration."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Create the client; sends nothing.

        Raises:
            FatalError: the client rejects its settings; names the one at fault.
        """
        self._settings = settings
        self._admin = made(AdminClient, admin(settings))

    def check(self) -> None:
        """Check at program start that a broker answers.

        Raises:
            FatalError: none does; with the reason. A wrong setting is likelier than an outage.
        """
        require_broker(self._settings)

    def partitions(self, topic: str) -> int:
        """Return the topic's number of partitions.

        Raises:
            RetryableError: no broker answers, or the topic is missing.
        """
        found = self._existing()
        if topic not in found:
            raise RetryableError(f"Topic {topic} does not exist. Run `imednet-connector setup`")
        return found[topic]

    def message_bytes_max(self, topic: str) -> int:
        """Return the topic's ``max.message.bytes``.

        Raises:
            RetryableError: no broker answers.
            FatalError: no access.
        """
        return int(self._config(topic)["max.message.bytes"].value or 0)

    def cluster_id(self) -> str:
        """Return the cluster's id; empty if the brokers do not report one.

        Raises:
            RetryableError: no broker answers.
        """
        return self._metadata().cluster_id or ""

    def topic_id(self, topic: str) -> str:
        """Return the topic's id, which changes if it is recreated; empty if brokers have no ids.

        Raises:
            RetryableError: no broker answers, or the topic is missing.
            FatalError: no access.
        """
        timeout = self._settings.request_timeout_seconds
        described = self._admin.describe_topics(TopicCollection([topic]), request_timeout=timeout)
        found = str(answer_of(described[topic], timeout, f"describe topic {topic}").topic_id)
        return "" if found == _NO_TOPIC_ID else found

    def ensure(self, *, create: bool) -> list[TopicState]:
        """Create missing topics if ``create``, and report how existing topics differ.

        Raises:
            FatalError: the brokers refuse.
            RetryableError: no broker answers.
        """
        found = self._existing()
        required = specs(self._settings)
        missing = [spec for spec in required if spec.name not in found]
        if create and missing:
            self._create(missing)
        states = []
        for spec in required:
            exists = spec.name in found
            differences = self._differences(spec) if exists else ()
            states.append(TopicState(spec.name, create and not exists, not exists, differences))
        return states

    def _existing(self) -> dict[str, int]:
        topics = self._metadata().topics or {}
        return {name: len(topic.partitions) for name, topic in topics.items()}

    def _metadata(self) -> ClusterMetadata:
        try:
            return self._admin.list_topics(timeout=self._settings.connect_timeout_seconds)
        except KafkaException as exception:
            raise RetryableError(
                f"No Kafka broker answers at {self._settings.bootstrap_servers}"
                f" ({error_of(exception).name()}). Check KAFKA_BOOTSTRAP_SERVERS"
            ) from exception

    def _create(self, missing: list[TopicSpec]) -> None:
        new = [
            NewTopic(
                spec.name, spec.partitions, self._settings.replication_factor, config=spec.config
            )
            for spec in missing
        ]
        timeout = self._settings.request_timeout_seconds
        for future in self._admin.create_topics(new, operation_timeout=timeout).values():
            answer_of(future, timeout, "create topics")

    def _differences(self, spec: TopicSpec) -> tuple[str, ...]:
        actual = self._config(spec.name)
        return tuple(
            f"{name} is {actual[name].value}, should be {value}"
            for name, value in spec.config.items()
            if actual[name].value != value
        )

    def _config(self, topic: str) -> dict[str, ConfigEntry]:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        timeout = self._settings.request_timeout_seconds
        described = self._admin.describe_configs([resource], request_timeout=timeout)
        config: dict[str, ConfigEntry] = answer_of(
            described[resource], timeout, f"read the settings of topic {topic}"
        )
        return config
