"""Settings of the Kafka cluster and the topics."""

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from connector.config.section import Count, Seconds, Section


class KafkaSettings(Section):
    """The Kafka cluster and the three topics."""

    name = "kafka"

    bootstrap_servers: str = Field(
        "localhost:9092", description="Brokers as host:port, comma-separated."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    )
    sasl_mechanism: str | None = Field(
        None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; for SASL protocols."
    )
    sasl_username: str | None = Field(None, description="SASL user name.")
    sasl_password: SecretStr | None = Field(None, description="SASL password.")
    ssl_ca_location: str | None = Field(None, description="PEM file with the CA certificates.")
    events_topic: str = Field("imednet.events", description="Topic of the events; compacted.")
    cursors_topic: str = Field(
        "imednet.cursors", description="Topic of the source's cursors; compacted."
    )
    dead_letter_topic: str = Field("imednet.events.dlq", description="Topic of the dead letters.")
    topic_partitions: Count = Field(
        6, description="Number of partitions when setup creates the events topic."
    )
    replication_factor: int = Field(
        -1, ge=-1, description="Replicas of topics that setup creates; -1: the broker's default."
    )
    connect_timeout_seconds: Seconds = Field(
        10.0, description="How long a command waits for a broker before it fails at startup."
    )
    request_timeout_seconds: Seconds = Field(
        30.0, description="Timeout of a broker call (commit, transaction, metadata)."
    )
    transaction_timeout_seconds: Seconds = Field(
        60.0, description="The brokers abort a source transaction that takes longer."
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _no_userinfo(cls, value: str) -> str:
        if "@" in value:
            raise ValueError(
                "must not contain a user or password. Use KAFKA_SASL_USERNAME and"
                " KAFKA_SASL_PASSWORD"
            )
        return value
