"""Replay: ranges of the topic, read by a group of its own beside the live one. No I/O.

The plan is kept where the group's offsets are, as the note of each partition's offset: so any
worker can join, and a replay that was killed goes on where it was.
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
    EventConsumer,
    Message,
    PartitionStart,
    PollResult,
    Position,
    Range,
    TopicPartition,
)
from connector.model.events import Identity

_OFFSETS = re.compile(r"\d+:\d+(,\d+:\d+)*")
_ASK_AGAIN_SECONDS = 1.0


# ------------------------------------------------------------------------------------------- plan


@dataclass(frozen=True, slots=True)
class TopicPosition:
    """A place in the topic as a person says it: one of these."""

    word: str = ""
    since_ms: int | None = None
    offsets: Mapping[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """``beginning``, ``end``, a date and time with its zone, or ``PARTITION:OFFSET,...``.

        Raises:
            FatalError: none of these.
        """
        if text in {"beginning", "end"}:
            return cls(word=text)
        if _OFFSETS.fullmatch(text):
            pairs = [pair.split(":") for pair in text.split(",")]
            return cls(offsets={int(partition): int(offset) for partition, offset in pairs})
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise FatalError(
                f"{text!r} is no place in the topic: give beginning, end, a time such as"
                " 2026-01-31T08:00:00Z, or PARTITION:OFFSET,..."
            ) from None
        if at.tzinfo is None:
            raise FatalError(f"{text!r} has no time zone: {text}Z is UTC")
        return cls(since_ms=round(at.timestamp() * 1000))


def resolve(
    place: TopicPosition,
    bounds: Mapping[int, Range],
    offsets_at: Callable[[int], Mapping[int, int]],
) -> dict[int, int]:
    """The offset of each partition at this place; of the named ones only, where it names some.

    Raises:
        FatalError: an offset that the topic does not have.
    """
    if place.since_ms is not None:
        found = offsets_at(place.since_ms)  # none where all is older
        return {partition: found.get(partition, each.end) for partition, each in bounds.items()}
    if place.offsets is None:
        return {
            partition: each.start if place.word == "beginning" else each.end
            for partition, each in bounds.items()
        }
    for partition, offset in place.offsets.items():
        there = bounds.get(partition)
        if there is None:
            raise FatalError(f"the topic has no partition {partition}")
        if not there.start <= offset <= there.end:
            raise FatalError(
                f"partition {partition} has offsets {there.start} to {there.end}, not {offset}"
            )
    return dict(place.offsets)


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What is replayed: a range of each partition, and of which study (None: all)."""

    ranges: Mapping[int, Range]
    study_key: str | None = None

    @classmethod
    def between(
        cls,
        start: Mapping[int, int],
        end: Mapping[int, int],
        bounds: Mapping[int, Range],
        study_key: str | None,
    ) -> Self:
        """A partition that ``start`` does not name is not replayed; without ``end``, to its end."""
        ranges = {}
        for partition, there in bounds.items():
            stop = end.get(partition, there.end)
            first = start.get(partition, stop)
            ranges[partition] = Range(first, max(first, stop))
        return cls(ranges, study_key)

    def holds(self, key: bytes | None) -> bool:
        """Whether events of this key are replayed. What has no valid key belongs to no study."""
        if self.study_key is None:
            return True
        try:
            return Identity.from_key(key).study_key == self.study_key
        except InvalidEventError:
            return False

    def note(self, partition: int) -> str:
        """This plan, as far as it concerns one partition, as text to keep beside its offset."""
        start, end = self.ranges[partition]
        return orjson.dumps({"from": start, "to": end, "study": self.study_key}).decode()

    @classmethod
    def from_notes(cls, notes: Mapping[int, str]) -> Self:
        """The plan that was noted.

        Raises:
            FatalError: this is no group of a replay.
        """
        try:
            read = {partition: orjson.loads(note) for partition, note in notes.items() if note}
            ranges = {each: Range(note["from"], note["to"]) for each, note in read.items()}
            study_key = next(iter(read.values()))["study"]
        except (orjson.JSONDecodeError, KeyError, TypeError, StopIteration):
            raise FatalError(
                "no replay of this name is under way: it is through, or was never started"
            ) from None
        return cls(ranges, study_key)

    def is_done(self, offsets: Mapping[int, int]) -> bool:
        """Whether a group that has committed these is through."""
        return all(offsets.get(each, 0) >= end for each, (_, end) in self.ranges.items())


