"""Where a member starts to read an assigned partition. A gap is reported, never skipped."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException
from confluent_kafka import TopicPartition as RawTopicPartition

from connector.clock import SystemClock
from connector.config import KafkaSettings
from connector.errors import FatalError, RetryableError
from connector.interfaces import PartitionStart, Range, TopicPartition
from connector.kafka.failures import error_of, translate
from connector.kafka.topic_log import bounds
from connector.kafka.topics import Topics
from connector.retry import Backoff, retry

log = structlog.stdlib.get_logger("connector.kafka.consumer")
T = TypeVar("T")

_RETRY_DELAY_SECONDS_MAX = 2.0
_RETRY_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Log:
    """A partition's current first and next offset, and the topic's id."""

    first: int
    next: int
    topic_id: str


def begin(committed: int | None, committed_topic_id: str, log: Log) -> tuple[int, str | None]:
    """Return the offset to start at, and the gap before it in words (None: no gap). Pure.

    A recreated topic counts its own offsets: one committed for the old topic is meaningless, even
    if it is within the new topic's bounds.
    """
    if committed is None:
        return log.first, None
    if committed_topic_id and log.topic_id and committed_topic_id != log.topic_id:
        return log.first, f"the topic was recreated after offset {committed} was committed"
    if committed < log.first:
        return log.first, f"offsets [{committed}, {log.first}) are no longer in the topic"
    if committed > log.next:
        return log.first, f"offsets [{log.next}, {committed}) were truncated from the topic"
    return committed, None


class StartPositions:
    """Finds start positions from the group's committed offsets and the topic's bounds."""

    def __init__(self, settings: KafkaSettings, group_id: str, *, accept_gap: bool) -> None:
        self._settings = settings
        self._group_id = group_id
        self._accept_gap = accept_gap
        self._notes: dict[int, str] = {}
        self.topic_id = ""

    def note(self, partition: int) -> str:
        """Return the metadata to commit with an offset: the topic's id, then the note it had."""
        return f"{self.topic_id} {self._notes.get(partition, '')}".rstrip()

    def check(self, topic: str, topic_id: str) -> None:
        """Check that the topic is still the one whose offsets this member reads.

        Raises:
            FatalError: the topic was recreated since the first partition was assigned.
        """
        if self.topic_id and topic_id and self.topic_id != topic_id:
            raise FatalError(
                f"Events may be missing: topic {topic} was deleted and recreated. Nothing was"
                " skipped. Restart to see which offsets are missing"
            )
        self.topic_id = topic_id or self.topic_id

    def positions(
        self, consumer: Consumer, partitions: list[RawTopicPartition]
    ) -> tuple[list[RawTopicPartition], dict[TopicPartition, PartitionStart]]:
        """Return the start positions, for the client and for the listener.

        Blocks, within a rebalance callback.

        Raises:
            FatalError: there is a gap that `accept_gap` does not allow, or the committed offsets
                cannot be read. A guess could skip events.
        """
        settings, topic = self._settings, partitions[0].topic
        self.check(topic, _until_answered(lambda: Topics(settings).topic_id(topic)))
        committed = _until_answered(lambda: self._committed(consumer, partitions))
        # Not from this consumer: it reads committed messages only, so messages held back by an
        # open transaction would look truncated.
        ranges = _until_answered(lambda: bounds(settings, topic))
        positions = [self._begin(each, ranges[each.partition]) for each in committed]
        starts = {
            TopicPartition(topic, at.partition): PartitionStart(
                at.offset,
                ranges[at.partition].start,
                f"{self.topic_id}/{self._group_id}/{at.partition}",
            )
            for at in positions
        }
        return positions, starts

    def _committed(
        self, consumer: Consumer, partitions: list[RawTopicPartition]
    ) -> list[RawTopicPartition]:
        committed = consumer.committed(partitions, timeout=self._settings.request_timeout_seconds)
        for each in committed:
            if each.error is not None:
                raise translate(each.error, "read committed offsets")
        return committed

    def _begin(self, committed: RawTopicPartition, available: Range) -> RawTopicPartition:
        offset = None if committed.offset == OFFSET_INVALID else committed.offset
        topic_id, _, self._notes[committed.partition] = (committed.metadata or "").partition(" ")
        start, gap = begin(offset, topic_id, Log(available.start, available.end, self.topic_id))
        name = f"{committed.topic}[{committed.partition}]"
        if gap and not self._accept_gap:
            raise FatalError(
                f"Events may be missing from {name}: {gap}. Nothing was skipped. To continue at"
                f" offset {start}, the first one available, start once with --accept-gap; the"
                " source's next full sweep then completes the graph"
            )
        if gap:
            log.warning("gap accepted", partition=committed.partition, gap=gap, offset=start)
        epoch = committed.leader_epoch if start == offset else None
        return RawTopicPartition(
            committed.topic,
            committed.partition,
            start,
            leader_epoch=-1 if epoch is None else epoch,
        )


def _until_answered(ask: Callable[[], T]) -> T:
    """Return what ``ask`` returns, retrying for a minute. Blocks.

    Raises:
        FatalError: the brokers did not answer within a minute.
    """
    end = time.monotonic() + _RETRY_SECONDS_MAX

    def failed(error: Exception, _: float) -> None:
        reason = error_of(error).name() if isinstance(error, KafkaException) else str(error)
        if time.monotonic() > end:
            raise FatalError(
                f"Cannot read the group's committed offsets: {reason}. Check the brokers, then"
                " start again"
            ) from error
        log.warning("retrying to read the group's committed offsets", reason=reason)

    backoff = Backoff(_RETRY_DELAY_SECONDS_MAX, first_seconds=1.0)
    errors = (KafkaException, RetryableError)
    return retry(ask, backoff, SystemClock(), threading.Event(), failed, errors)
