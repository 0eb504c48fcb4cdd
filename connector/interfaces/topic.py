"""The sink's Kafka ports: the group consumer and the dead letter queue."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from connector.errors import ConnectorError, InvalidEventError
from connector.model.serde import Headers


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Position(NamedTuple):
    """The next offset to read, and the leader epoch of the last message before it, if known."""

    offset: int
    leader_epoch: int | None
    read_offset: int | None = None
    """The offset after that message, if control records follow it; None: ``offset``."""

    @property
    def last_read(self) -> "Position":
        """The position right after the last message, which its epoch is valid for."""
        return self if self.read_offset is None else Position(self.read_offset, self.leader_epoch)


class PartitionStart(NamedTuple):
    """Where a member starts to read a partition that is assigned to it."""

    offset: int
    """The group's committed offset; the partition's first offset if the group has none."""
    first: int
    """The first offset that the topic still holds."""
    checkpoint: str | None
    """Key of the partition's checkpoint in the graph; None if the graph keeps none."""


class Range(NamedTuple):
    """A range of offsets in one partition; ``end`` is exclusive."""

    start: int
    end: int


class MessageDetails(Protocol):
    """The message fields that the client converts only on request."""

    def headers(self) -> Any:
        """Return pairs of name and bytes, or None if there are none."""

    def timestamp(self) -> tuple[int, int]:
        """Return the timestamp's type, and milliseconds since the epoch."""

    def leader_epoch(self) -> int | None:
        """Return the epoch of the leader that appended the message."""


@dataclass(frozen=True, slots=True)
class _WithoutHeaders:
    details: MessageDetails

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return self.details.timestamp()

    def leader_epoch(self) -> int | None:
        return self.details.leader_epoch()


class Message(NamedTuple):
    """A consumed message; key and value unchanged. A tuple because there are millions."""

    partition: TopicPartition
    offset: int
    key: bytes | None
    value: bytes | None
    details: MessageDetails

    @property
    def headers(self) -> Headers:
        """The headers in order. They cost as much as the rest of the message: read them late.

        Raises:
            InvalidEventError: a name is not UTF-8. Do not read them again (confluent-kafka 2.16.1
                then returns null pointers); use `without_headers`.
        """
        try:
            return list(self.details.headers() or ())
        except (SystemError, UnicodeError):
            raise InvalidEventError("headers cannot be read", reason="headers") from None

    def without_headers(self) -> "Message":
        """Return the same message without its headers."""
        return self._replace(details=_WithoutHeaders(self.details))

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since the epoch; negative if the message has no timestamp."""
        return self.details.timestamp()[1]

    @property
    def leader_epoch(self) -> int | None:
        """The epoch of the leader that appended the message, committed with its offset."""
        return self.details.leader_epoch()


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The result of one commit."""

    offsets: Mapping[TopicPartition, int]
    """The offsets that the group has now. A rebalance may refuse others: commit them again."""
    error: ConnectorError | None = None
    """Why the commit failed: a FatalError if a retry cannot help."""


@dataclass(frozen=True, slots=True)
class PollResult:
    """The result of one poll: messages, partitions that were read to their end, and commits.

    An end's offset is past control records, which never appear as messages. Committing it makes
    Kafka's own tools report a lag of 0.
    """

    messages: list[Message]
    ends: dict[TopicPartition, Position]
    commits: Sequence[CommitResult] = ()
    """Those that have ended since the last poll."""


class AssignmentListener(Protocol):
    """Callbacks for rebalances, called within `EventConsumer.poll` and ``close``."""

    def assigned(self, starts: Mapping[TopicPartition, PartitionStart]) -> None:
        """Handle assigned partitions; their messages arrive with the next polls."""

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Handle revoked partitions: commits of their offsets can start until this returns."""

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """Handle partitions that another member owns already: commit nothing for them."""


class EventConsumer(Protocol):
    """A member of the consumer group. Not thread-safe."""

    def subscribe(self, listener: AssignmentListener) -> None:
        """Join the group. Does not wait for an assignment."""

    def poll(self, max_messages: int, timeout_seconds: float) -> PollResult:
        """Return messages of assigned partitions; waits up to this long for the first one.

        Raises:
            RetryableError: the brokers returned a transient error, or the topic is missing.
            FatalError: a gap (the committed offset is no longer in the topic), no access, or the
                client has failed.
        """

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Fetch nothing from these until they are resumed. ``poll`` still keeps the membership.

        A partition that is revoked and assigned again is no longer paused.
        """

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Continue after the last message that ``poll`` returned."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Resume the partition at this offset: its next message is the first one from there.

        Raises:
            RetryableError: the client is not fetching the partition yet.
        """

    def commit(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Start to commit the positions of owned partitions. Does not block.

        Each call has one result, in a later poll's ``commits``. It may take minutes while the
        group's coordinator is away or refuses the login. What is not committed is redelivered.
        While the coordinator answers, a commit that was started before `close`, or before
        `AssignmentListener.revoked` returned to a poll, ends before another member reads the
        partition.
        """

    def check_topic(self) -> None:
        """Check that the topic is the one that was assigned, and its log as it was. Thread-safe.

        Raises:
            FatalError: it was deleted and recreated, so that the old offsets do not apply; or a log
                was truncated, so that a restart has to read it again.
            RetryableError: the brokers do not answer, or the topic is missing.
        """

    def close(self) -> None:
        """Finish the commits, and leave the group. Bounded; never raises."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that cannot be applied, and why. ``reason`` is one word.

    Neither ``reason`` nor ``explanation`` holds record content.
    """

    message: Message
    reason: str
    explanation: str
    attempts: int = 1
    """Number of transactions tried; 1 also for a message that was rejected without trying."""


class DeadLetterQueue(Protocol):
    """The queue for messages that can never be applied. Thread-safe."""

    def publish(self, letters: Sequence[DeadLetter]) -> None:
        """Publish original key, value and headers plus reason headers. Blocks.

        All letters are acknowledged on return.

        Raises:
            RetryableError: not acknowledged; some letters may already be in the queue.
        """
