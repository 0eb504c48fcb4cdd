"""Settings of the sink: how it consumes and writes."""

from typing import Literal

from pydantic import Field

from connector.config.section import Count, Seconds, Section


class SinkSettings(Section):
    """How the sink consumes and writes."""

    name = "sink"

    group_id: str = Field("imednet-sink", min_length=1, description="Consumer group.")
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic", description="classic is cooperative-sticky; consumer is KIP-848 (Kafka 4)."
    )
    group_instance_id: str | None = Field(
        None,
        min_length=1,
        description="Static membership: unlike in any other member, the same after a restart.",
    )
    writers_max: int = Field(4, ge=1, le=64, description="Batches written to Neo4j at once.")
    transaction_events_max: Count = Field(800, le=100_000, description="Events a transaction.")
    batch_events_max: Count = Field(
        4000, le=100_000, description="Events a batch, which is probed as one, of one partition."
    )
    batch_bytes_max: Count = Field(4_000_000, description="Bytes a batch and a transaction.")
    buffer_bytes_max: int = Field(
        38_000_000, ge=1_000_000, description="Memory for messages that wait, all partitions."
    )
    linger_seconds: float = Field(
        0.0, ge=0, le=60, description="Wait for a fuller batch; 0 writes at once what is there."
    )
    commit_interval_seconds: Seconds = Field(
        0.2, description="Between two commits of offsets; also at a rebalance and at the end."
    )
    max_poll_interval_seconds: float = Field(
        300.0, ge=10, le=86_400, description="Kafka's max.poll.interval.ms."
    )
    session_timeout_seconds: float = Field(
        45.0, ge=6, le=1800, description="Kafka's session.timeout.ms (the broker's for consumer)."
    )
    retry_wait_seconds_max: Seconds = Field(
        10.0, description="Longest pause before a failed write is repeated."
    )
    check_interval_seconds: Seconds = Field(
        60.0,
        description="Interval between checks of the graph's constraints and checkpoints.",
    )
    revoke_timeout_seconds: Seconds = Field(
        5.0, description="Longest wait for running writes when a partition is taken away."
    )
    close_timeout_seconds: Seconds = Field(9.0, description="Bound of a shutdown, whatever hangs.")
    accept_gap: bool = Field(
        False,
        description="Continue at the first available event if some are gone (--accept-gap).",
    )
