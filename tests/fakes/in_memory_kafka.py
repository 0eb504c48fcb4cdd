"""Kafka in memory: an event log, a consumer group member and a dead letter queue."""

import time
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence

from connector.errors import (
    BatchTooLargeError,
    ConnectorError,
    FatalError,
    InvalidEventError,
    RetryableError,
)
from connector.interfaces import (
    AssignmentListener,
    CommitResult,
    DeadLetter,
    InvalidRow,
    Message,
    OpenedLog,
    PartitionStart,
    PollResult,
    Position,
    TopicPartition,
)
from connector.kafka.partitioner import partition_of
from connector.model.cursor import Cursor, TopicMark
from connector.model.events import Identity, KnownState, RecordEvent
from connector.model.serde import Headers, encode, known_state
from tests.builders import message as built

TOPIC = "imednet.events"


class Killed(BaseException):
    """The process is killed at this point."""


class InMemoryTopic:
    """Messages by partition; a message's offset is its index."""

    def __init__(self, partitions: int = 3) -> None:
        self.partitions: list[list[Message]] = [[] for _ in range(partitions)]
        self.first = [0] * partitions
        """The first available offset, by partition."""
        self.id = "id"
        self.epochs: list[list[int]] = [[0] for _ in range(partitions)]
        """The first offset of each leader epoch, by partition."""
        self.truncations: list[tuple[int, int]] = []
        self.ever: list[Message] = []
        """All messages ever appended, including lost ones that a sink may have read."""
        self.event_bytes_max = 10**9
        self.transaction_events_max = 10**9
        """A larger transaction takes too long, as under a produce quota."""

    def recreate(self) -> None:
        """Delete the topic and create it again, as ``setup`` would."""
        self.partitions = [[] for _ in self.partitions]
        self.epochs = [[0] for _ in self.partitions]
        self.first = [0] * len(self.partitions)
        self.id += "'"

    def delete_records(self, partition: int, before: int) -> None:
        self.first[partition] = max(self.first[partition], before)

    def truncate(self, partition: int, end: int) -> None:
        """Cut the end off, as an unclean leader election does. Consumers see the leader epoch."""
        self.truncations.append((partition, end))
        del self.partitions[partition][max(end, self.first[partition]) :]
        self.elect(partition)

    def elect(self, partition: int) -> None:
        """Elect a new leader. No other one has written at this offset or after it."""
        end = len(self.partitions[partition])
        self.epochs[partition] = [min(start, end) for start in self.epochs[partition]] + [end]

    def loss_since(self, mark: TopicMark) -> str | None:
        """How the topic has lost events; also a log that was cut and has grown again."""
        now = self.mark()
        if loss := mark.loss(now):
            return loss
        for partition, epoch in mark.epochs_left_by(now).items():
            later = self.epochs[partition][epoch + 1 :]
            if later and later[0] < mark.ends[partition]:
                return f"the log of partition {partition} was truncated"
        return None

    def mark(self) -> TopicMark:
        return TopicMark(
            topic_id=self.id,
            starts=tuple(self.first),
            ends=tuple(map(len, self.partitions)),
            epochs=tuple(len(starts) - 1 for starts in self.epochs),
        )

    def append(
        self, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None = None
    ) -> Message:
        log = self.partitions[partition]
        at = TopicPartition(TOPIC, partition)
        message = built(at, len(log), key, value, headers)
        log.append(message)
        self.ever.append(message)
        return message

    def append_event(self, event: RecordEvent, subject_id: int | None = None) -> Message:
        partition = partition_of(event.identity, subject_id, len(self.partitions))
        return self.append(partition, *encode(event))

    def messages(self) -> list[Message]:
        return [
            message
            for first, log in zip(self.first, self.partitions, strict=True)
            for message in log[first:]
        ]


