"""Where a member begins to read a partition that it was given; a gap is said, never skipped."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException
from confluent_kafka import TopicPartition as RawTopicPartition

from connector.config import KafkaSettings
from connector.errors import FatalError, RetryableError
from connector.interfaces import PartitionStart, Range, TopicPartition
from connector.kafka.failures import error_of, translate
from connector.kafka.topic_log import bounds
from connector.kafka.topics import Topics

log = structlog.stdlib.get_logger("connector.kafka.consumer")
T = TypeVar("T")

_TRY_AGAIN_SECONDS = 1.0
_TRY_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Log:
    """A partition as it is in the topic now: first and next offset, and which topic it is."""

    first: int
    next: int
    topic_id: str


def begin(committed: int | None, committed_topic_id: str, log: Log) -> tuple[int, str | None]:
    """The offset to begin at, and what is missing before it (None: nothing). Pure.

    A topic that was made anew has offsets of its own: a committed one of the old topic says
    nothing of it, however well it fits.
    """
    if committed is None:
        return log.first, None
    if committed_topic_id and log.topic_id and committed_topic_id != log.topic_id:
        return log.first, f"the topic was made anew after offset {committed} was committed"
    if committed < log.first:
        return log.first, f"offsets [{committed}, {log.first}) are not in the topic any more"
    if committed > log.next:
        return log.first, f"offsets [{log.next}, {committed}) were cut off from the topic"
    return committed, None


class StartPositions:
    """Asks the brokers where the group is, and what they still have."""

    def __init__(self, settings: KafkaSettings, group_id: str, *, accept_gap: bool) -> None:
        self._settings = settings
        self._group_id = group_id
        self._accept_gap = accept_gap
        self._notes: dict[int, str] = {}
        self.topic_id = ""

    def note(self, partition: int) -> str:
        """What to commit beside an offset: the topic's id, and what stood behind it before."""
        return f"{self.topic_id} {self._notes.get(partition, '')}".rstrip()

    def check(self, topic: str, topic_id: str) -> None:
        """Offsets of another topic of the same name say nothing of what this member has read.

        Raises:
            FatalError: the topic was made anew since the first partition was given to it.
        """
        if self.topic_id and topic_id and self.topic_id != topic_id:
            raise FatalError(
                f"events may be missing: topic {topic} was deleted and made again. Nothing"
                " was skipped; start again to see what is missing"
            )
        self.topic_id = topic_id or self.topic_id

    def positions(
        self, consumer: Consumer, partitions: list[RawTopicPartition]
    ) -> tuple[list[RawTopicPartition], dict[TopicPartition, PartitionStart]]:
        """These partitions with the offsets to begin at. Blocks, within a rebalance callback.

        For the client, and for the listener.

        Raises:
            FatalError: there is a gap, and nobody said to accept it; or the brokers do not say
                where the group is. To guess would be to lose or to jump.
        """
        settings, topic = self._settings, partitions[0].topic
        self.check(topic, _persistently(lambda: Topics(settings).topic_id(topic)))
        committed = _persistently(lambda: self._committed(consumer, partitions))
        # Not by this consumer: it reads committed, so it would take what open transactions hold
        # back for cut off.
        there = _persistently(lambda: bounds(settings, topic))
        positions = [self._begin(each, there[each.partition]) for each in committed]
        starts = {
            TopicPartition(topic, at.partition): PartitionStart(
                at.offset,
                there[at.partition].start,
                f"{self.topic_id}/{self._group_id}/{at.partition}",
            )
            for at in positions
        }
        return positions, starts

    def _committed(
        self, consumer: Consumer, partitions: list[RawTopicPartition]
    ) -> list[RawTopicPartition]:
        answer = consumer.committed(partitions, timeout=self._settings.request_timeout_seconds)
        for each in answer:
            if each.error is not None:
                raise translate(each.error, "reading committed offsets")
        return answer

    def _begin(self, committed: RawTopicPartition, there: Range) -> RawTopicPartition:
        offset = None if committed.offset == OFFSET_INVALID else committed.offset
        topic_id, _, self._notes[committed.partition] = (committed.metadata or "").partition(" ")
        start, gap = begin(offset, topic_id, Log(there.start, there.end, self.topic_id))
        name = f"{committed.topic}[{committed.partition}]"
        if gap and not self._accept_gap:
            raise FatalError(
                f"events may be missing: {name}: {gap}. Nothing was skipped. To go on at offset"
                f" {start}, the first there is, start once with --accept-gap; the graph is right"
                " again when the source's next full sweep is through"
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


def _persistently(ask: Callable[[], T]) -> T:
    """The answer, asked for again while the brokers do not give it."""
    end = time.monotonic() + _TRY_SECONDS_MAX
    while True:
        try:
            return ask()
        except (KafkaException, RetryableError) as error:
            said = error_of(error).name() if isinstance(error, KafkaException) else str(error)
            if time.monotonic() > end:
                raise FatalError(
                    f"the group's place cannot be read: {said}: start again"
                ) from error
            log.warning("asking again for the group's place", reason=said)
            time.sleep(_TRY_AGAIN_SECONDS)
