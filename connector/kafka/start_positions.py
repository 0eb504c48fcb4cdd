"""Where a member starts to read an assigned partition. A gap is reported, never skipped."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import structlog
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException
from confluent_kafka import TopicPartition as RawTopicPartition

from connector.clock import SystemClock
from connector.config import KafkaSettings
from connector.errors import FatalError, RetryableError
from connector.interfaces import PartitionStart, Position, TopicPartition
from connector.kafka.failures import error_of, translate
from connector.kafka.offset_metadata import OffsetMetadata
from connector.kafka.topic_log import mark_of
from connector.kafka.truncation import raw_epoch, truncated
from connector.model.cursor import TopicMark
from connector.retry import Backoff, retry

log = structlog.stdlib.get_logger("connector.kafka.consumer")
T = TypeVar("T")

_RETRY_DELAY_SECONDS_MAX = 2.0
_RETRY_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Log:
    """A partition's current first and next offset and leader epoch, and the topic's id."""

    first: int
    next: int
    topic_id: str
    epoch: int | None = None
    is_truncated: bool = False
    """Whether it was cut below the committed offset; it may have grown beyond it again."""


class Start(NamedTuple):
    """The offset to start at, and why it is not the committed one."""

    offset: int
    gap: str | None = None
    """The missing events, in words."""
    is_reread: bool = False
    """Whether events that were applied are read again."""


class GroupPosition(NamedTuple):
    """A partition's committed offset (None if the group has committed none), and its metadata."""

    offset: int | None
    intact: Position
    """The position after the last message that was applied, if it is known; offset 0 if not."""
    metadata: OffsetMetadata

    @classmethod
    def parsed(cls, raw: RawTopicPartition) -> "GroupPosition":
        """Parse what `StartPositions.metadata` returned."""
        offset = None if raw.offset == OFFSET_INVALID else raw.offset
        metadata = OffsetMetadata.parsed(raw.metadata or "")
        intact = Position(offset or 0, raw.leader_epoch)
        if (known := metadata.intact) is not None:
            intact = Position(min(known.offset, intact.offset), known.leader_epoch)
        return cls(offset, intact, metadata)


def begin(at: GroupPosition, log: Log) -> Start:
    """Return where to start. Pure.

    A recreated topic counts its own offsets: one committed for the old topic is meaningless, even
    if it is within the new topic's bounds. A truncated log has lost only events that were applied,
    but the offsets below the committed one may hold others now, so all are read again.
    """
    committed = at.offset
    if committed is None:
        return Start(log.first)
    if not at.metadata.is_of(log.topic_id):
        return Start(log.first, f"the topic was recreated after offset {committed} was committed")
    if committed < log.first:
        return Start(log.first, f"offsets [{committed}, {log.first}) are no longer in the topic")
    if committed > log.next or log.is_truncated:
        return Start(log.first, is_reread=True)
    if at.intact.leader_epoch not in (None, log.epoch):
        # Behind the last message are only control records, unless a new leader has lost them and
        # written events there.
        return Start(max(log.first, at.intact.offset))
    return Start(committed)


