"""Settings of the sink: how it consumes and writes."""

from typing import Literal

from pydantic import Field

from connector.config.section import Count, Seconds, Section


class SinkSettings(Section):
    """How the sink consumes and writes."""

    name = "sink"

    group_id: str = Field("imednet-sink", min_length=1, description="Consumer group.")
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic",
        description="classic (cooperative-sticky) or consumer (KIP-848, Kafka 4).",
    )
    group_instance_id: str | None = Field(
        None,
        min_length=1,
        description="Static member id: unique per member, stable across restarts.",
    )
    writers_max: int = Field(
        4, ge=1, le=64, description="Maximum batches written to Neo4j concurrently."
    )
    transaction_events_max: Count = Field(
        800, le=100_000, description="Maximum events per transaction."
    )
    batch_events_max: Count = Field(
        4000,
        le=100_000,
        description="Maximum events per batch: one partition's events, probed with one query.",
    )
    batch_bytes_max: Count = Field(
        4_000_000, description="Maximum bytes per batch and per transaction."
    )
    buffer_bytes_max: int = Field(
        38_000_000,
        ge=1_000_000,
        description="Memory for messages waiting in all partitions' queues; up to twice as much"
        " while some partitions are far ahead of the others.",
    )
    linger_seconds: float = Field(
        0.0, ge=0, le=60, description="How long to wait for a fuller batch; 0: do not wait."
    )
    commit_interval_seconds: Seconds = Field(
        0.2, description="Interval between offset commits; a rebalance and a shutdown also commit."
    )
    max_poll_interval_seconds: float = Field(
        300.0, ge=10, le=86_400, description="Kafka's max.poll.interval.ms, in seconds."
    )
    session_timeout_seconds: float = Field(
        45.0,
        ge=6,
        le=1800,
        description="Kafka's session.timeout.ms, in seconds; classic group protocol only.",
    )
    retry_wait_seconds_max: Seconds = Field(
        10.0, description="Maximum delay before a failed write is retried."
    )
    check_interval_seconds: Seconds = Field(
        60.0,
        description="Interval between checks of the graph's constraints and checkpoints.",
    )
    revoke_timeout_seconds: Seconds = Field(
        5.0, description="Maximum wait for writes in flight when a partition is revoked."
    )
    close_timeout_seconds: Seconds = Field(
        9.0, description="Maximum duration of a shutdown, even if a server hangs."
    )
    accept_gap: bool = Field(
        False,
        description="Continue at the first available event if some are gone (--accept-gap).",
    )
