"""Replay: ranges of the topic, read by a separate group alongside the live one. No I/O.

The plan is stored with the group's offsets, as the metadata of each partition's committed offset.
So any worker can join, and a replay that was killed resumes where it stopped.
"""

import re
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import orjson

from connector.errors import FatalError, InvalidEventError
from connector.interfaces import (
    AssignmentListener,
    Clock,
    CommitResult,
    EventConsumer,
    Message,
    PartitionStart,
    PollResult,
    Position,
    Range,
    TopicPartition,
)
from connector.model.dates import moment_ms
from connector.model.events import Identity

_OFFSETS = re.compile(r"\d+:\d+(,\d+:\d+)*")
_CHECK_INTERVAL_SECONDS = 1.0


# ------------------------------------------------------------------------------------------- plan


@dataclass(frozen=True, slots=True)
class TopicPosition:
    """A point in the topic as the user names it; exactly one field is set."""

    word: str = ""
    since_ms: int | None = None
    offsets: Mapping[int, int] | None = None

    @classmethod
    def parse(cls, text: str, now: datetime) -> Self:
        """Parse ``beginning``, ``end``, a time (see `moment_ms`), or ``PARTITION:OFFSET,...``.

        Raises:
            FatalError: it is none of these.
        """
        if text in {"beginning", "end"}:
            return cls(word=text)
        if _OFFSETS.fullmatch(text):
            pairs = [pair.split(":") for pair in text.split(",")]
            return cls(offsets={int(partition): int(offset) for partition, offset in pairs})
        since_ms = moment_ms(text, now)
        if since_ms is None:
            raise FatalError(
                f"{text!r} is not a point in the topic. Give beginning, end, a time with its zone"
                " such as 2026-01-31T08:00:00Z, how long ago such as 2h, or PARTITION:OFFSET,..."
            )
        return cls(since_ms=max(0, since_ms))


def resolve(
    point: TopicPosition,
    bounds: Mapping[int, Range],
    offsets_at: Callable[[int], Mapping[int, int]],
) -> dict[int, int]:
    """The offset of each partition at this point; if it names partitions, of those alone.

    Raises:
        FatalError: the topic does not have a named partition or offset.
    """
    if point.since_ms is not None:
        found = offsets_at(point.since_ms)  # none if all messages are older
        return {partition: found.get(partition, each.end) for partition, each in bounds.items()}
    if point.offsets is None:
        return {
            partition: each.start if point.word == "beginning" else each.end
            for partition, each in bounds.items()
        }
    for partition, offset in point.offsets.items():
        available = bounds.get(partition)
        if available is None:
            raise FatalError(f"The topic has no partition {partition}")
        if not available.start <= offset <= available.end:
            raise FatalError(
                f"Partition {partition} has offsets {available.start} to {available.end}, not"
                f" {offset}"
            )
    return dict(point.offsets)


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """The events to replay: a range of each partition, and the study (None: all studies).

    With ``force``, an event also rewrites a node that has the event's version already.
    """

    ranges: Mapping[int, Range]
    study_key: str | None = None
    force: bool = False

    @classmethod
    def between(
        cls,
        start: Mapping[int, int],
        end: Mapping[int, int],
        bounds: Mapping[int, Range],
        study_key: str | None,
        *,
        force: bool = False,
    ) -> Self:
        """Skips partitions that are not in ``start``; replays those not in ``end`` to their end."""
        ranges = {}
        for partition, available in bounds.items():
            stop = end.get(partition, available.end)
            first = start.get(partition, stop)
            ranges[partition] = Range(first, max(first, stop))
        return cls(ranges, study_key, force)

    def holds(self, key: bytes | None) -> bool:
        """Whether messages with this key are replayed. An invalid key belongs to no study."""
        if self.study_key is None:
            return True
        try:
            return Identity.from_key(key).study_key == self.study_key
        except InvalidEventError:
            return False

    def note(self, partition: int) -> str:
        """One partition's part of this plan, as text to store with its offset."""
        start, end = self.ranges[partition]
        note = {"from": start, "to": end, "study": self.study_key, "force": self.force}
        return orjson.dumps(note).decode()

    @classmethod
    def from_notes(cls, notes: Mapping[int, str]) -> Self:
        """Rebuild the plan from all partitions' notes.

        Raises:
            FatalError: the group has no plan.
        """
        try:
            parsed = {partition: orjson.loads(note) for partition, note in notes.items() if note}
            ranges = {each: Range(note["from"], note["to"]) for each, note in parsed.items()}
            first = next(iter(parsed.values()))
            study_key, force = first["study"], bool(first.get("force"))
        except (orjson.JSONDecodeError, KeyError, TypeError, StopIteration):
            raise FatalError(
                "No replay of this name is in progress: it has finished, or was never started"
            ) from None
        return cls(ranges, study_key, force)

    def is_done(self, offsets: Mapping[int, int]) -> bool:
        """Whether a group with these committed offsets has finished."""
        return all(offsets.get(each, 0) >= end for each, (_, end) in self.ranges.items())