class InMemoryEventLog:
    """An event log whose transactions are atomic; ``outcomes`` lists the result of each.

    ``ok``; ``lost``: not written, RetryableError; ``unknown``: written, but RetryableError, as when
    the acknowledgement is lost; ``killed before`` and ``killed after``: the process is killed before
    or after the commit.
    """

    def __init__(self, topic: InMemoryTopic, study_key: str, cursors: dict[str, bytes]) -> None:
        self.topic, self.study_key, self.cursors = topic, study_key, cursors
        self.outcomes: list[str] = []
        self.before_publish: Callable[[Sequence[tuple[RecordEvent, int | None]]], None] = lambda _: (
            None
        )
        self.invalid: list[InvalidRow] = []
        self.letters: list[tuple[Identity, str | None]] = []
        """Identity and content hash of each event that was too large."""
        self._epochs = cursors
        self._loss: str | None = None

    def open(self) -> OpenedLog:
        epoch = int(self._epochs.get(f"{self.study_key}/epoch", b"0")) + 1
        self._epochs[f"{self.study_key}/epoch"] = str(epoch).encode()
        self._epoch = epoch
        value = self.cursors.get(self.study_key)
        cursor = None if value is None else Cursor.from_bytes(value)
        self._mark = self.topic.mark()
        loss, self._loss = self._loss, None
        if loss is None and cursor is not None and cursor.topic is not None:
            loss = self.topic.loss_since(cursor.topic)
        return OpenedLog(cursor, loss)

    def publish(
        self,
        events: Sequence[tuple[RecordEvent, int | None]],
        invalid: Sequence[InvalidRow],
        cursor: Cursor,
        dead_lettered: Container[Identity] = (),
    ) -> Collection[Identity]:
        if int(self._epochs[f"{self.study_key}/epoch"]) != self._epoch:
            raise FatalError("Another source of this study has taken over")
        self._check_topic()
        if len(events) > self.topic.transaction_events_max:
            raise BatchTooLargeError("the transaction took too long")
        self.before_publish(events)
        diverted = {
            event.identity
            for event, _ in events
            if len(encode(event)[1]) > self.topic.event_bytes_max
        }
        outcome = self.outcomes.pop(0) if self.outcomes else "ok"
        if outcome not in {"lost", "killed before"}:
            for event, subject_id in events:
                if event.identity not in diverted:
                    self.topic.append_event(event, subject_id)
                elif event.identity not in dead_lettered:
                    self.letters.append((event.identity, event.content_hash))
            self.invalid += invalid
            self._mark = self.topic.mark()
            moved = cursor.model_copy(update={"topic": self._mark})
            self.cursors[self.study_key] = moved.to_bytes()
        if outcome.startswith("killed"):
            raise Killed
        if outcome != "ok":
            raise RetryableError(outcome)
        return diverted

    def _check_topic(self) -> None:
        self._loss = self._mark.loss(self.topic.mark())
        if self._loss:
            raise RetryableError("the events topic has lost events")
        if self._mark.epochs_left_by(self.topic.mark()):
            raise RetryableError("a new leader")

    def replay(self) -> Iterator[tuple[Identity, KnownState]]:
        for message in self.topic.messages():
            try:
                identity = Identity.from_key(message.key)
                if identity.study_key == self.study_key:
                    yield identity, known_state(identity, message, time.time_ns() // 1_000_000)
            except InvalidEventError:
                continue


class InMemoryConsumer:
    """A group member that owns some partitions; ``committed`` outlives it."""

    def __init__(
        self,
        topic: InMemoryTopic,
        committed: dict[TopicPartition, Position],
        owned: set[int] | None = None,
    ) -> None:
        self.topic, self.committed = topic, committed
        numbers = owned if owned is not None else set(range(len(topic.partitions)))
        self._first = {TopicPartition(TOPIC, number) for number in numbers}
        self.owned: set[TopicPartition] = set()
        self.paused: set[TopicPartition] = set()
        self.next: dict[TopicPartition, int] = {}
        self.at_end: set[TopicPartition] = set()
        self.topic_id = topic.id
        self.results: list[CommitResult] = []
        """Of the commits that have ended since the last poll."""
        self.commits_started = 0
        self.commits_to_ignore = 0
        """How many commits the coordinator never answers."""
        self.commit_failures: list[ConnectorError] = []
        self.control_records = 0
        """Offsets of control records after the last message of each partition."""
        self.commits_to_refuse = 0
        """How many commits the broker refuses, as during a rebalance."""
        self.polls = 0
        self.is_closed = False
        self._rebalances: list[Callable[[], None]] = []

    def subscribe(self, listener: AssignmentListener) -> None:
        self.listener = listener
        self._rebalances.append(lambda: self._assign(self._first))

    def poll(self, max_messages: int, timeout_seconds: float) -> PollResult:
        if timeout_seconds:
            time.sleep(0.0005)  # lets the writer threads run
        self.polls += 1
        while self._rebalances:
            self._rebalances.pop(0)()
        messages: list[Message] = []
        ends: dict[TopicPartition, Position] = {}
        for partition in sorted(self.owned - self.paused):
            log = self.topic.partitions[partition.partition]
            start = self.next[partition]
            taken = log[start : start + max_messages - len(messages)]
            messages += taken
            self.next[partition] = start + len(taken)
            if self.next[partition] < len(log):
                self.at_end.discard(partition)
            elif partition not in self.at_end:
                self.at_end.add(partition)
                ends[partition] = Position(len(log) + self.control_records, None)
        results, self.results = self.results, []
        return PollResult(messages, ends, results)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self.paused -= set(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.paused.discard(partition)
        self.at_end.discard(partition)
        self.next[partition] = offset

    def commit(self, positions: Mapping[TopicPartition, Position]) -> None:
        self.commits_started += 1
        if self.commits_to_ignore:
            self.commits_to_ignore -= 1
        elif self.commit_failures:
            self.results.append(CommitResult({}, self.commit_failures.pop(0)))
        elif self.commits_to_refuse:
            self.commits_to_refuse -= 1
            self.results.append(CommitResult({}))
        else:
            owned = {each: at for each, at in positions.items() if each in self.owned}
            self.committed.update(owned)
            offsets = {each: at.offset for each, at in owned.items()}
            self.results.append(CommitResult(offsets))

    def assign(self, partition: int) -> None:
        """Assign the partition during the next poll."""
        self._rebalances.append(lambda: self._assign({TopicPartition(TOPIC, partition)}))

    def revoke(self, partition: int) -> None:
        """Revoke the partition during the next poll."""
        self._rebalances.append(lambda: self._take(partition, self.listener.revoked))

    def lose(self, partition: int) -> None:
        """Report the partition as lost during the next poll."""
        self._rebalances.append(lambda: self._take(partition, self.listener.lost))

    def _assign(self, partitions: set[TopicPartition]) -> None:
        self.owned |= partitions
        self.at_end -= partitions
        for each in partitions:
            self.next[each] = self.committed.get(each, Position(0, None)).offset
        self.listener.assigned(
            {
                each: PartitionStart(self.next[each], 0, f"id/group/{each.partition}")
                for each in partitions
            }
        )

    def _take(self, partition: int, tell: Callable[[Collection[TopicPartition]], None]) -> None:
        at = TopicPartition(TOPIC, partition)
        tell([at])
        self.owned.discard(at)
        self.paused.discard(at)  # the contract: a partition that comes back is not paused

    def check_topic(self) -> None:
        if self.topic.id != self.topic_id:
            raise FatalError("the topic was deleted and made again")

    def close(self) -> None:
        self.is_closed = True


class InMemoryDeadLetterQueue:
    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []
        self.failures: list[Exception] = []

    def publish(self, letters: Sequence[DeadLetter]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.letters += letters
