"""What the sink reads, and where it puts what cannot be applied."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from connector.errors import InvalidEventError
from connector.model.serde import Headers


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Position(NamedTuple):
    """The next offset to read, and the leader epoch it was read under (for validation)."""

    offset: int
    leader_epoch: int | None


class PartitionStart(NamedTuple):
    """Where a member begins to read a partition that it was given."""

    offset: int
    """Of the group; the first offset of the topic where the group has committed none."""
    first: int
    """The first offset that the topic still has."""
    checkpoint: str | None
    """Under which key the graph keeps its checkpoint of this partition; None: it keeps none."""


class Range(NamedTuple):
    """Offsets of one partition, ``end`` not included."""

    start: int
    end: int


class MessageDetails(Protocol):
    """What the client knows of a message, converted only when it is asked for."""

    def headers(self) -> Any:
        """Pairs of name and bytes, or None where there are none."""

    def timestamp(self) -> tuple[int, int]:
        """Its kind, and milliseconds since the epoch."""

    def leader_epoch(self) -> int | None:
        """Of the leader that appended it."""


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
    """A consumed message; bytes as they are in the topic. A tuple, since there are millions."""

    partition: TopicPartition
    offset: int
    key: bytes | None
    value: bytes | None
    details: MessageDetails

    @property
    def headers(self) -> Headers:
        """In their order. They cost as much as all the rest of the message: ask for them late.

        Raises:
            InvalidEventError: a name is not UTF-8. Do not ask again (confluent-kafka 2.16.1 then
                answers with null pointers): use `without_headers`.
        """
        try:
            return list(self.details.headers() or ())
        except (SystemError, UnicodeError):
            raise InvalidEventError("headers cannot be read", reason="headers") from None

    def without_headers(self) -> "Message":
        """The same message, as if it had none."""
        return self._replace(details=_WithoutHeaders(self.details))

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since the epoch; negative where it has none."""
        return self.details.timestamp()[1]

    @property
    def leader_epoch(self) -> int | None:
        """Of the leader that appended it, which is committed beside its offset."""
        return self.details.leader_epoch()


@dataclass(frozen=True, slots=True)
class PollResult:
    """What one poll brought: messages, and partitions that were read to their end.

    An end's offset lies past control records, which no message tells of: committing it makes
    Kafka's own tools show a lag of 0.
    """

    messages: list[Message]
    ends: dict[TopicPartition, Position]


class AssignmentListener(Protocol):
    """Is told, within `EventConsumer.poll` and ``close``, which partitions come and go."""

    def assigned(self, starts: Mapping[TopicPartition, PartitionStart]) -> None:
        """These are this member's now; their messages come with the next polls."""

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """These go to another member when this returns; until then they may be committed."""

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """These are another member's already: nothing of them may be committed any more."""


class EventConsumer(Protocol):
    """A member of the consumer group. Not thread-safe."""

    def subscribe(self, listener: AssignmentListener) -> None:
        """Join the group. Does not wait for an assignment."""

    def poll(self, max_messages: int, timeout_seconds: float) -> PollResult:
        """What has arrived, of assigned partitions only; waits at most this long for the first.

        Raises:
            RetryableError: the brokers answered with an error that passes.
            FatalError: a gap (the committed offset is not in the topic any more), no topic, no
                access, or the client cannot go on.
        """

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Bring nothing of these until they are resumed. ``poll`` keeps the membership.

        A partition that goes and comes back is not paused any more.
        """

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Go on after the last message that ``poll`` returned."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Resume the partition at this offset: the next message of it is the first from there.

        Raises:
            RetryableError: the client is not fetching the partition yet.
        """

    def commit(self, positions: Mapping[TopicPartition, Position]) -> Collection[TopicPartition]:
        """Commit, synchronously; returns whose positions were taken.

        A refusal by a rebalance is no error: commit it again, or its messages come again.

        Raises:
            RetryableError: the coordinator does not answer; what was applied may come again.
        """

    def check_topic(self) -> None:
        """Find out whether the topic is still the one that was assigned. Thread-safe.

        Raises:
            FatalError: it was deleted and made again; its offsets say nothing about the old one's.
            RetryableError: the brokers do not answer, or there is no topic.
        """

    def close(self) -> None:
        """Leave the group. Bounded; never raises."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that cannot be applied, and why. ``reason`` is one word; no content in either."""

    message: Message
    reason: str
    explanation: str
    attempts: int = 1
    """How many transactions were tried with it; 1 too where none was needed to know."""


class DeadLetterQueue(Protocol):
    """Where messages go that can never be applied. Thread-safe."""

    def publish(self, letters: Sequence[DeadLetter]) -> None:
        """Original key, value and headers plus reason headers; acknowledged on return. Blocks.

        Raises:
            RetryableError: not acknowledged; some may be in the queue already.
        """
