"""The three topics: what they must be like, making them, and saying what differs."""

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
"""16 bytes of 0: what brokers before Kafka 2.8 leave unsaid."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic must be like. ``partitions`` is the number for a new one."""

    name: str
    partitions: int
    config: dict[str, str]


@dataclass(frozen=True, slots=True)
class TopicState:
    """What setup found or did: ``made``, or the settings that differ from the wanted ones."""

    name: str
    made: bool
    missing: bool
    differences: tuple[str, ...]


def specs(settings: KafkaSettings) -> list[TopicSpec]:
    """Events and cursors are compacted (a graph can be rebuilt at any time); dead letters stay."""
    return [
        TopicSpec(
            settings.events_topic,
            settings.topic_partitions,
            # The broker's clock vouches for versions, and makes "since" of a replay exact.
            {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"},
        ),
        TopicSpec(
            settings.cursors_topic,
            1,
            # It is read as a whole at each start: small segments, compacted within the hour.
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
        """Make the client; nothing is sent.

        Raises:
            FatalError: the client refuses its settings; names the one that is wrong.
        """
        self._settings = settings
        self._admin = made(AdminClient, admin(settings))

    def check(self) -> None:
        """Prove at the start of a program that a broker answers.

        Raises:
            FatalError: none does, with its reason: a wrong setting is more likely than an outage.
        """
        require_broker(self._settings)

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has.

        Raises:
            RetryableError: no broker answers, or there is no such topic.
        """
        found = self._existing()
        if topic not in found:
            raise RetryableError(f"topic {topic} does not exist: run `imednet-connector setup`")
        return found[topic]

    def message_bytes_max(self, topic: str) -> int:
        """The topic's ``max.message.bytes``.

        Raises:
            RetryableError: no broker answers.
            FatalError: no access.
        """
        return int(self._config(topic)["max.message.bytes"].value or 0)

    def cluster_id(self) -> str:
        """The cluster's own id; empty where the brokers do not say it.

        Raises:
            RetryableError: no broker answers.
        """
        return self._metadata().cluster_id or ""

    def topic_id(self, topic: str) -> str:
        """Tells a topic from one of the same name made anew; empty where brokers have no ids.

        Raises:
            RetryableError: no broker answers.
            FatalError: there is no such topic, or no access.
        """
        timeout = self._settings.request_timeout_seconds
        described = self._admin.describe_topics(TopicCollection([topic]), request_timeout=timeout)
        found = str(answer_of(described[topic], timeout, f"describing {topic}").topic_id)
        return "" if found == _NO_TOPIC_ID else found

    def ensure(self, *, make: bool) -> list[TopicState]:
        """Make what is missing (unless only checking) and say how the topics differ.

        Raises:
            FatalError: the brokers refuse.
            RetryableError: no broker answers.
        """
        found = self._existing()
        wanted = specs(self._settings)
        missing = [spec for spec in wanted if spec.name not in found]
        if make and missing:
            self._create(missing)
        states = []
        for spec in wanted:
            exists = spec.name in found
            differences = self._differences(spec) if exists else ()
            states.append(TopicState(spec.name, make and not exists, not exists, differences))
        return states

    def _existing(self) -> dict[str, int]:
        topics = self._metadata().topics or {}
        return {name: len(topic.partitions) for name, topic in topics.items()}

    def _metadata(self) -> ClusterMetadata:
        try:
            return self._admin.list_topics(timeout=self._settings.connect_timeout_seconds)
        except KafkaException as exception:
            raise RetryableError(
                f"no Kafka broker answers at {self._settings.bootstrap_servers}"
                f" ({error_of(exception).name()}): check KAFKA_BOOTSTRAP_SERVERS"
            ) from exception

    def _create(self, wanted: list[TopicSpec]) -> None:
        new = [
            NewTopic(
                spec.name, spec.partitions, self._settings.replication_factor, config=spec.config
            )
            for spec in wanted
        ]
        timeout = self._settings.request_timeout_seconds
        for future in self._admin.create_topics(new, operation_timeout=timeout).values():
            answer_of(future, timeout, "making topics")

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
        asked = self._admin.describe_configs([resource], request_timeout=timeout)
        found: dict[str, ConfigEntry] = answer_of(
            asked[resource], timeout, "reading topic settings"
        )
        return found
