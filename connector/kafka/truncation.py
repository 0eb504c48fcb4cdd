"""Whether a partition's log was cut, although it may have grown to its old length since.

Kafka loses acknowledged messages in an unclean leader election, or in a power cut if there is only
one replica. Either way a new leader epoch begins where the log was cut (KIP-320), so a position
from an earlier epoch lies beyond that epoch's end.
"""

import logging
import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as RawTopicPartition

from connector.config import KafkaSettings
from connector.errors import RetryableError
from connector.interfaces import Position
from connector.kafka.failures import OUT_OF_LOG, error_of, translate
from connector.kafka.reasons import made
from connector.kafka.settings import epoch_checker
from connector.model.cursor import TopicMark


def loss_since(
    settings: KafkaSettings, topic: str, before: TopicMark, now: TopicMark
) -> str | None:
    """Describe the events that the topic has lost between two marks; None if none. Blocks.

    Raises:
        RetryableError: the brokers do not answer.
    """
    if loss := before.loss(now):
        return loss
    ended = before.epochs_left_by(now)
    cut = truncated(
        settings, topic, {each: Position(before.ends[each], epoch) for each, epoch in ended.items()}
    )
    return f"the log of partition {min(cut)} was truncated" if cut else None


def truncated(
    settings: KafkaSettings,
    topic: str,
    positions: Mapping[int, Position],
    group_id: str | None = None,
) -> set[int]:
    """Return the partitions whose log was cut below these positions. Blocks.

    The brokers compare each position with the end of its leader epoch; a position without an epoch
    is truncated only if it is beyond the log's end. ``group_id`` serves ACLs only; no member joins.

    Raises:
        RetryableError: the brokers do not answer.
    """
    if not positions:
        return set()
    client = made(
        Consumer, epoch_checker(settings, group_id), logger=logging.getLogger("confluent_kafka")
    )
    try:
        return _truncated(client, settings, topic, positions)
    except KafkaException as exception:
        raise translate(error_of(exception), f"check the log of topic {topic}") from exception
    finally:
        client.close()


def _truncated(
    client: Consumer, settings: KafkaSettings, topic: str, positions: Mapping[int, Position]
) -> set[int]:
    client.assign([
        RawTopicPartition(topic, number, at.offset, leader_epoch=raw_epoch(at))
        for number, at in positions.items()
    ])  # fmt: skip
    unknown, cut = set(positions), set()
    end = time.monotonic() + settings.request_timeout_seconds
    while unknown:
        for found in client.consume(100, 0.1):
            number, error = found.partition() or 0, found.error()
            if error is not None and error.code() in OUT_OF_LOG:
                cut.add(number)
            elif error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise translate(error, f"check the log of topic {topic}")
            unknown.discard(number)  # a message or the log's end: the position is in the log
        if unknown and time.monotonic() > end:
            raise RetryableError(f"Cannot check the log of topic {topic}: no response")
    return cut


def raw_epoch(at: Position) -> int:
    """The client's leader epoch of a position; -1: unknown, or valid only for an earlier offset."""
    return -1 if at.leader_epoch is None or at.read_offset is not None else at.leader_epoch
