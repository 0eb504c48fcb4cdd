"""Settings of the Kafka cluster and the topics."""

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from connector.config.section import Count, Seconds, Section


class KafkaSettings(Section):
    """The Kafka cluster and the three topics."""

    name = "kafka"

    bootstrap_servers: str = Field("localhost:9092", description="host:port, comma-separated.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As in every Kafka client."
    )
    sasl_mechanism: str | None = Field(None, description="Such as SCRAM-SHA-512.")
    sasl_username: str | None = Field(None, description="User of the SASL mechanism.")
    sasl_password: SecretStr | None = Field(None, description="Password of the SASL mechanism.")
    ssl_ca_location: str | None = Field(None, description="File with the CA certificates.")
    events_topic: str = Field("imednet.events", description="The change stream; compacted.")
    cursors_topic: str = Field("imednet.cursors", description="The source's place; compacted.")
    dead_letter_topic: str = Field("imednet.events.dlq", description="What cannot be applied.")
    topic_partitions: Count = Field(6, description="Partitions of a new events topic.")
    replication_factor: int = Field(
        -1, ge=-1, description="Replicas of a new topic; -1 is the broker's default."
    )
    connect_timeout_seconds: Seconds = Field(
        10.0, description="Until an unreachable broker is reported at the start."
    )
    request_timeout_seconds: Seconds = Field(
        30.0, description="Bound of one call to the brokers (commit, transaction, metadata)."
    )
    transaction_timeout_seconds: Seconds = Field(
        60.0, description="The brokers end a transaction of the source that takes longer."
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _no_userinfo(cls, value: str) -> str:
        if "@" in value:
            raise ValueError(
                "must not hold user or password: use KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD"
            )
        return value