class StartPositions:
    """Finds start positions from the group's committed offsets and the topic's bounds."""

    def __init__(self, settings: KafkaSettings, group_id: str, *, accept_gap: bool) -> None:
        self._settings = settings
        self._group_id = group_id
        self._accept_gap = accept_gap
        self._metadata: dict[int, OffsetMetadata] = {}
        """What the metadata of each partition's next commit keeps."""
        self._intact: dict[int, Position] = {}
        """The position up to which each partition's log is known to be intact: after the last
        message that was applied, with that message's epoch, or where the partition was started."""
        self.topic_id = ""

    def metadata(self, at: TopicPartition, position: Position) -> str:
        """Note a position that was applied, and return the metadata to commit with its offset."""
        if position.leader_epoch is not None:
            self._intact[at.partition] = position.last_read
        kept = self._metadata.get(at.partition, OffsetMetadata()).of_topic(self.topic_id)
        return str(kept._replace(intact=self._intact.get(at.partition)))

    def epoch(self, at: TopicPartition, offset: int) -> int:
        """Return the leader epoch for a seek, or -1 if the log is not known to be intact there."""
        intact = self._intact.get(at.partition)
        if intact is None or intact.leader_epoch is None or offset > intact.offset:
            return -1
        return intact.leader_epoch

    def forget(self, partition: int) -> None:
        """Forget a partition that is given back."""
        self._intact.pop(partition, None)

    def check_log(self, topic: str) -> None:
        """Check that the topic is the one that was assigned, and its log as it was. Blocks.

        Raises:
            FatalError: the topic was recreated, or a log truncated.
            RetryableError: the brokers do not answer.
        """
        before = dict(self._intact)  # first: what is applied later may be beyond the end read now
        now = mark_of(self._settings, topic)
        self.check(topic, now.topic_id)
        if cut := self._truncated(topic, now, before):
            raise FatalError(
                f"The log of {topic}[{min(cut)}] was truncated: the brokers lost events that were"
                " acknowledged. Restart: the sink then reads the partition again from its beginning"
            )
        for number, at in before.items():
            if self._intact.get(number) is at:  # the loop's thread may commit meanwhile
                self._intact[number] = Position(at.offset, now.epoch(number))

    def _truncated(self, topic: str, now: TopicMark, at: Mapping[int, Position]) -> set[int]:
        """Return the partitions that were cut below these positions. Blocks.

        Not those that begin after them: that is a gap.

        Raises:
            RetryableError: the brokers do not answer, or do not know all partitions yet.
        """
        if at and max(at) >= len(now.ends):
            raise RetryableError(f"Topic {topic} has {len(now.ends)} partitions")
        beyond = {number for number, position in at.items() if position.offset > now.ends[number]}
        suspects = {
            number: position
            for number, position in at.items()
            if position.leader_epoch not in (None, now.epoch(number))
            and now.starts[number] <= position.offset <= now.ends[number]
        }
        return beyond | truncated(self._settings, topic, suspects, self._group_id)

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
            FatalError: there is a gap that `accept_gap` does not allow, or the brokers do not
                answer. A guess could skip events.
        """
        topic = partitions[0].topic
        read, now, cut = _until_answered(lambda: self._compared(consumer, partitions))
        self.check(topic, now.topic_id)
        positions = [
            self._begin(topic, number, at, now, is_truncated=number in cut)
            for number, at in read.items()
        ]
        starts = {
            TopicPartition(topic, start.partition): PartitionStart(
                start.offset, now.starts[start.partition], self._checkpoint(start.partition)
            )
            for start in positions
        }
        return positions, starts

    def _compared(
        self, consumer: Consumer, partitions: list[RawTopicPartition]
    ) -> tuple[dict[int, GroupPosition], TopicMark, set[int]]:
        """Return the group's positions, the topic's mark, and the partitions cut below. Blocks."""
        topic = partitions[0].topic
        committed = self._committed(consumer, partitions)
        read = {each.partition: GroupPosition.parsed(each) for each in committed}
        # Not from this consumer: it reads committed messages only, so messages held back by an
        # open transaction would look truncated.
        now = mark_of(self._settings, topic)
        cut = self._truncated(topic, now, {each: at.intact for each, at in read.items()})
        return read, now, cut

    def _committed(
        self, consumer: Consumer, partitions: list[RawTopicPartition]
    ) -> list[RawTopicPartition]:
        committed = consumer.committed(partitions, timeout=self._settings.request_timeout_seconds)
        for each in committed:
            if each.error is not None:
                raise translate(each.error, "read committed offsets")
        return committed

    def _begin(
        self, topic: str, number: int, at: GroupPosition, now: TopicMark, *, is_truncated: bool
    ) -> RawTopicPartition:
        epoch = now.epoch(number)
        log_now = Log(now.starts[number], now.ends[number], self.topic_id, epoch, is_truncated)
        start = begin(at, log_now)
        if start.gap and not self._accept_gap:
            raise FatalError(
                f"Events may be missing from {topic}[{number}]: {start.gap}. Nothing was skipped."
                f" To continue at offset {start.offset}, the first one available, start once with"
                " --accept-gap; the source's next full sweep then completes the graph"
            )
        if start.gap:
            log.warning("gap accepted", partition=number, gap=start.gap, offset=start.offset)
        kept = at.metadata.of_topic(self.topic_id)
        if start.is_reread:
            kept = kept._replace(truncation_epoch=epoch)
            log.warning(
                "log was truncated, rereading events",
                partition=number,
                committed=at.offset,
                offset=start.offset,
            )
        self._metadata[number] = kept
        self._intact[number] = Position(start.offset, epoch)
        return RawTopicPartition(
            topic, number, start.offset, leader_epoch=raw_epoch(self._intact[number])
        )

    def _checkpoint(self, number: int) -> str:
        """The key of the checkpoint. A graph from before a truncation has none under this key.

        Its checkpoint may be beyond the cut, where the log holds other events now.
        """
        key = f"{self.topic_id}/{self._group_id}/{number}"
        epoch = self._metadata[number].truncation_epoch
        return key if epoch is None else f"{key}/{epoch}"


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
                f"Cannot find where the group starts to read: {reason}. Check the brokers, then"
                " start again"
            ) from error
        log.warning("retrying to find where the group starts", reason=reason)

    backoff = Backoff(_RETRY_DELAY_SECONDS_MAX, first_seconds=1.0)
    errors = (KafkaException, RetryableError)
    return retry(ask, backoff, SystemClock(), threading.Event(), failed, errors)
