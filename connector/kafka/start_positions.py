"""Where a member starts to read an assigned partition. A gap is reported, never skipped."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
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
from connector.kafka.topic_log import mark_of
from connector.kafka.truncation import truncated
from connector.model.cursor import TopicMark
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
    is_truncated: bool = False
    """Whether it was cut below the committed offset; it may have grown beyond it again."""


class Start(NamedTuple):
    """The offset to start at, and why it is not the committed one."""

    offset: int
    gap: str | None = None
    """The missing events, in words."""
    is_reread: bool = False
    """Whether events that were applied are read again."""


def begin(committed: int | None, committed_topic_id: str, log: Log) -> Start:
    """Return where to start. Pure.

    A recreated topic counts its own offsets: one committed for the old topic is meaningless, even
    if it is within the new topic's bounds. A truncated log has lost only events that were applied,
    but the offsets below the committed one may hold others now, so all are read again.
    """
    if committed is None:
        return Start(log.first)
    if committed_topic_id and log.topic_id and committed_topic_id != log.topic_id:
        return Start(log.first, f"the topic was recreated after offset {committed} was committed")
    if committed < log.first:
        return Start(log.first, f"offsets [{committed}, {log.first}) are no longer in the topic")
    if committed > log.next or log.is_truncated:
        return Start(log.first, is_reread=True)
    return Start(committed)


class StartPositions:
    """Finds start positions from the group's committed offsets and the topic's bounds."""

    def __init__(self, settings: KafkaSettings, group_id: str, *, accept_gap: bool) -> None:
        self._settings = settings
        self._group_id = group_id
        self._accept_gap = accept_gap
        self._notes: dict[int, str] = {}
        self._epochs: dict[int, int] = {}
        """The leader epoch of each partition when its log was last known to be intact."""
        self._committed_at: dict[int, Position] = {}
        """The latest committed position of each partition, or where it was started."""
        self.topic_id = ""

    def note(self, partition: int) -> str:
        """Return the metadata to commit with an offset: the topic's id, then the note it had."""
        return f"{self.topic_id} {self._notes.get(partition, '')}".rstrip()

    def epoch(self, partition: int, read_epoch: int | None = None) -> int:
        """Return the leader epoch for a position, whose last message has ``read_epoch``.

        The epoch of the last message alone may be too low: a later leader may have written control
        records before the position, and that would look like a truncated log.
        """
        return max(self._epochs.get(partition, -1), -1 if read_epoch is None else read_epoch)

    def committed(self, positions: Iterable[RawTopicPartition]) -> None:
        """Note what was committed."""
        for each in positions:
            self._committed_at[each.partition] = Position(each.offset, each.leader_epoch)

    def forget(self, partition: int) -> None:
        """Forget the position of a partition that is given back."""
        self._committed_at.pop(partition, None)

    def check_log(self, topic: str) -> None:
        """Check that the topic is the one that was assigned, and its log as it was. Blocks.

        Raises:
            FatalError: the topic was recreated, or a log truncated.
            RetryableError: the brokers do not answer.
        """
        before = dict(self._committed_at)  # first: what is committed later may be beyond that end
        now = mark_of(self._settings, topic)
        self.check(topic, now.topic_id)
        if cut := self._truncated(topic, now, before):
            raise FatalError(
                f"The log of {topic}[{min(cut)}] was truncated: the brokers lost events that were"
                " acknowledged. Restart: the sink then reads the partition again from its beginning"
            )
        self._epochs.update(enumerate(now.epochs))
        for number, at in before.items():
            if self._committed_at.get(number) is at:  # the loop's thread may commit meanwhile
                self._committed_at[number] = Position(at.offset, now.epochs[number])

    def _truncated(self, topic: str, now: TopicMark, at: Mapping[int, Position]) -> set[int]:
        """Return the partitions that were cut below these positions. Blocks.

        Not those that begin after them: that is a gap.
        """
        beyond = {number for number, position in at.items() if position.offset > now.ends[number]}
        suspects = {
            number: position
            for number, position in at.items()
            if position.leader_epoch not in (None, now.epochs[number])
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
            FatalError: there is a gap that `accept_gap` does not allow, or the committed offsets
                cannot be read. A guess could skip events.
        """
        settings, topic = self._settings, partitions[0].topic
        committed = _until_answered(lambda: self._committed(consumer, partitions))
        # Not from this consumer: it reads committed messages only, so messages held back by an
        # open transaction would look truncated.
        now = _until_answered(lambda: mark_of(settings, topic))
        self.check(topic, now.topic_id)
        at = {each.partition: Position(each.offset, each.leader_epoch) for each in committed}
        cut = _until_answered(lambda: self._truncated(topic, now, at))
        positions = [
            self._begin(each, now, is_truncated=each.partition in cut) for each in committed
        ]
        starts = {
            TopicPartition(topic, start.partition): PartitionStart(
                start.offset,
                now.starts[start.partition],
                f"{self.topic_id}/{self._group_id}/{start.partition}",
            )
            for start in positions
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

    def _begin(
        self, committed: RawTopicPartition, now: TopicMark, *, is_truncated: bool
    ) -> RawTopicPartition:
        number = committed.partition
        offset = None if committed.offset == OFFSET_INVALID else committed.offset
        topic_id, _, self._notes[number] = (committed.metadata or "").partition(" ")
        log_now = Log(now.starts[number], now.ends[number], self.topic_id, is_truncated)
        start = begin(offset, topic_id, log_now)
        name = f"{committed.topic}[{number}]"
        if start.gap and not self._accept_gap:
            raise FatalError(
                f"Events may be missing from {name}: {start.gap}. Nothing was skipped. To continue"
                f" at offset {start.offset}, the first one available, start once with --accept-gap;"
                " the source's next full sweep then completes the graph"
            )
        if start.gap:
            log.warning("gap accepted", partition=number, gap=start.gap, offset=start.offset)
        if start.is_reread:
            log.warning(
                "log was truncated, rereading events",
                partition=number,
                committed=offset,
                offset=start.offset,
            )
        self._epochs[number] = now.epochs[number]
        self._committed_at[number] = Position(start.offset, now.epochs[number])
        return RawTopicPartition(
            committed.topic, number, start.offset, leader_epoch=now.epochs[number]
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
