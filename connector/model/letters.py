"""Dead letters as they are in their queue: where from, why, and what was done with them. Pure."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, Self

from connector.errors import FatalError
from connector.model.groups import live_group_of
from connector.model.serde import Headers


class LetterId(NamedTuple):
    """A letter's place in the queue, written ``PARTITION:OFFSET``."""

    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``PARTITION:OFFSET``.

        Raises:
            FatalError: it is not.
        """
        partition, _, offset = text.partition(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            raise FatalError(f"{text} is not a letter. Give PARTITION:OFFSET, as `dlq list` shows")
        return cls(int(partition), int(offset))

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class Stage(StrEnum):
    """Which program wrote the letter."""

    SOURCE = "SOURCE"
    """An API row that cannot become an event, or an event too large for the topic."""
    SINK = "SINK"
    """A message that cannot be applied."""


class Origin(NamedTuple):
    """The message that a sink could not apply."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    """None in letters of older versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter. Only ``key``, ``value`` and ``headers`` may hold record content."""

    id: LetterId
    time_ms: int
    stage: Stage
    reason: str
    explanation: str
    attempts: int
    study: str | None
    kind: str | None
    entity_id: str | None
    """Study, kind and id: None if the letter does not say, or the id may be any text."""
    connector: str
    """Who wrote it: the sink's group, or the source."""
    origin: Origin | None
    value_bytes: int
    is_reference: bool
    """Whether the letter was too large for its queue, and only refers to the message."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    """The message's own headers."""


class Action(StrEnum):
    """What was done with a letter."""

    REDRIVEN = "redriven"
    DROPPED = "dropped"
    REPEATED = "repeated"
    """Never in the queue: an earlier letter of the same message stands for this one, too."""


class Mark(NamedTuple):
    """A note in the queue that something was done with an earlier letter."""

    letter: LetterId
    action: Action
    why: str
    """Why it was dropped, in the user's words; or what redriving it did."""
    time_ms: int = 0


class QueueHistory:
    """All letters and marks of a queue, and what they say of one letter.

    A message may have several letters: each replay that meets it writes one, and so does a sink
    that is killed before it has committed. They wait as one, and what is dropped stays dropped.
    """

    def __init__(self) -> None:
        self._marks: dict[LetterId, Mark] = {}
        self._of_message: dict[object, list[tuple[int, LetterId]]] = defaultdict(list)

    def add_mark(self, mark: Mark) -> None:
        """Note a mark; the last one of a letter counts."""
        self._marks[mark.letter] = mark

    def add_letter(self, letter: Letter) -> None:
        """Note a letter."""
        if (message := _message_of(letter)) is not None:
            self._of_message[message].append((letter.time_ms, letter.id))

    def mark_of(self, letter: Letter) -> Mark | None:
        """Return what was done with the letter, or with its message; None if it waits."""
        own, message = self._marks.get(letter.id), _message_of(letter)
        if own is not None or message is None:
            return own
        letters = self._of_message.get(message, [])
        marks = [found for _, each in letters if (found := self._marks.get(each)) is not None]
        for mark in marks:
            if mark.action is Action.DROPPED or mark.time_ms >= letter.time_ms:
                return mark
        redriven_ms = max((mark.time_ms for mark in marks), default=-1)
        _, first = min((each for each in letters if each[0] > redriven_ms), default=(0, letter.id))
        return None if first == letter.id else Mark(letter.id, Action.REPEATED, f"as {first}")


def _message_of(letter: Letter) -> object:
    """The message that a sink's letter is about, and whose graph lacks it; None for a source's."""
    return letter.origin and (letter.origin, live_group_of(letter.connector))


def state_of(mark: Mark | None) -> str:
    """Return what was done with a letter, in a word."""
    return "pending" if mark is None else mark.action


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters to take; an empty field takes all."""

    reason: str | None = None
    study: str | None = None
    kind: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    ids: Collection[LetterId] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it takes all letters."""
        return not self.ids and replace(self, ids=()) == LetterFilter()

    def takes(self, letter: Letter) -> bool:
        """Return whether the letter is one of those."""
        return (
            self.reason in (None, letter.reason)
            and self.study in (None, letter.study)
            and self.kind in (None, letter.kind)
            and (self.since_ms is None or letter.time_ms >= self.since_ms)
            and (self.until_ms is None or letter.time_ms < self.until_ms)
            and (not self.ids or letter.id in self.ids)
        )