# --------------------------------------------------------------------------------------- consumer


class RangedConsumer:
    """An `EventConsumer` that stops at the ends of the plan's ranges and skips unplanned messages.

    ``finished`` is set once the whole group has finished. Until then an idle worker stays, to take
    over if another one fails. ``offsets`` fetches the group's committed offsets.
    """

    def __init__(
        self,
        consumer: EventConsumer,
        plan: ReplayPlan,
        offsets: Callable[[], Mapping[int, int]],
        finished: threading.Event,
        clock: Clock,
    ) -> None:
        self._consumer, self._plan, self._offsets = consumer, plan, offsets
        self._finished, self._clock = finished, clock
        self._ended: set[TopicPartition] = set()
        self._commits: list[CommitResult] = []
        """Results to return, also after a poll that raises."""
        self._checked_at = clock.monotonic()
        self.is_done = False
        """Whether the group was seen to finish. Deleting the group then removes its offsets."""

    def subscribe(self, listener: AssignmentListener) -> None:
        """See `EventConsumer`."""
        self._listener = listener
        self._consumer.subscribe(self)

    def poll(self, max_messages: int, timeout_seconds: float) -> PollResult:
        """See `EventConsumer`; messages beyond the end of a range are skipped."""
        polled = self._consumer.poll(max_messages, timeout_seconds)
        messages = [each for each in polled.messages if self._is_planned(each)]
        ended = {each.partition for each in polled.messages if self._is_beyond(each)}
        ended |= {each for each, at in polled.ends.items() if at.offset >= self._end_of(each)}
        new = ended - self._ended
        if new:
            self._ended |= new
            self._consumer.pause(new)
        self._commits += polled.commits
        if not polled.messages and not new:
            self._check_group()
        ends = {each: Position(self._end_of(each), None) for each in new}
        commits, self._commits = self._commits, []
        return PollResult(messages, ends, commits)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `EventConsumer`."""
        self._consumer.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See `EventConsumer`; partitions that have reached their end stay paused."""
        if unfinished := set(partitions) - self._ended:
            self._consumer.resume(unfinished)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See `EventConsumer`."""
        self._consumer.seek(partition, offset)

    def commit(self, positions: Mapping[TopicPartition, Position]) -> None:
        """See `EventConsumer`."""
        self._consumer.commit(positions)

    def check_topic(self) -> None:
        """See `EventConsumer`."""
        self._consumer.check_topic()

    def close(self) -> None:
        """See `EventConsumer`."""
        self._consumer.close()

    def assigned(self, starts: Mapping[TopicPartition, PartitionStart]) -> None:
        """See `AssignmentListener`. Passes no checkpoints: a replay proves nothing of the graph."""
        self._ended -= set(starts)
        without_checkpoints = {
            each: start._replace(checkpoint=None) for each, start in starts.items()
        }
        self._listener.assigned(without_checkpoints)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """See `AssignmentListener`."""
        self._listener.revoked(partitions)

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See `AssignmentListener`."""
        self._listener.lost(partitions)

    def _is_beyond(self, message: Message) -> bool:
        return message.offset >= self._end_of(message.partition)

    def _is_planned(self, message: Message) -> bool:
        start, end = self._range(message.partition)
        return start <= message.offset < end and self._plan.holds(message.key)

    def _end_of(self, partition: TopicPartition) -> int:
        return self._range(partition).end

    def _range(self, partition: TopicPartition) -> Range:
        # A partition added to the topic after the plan was made is not replayed.
        return self._plan.ranges.get(partition.partition, Range(0, 0))

    def _check_group(self) -> None:
        now = self._clock.monotonic()
        if now - self._checked_at >= _CHECK_INTERVAL_SECONDS:
            self._checked_at = now
            if self._plan.is_done(self._offsets()):
                self.is_done = True
                self._finished.set()