# --------------------------------------------------------------------------------------- consumer


class RangedConsumer:
    """An `EventConsumer` that ends at the plan's ends, and brings nothing but what is planned.

    ``through`` is set once the whole group is: until then a worker that has nothing left to do
    stays, and takes over from one that fails. ``offsets`` asks for what the group has committed.
    """

    def __init__(
        self,
        consumer: EventConsumer,
        plan: ReplayPlan,
        offsets: Callable[[], Mapping[int, int]],
        through: threading.Event,
        clock: Clock,
    ) -> None:
        self._consumer, self._plan, self._offsets = consumer, plan, offsets
        self._through, self._clock = through, clock
        self._ended: set[TopicPartition] = set()
        self._asked = clock.monotonic()
        self.is_done = False
        """Whether the group was seen to be through. Its offsets are gone once it is forgotten."""

    def subscribe(self, listener: AssignmentListener) -> None:
        """See `EventConsumer`."""
        self._listener = listener
        self._consumer.subscribe(self)

    def poll(self, max_messages: int, timeout_seconds: float) -> PollResult:
        """See `EventConsumer`; what lies behind the end of a range is left."""
        polled = self._consumer.poll(max_messages, timeout_seconds)
        messages = [each for each in polled.messages if self._is_planned(each)]
        behind = {each.partition for each in polled.messages if self._is_behind(each)}
        behind |= {each for each, at in polled.ends.items() if at.offset >= self._end_of(each)}
        new = behind - self._ended
        if new:
            self._ended |= new
            self._consumer.pause(new)
        if not polled.messages and not new:
            self._look_around()
        return PollResult(messages, {each: Position(self._end_of(each), None) for each in new})

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `EventConsumer`."""
        self._consumer.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See `EventConsumer`; what has ended stays so."""
        if going_on := set(partitions) - self._ended:
            self._consumer.resume(going_on)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See `EventConsumer`."""
        self._consumer.seek(partition, offset)

    def commit(self, positions: Mapping[TopicPartition, Position]) -> Collection[TopicPartition]:
        """See `EventConsumer`."""
        return self._consumer.commit(positions)

    def check_topic(self) -> None:
        """See `EventConsumer`."""
        self._consumer.check_topic()

    def close(self) -> None:
        """See `EventConsumer`."""
        self._consumer.close()

    def assigned(self, starts: Mapping[TopicPartition, PartitionStart]) -> None:
        """See `AssignmentListener`. A replay proves nothing about the graph: no checkpoints."""
        self._ended -= set(starts)
        without = {each: start._replace(checkpoint=None) for each, start in starts.items()}
        self._listener.assigned(without)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """See `AssignmentListener`."""
        self._listener.revoked(partitions)

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See `AssignmentListener`."""
        self._listener.lost(partitions)

    def _is_behind(self, message: Message) -> bool:
        return message.offset >= self._end_of(message.partition)

    def _is_planned(self, message: Message) -> bool:
        start, end = self._range(message.partition)
        return start <= message.offset < end and self._plan.holds(message.key)

    def _end_of(self, partition: TopicPartition) -> int:
        return self._range(partition).end

    def _range(self, partition: TopicPartition) -> Range:
        # One that the topic got after the plan was made is none of its business.
        return self._plan.ranges.get(partition.partition, Range(0, 0))

    def _look_around(self) -> None:
        now = self._clock.monotonic()
        if now - self._asked >= _ASK_AGAIN_SECONDS:
            self._asked = now
            if self._plan.is_done(self._offsets()):
                self.is_done = True
                self._through.set()
