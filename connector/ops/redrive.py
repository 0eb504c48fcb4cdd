"""Redrives dead letters: applies their messages as a sink does, under the version guard."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from connector.interfaces import DeadLetter, Message
from connector.model.letters import Action, Letter, Mark, Stage
from connector.outage import UntilDone
from connector.sink.applier import Applier
from connector.sink.states import parse

_LETTERS_AT_ONCE, _BYTES_AT_ONCE = 1000, 16_000_000


@dataclass(slots=True)
class Redriven:
    """What became of the letters."""

    applied: int = 0
    obsolete: int = 0
    """The graph has their state already, or a newer one."""
    refused: Counter[str] = field(default_factory=Counter)
    """By reason; they stay in the queue."""
    gone: int = 0
    """Neither the letter nor the topic has the message; they stay in the queue."""
    of_others: int = 0
    """Of another events topic or group, whose graph is another."""
    left_to_source: int = 0
    """The source itself tries these again in each full pass."""


class Refusals:
    """A `DeadLetterQueue` that keeps what it is given: the letters are in the queue already."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []

    def publish(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterQueue`."""
        self.letters += letters


class _Part(NamedTuple):
    letter: Letter
    message: Message


class Redrive:
    """Applies letters in the order of the queue, and marks those that are done."""

    def __init__(
        self,
        applier: Applier,
        refusals: Refusals,
        message_in: Callable[[Letter], Message | None],
        publish_marks: Callable[[Sequence[Mark]], None],
        until_done: UntilDone,
        is_ours: Callable[[Letter], bool] = lambda _: True,
    ) -> None:
        """``applier`` dead-letters into ``refusals``; ``message_in`` finds a letter's message."""
        self._is_ours = is_ours
        self._applier, self._refusals, self._until_done = applier, refusals, until_done
        self._message_in, self._publish_marks = message_in, publish_marks

    def run(self, letters: Iterable[Letter], result: Redriven, *, dry_run: bool) -> None:
        """Redrive all letters; with ``dry_run``, only find out what would happen. Blocks.

        Each part of the letters is marked once the graph has acknowledged it. After an interruption
        the letters that were not marked are redriven again, which changes nothing: the guard lets
        pass only what is newer than the node.

        An outage of a server is waited out.

        Raises:
            ConnectorError: a retry cannot help. The letters before are marked.
        """
        for part in _in_parts(letters):
            found = self._with_messages(part, result)
            while found:
                found = found[self._apply(found, result, dry_run=dry_run) :]

    def _with_messages(self, letters: Sequence[Letter], result: Redriven) -> list[_Part]:
        found: list[_Part] = []
        for letter in letters:
            if letter.stage is Stage.SOURCE:
                result.left_to_source += 1
            elif not self._is_ours(letter):
                result.of_others += 1
            elif (message := self._until_done(partial(self._message_in, letter))) is None:
                result.gone += 1
            else:
                # Offsets identify the messages of a batch, and these are of several partitions.
                found.append(_Part(letter, message._replace(offset=len(found))))
        return found

    def _apply(self, found: Sequence[_Part], result: Redriven, *, dry_run: bool) -> int:
        """Apply the leading letters that fit into one batch; return how many they were."""
        now_ms = self._until_done.clock.now_ms()
        self._refusals.letters.clear()
        arrivals = [parse(each.message, now_ms) for each in found]
        batch = self._until_done(partial(self._applier.prepare, arrivals))
        if dry_run:
            refused, applied = list(batch.dead_letters), len(batch.candidates)
        else:
            applied = self._applier.write(batch, None, self._until_done, self._until_done).written
            refused = self._refusals.letters
        taken = found[: batch.count]
        refused_at = {letter.message.offset for letter in refused}
        done = [each.letter for each in taken if each.message.offset not in refused_at]
        if not dry_run and done:
            marks = [Mark(letter.id, Action.REDRIVEN, "") for letter in done]
            self._until_done(partial(self._publish_marks, marks))
        result.applied += applied
        result.obsolete += len(done) - applied
        result.refused.update(letter.reason for letter in refused)
        return batch.count


def _in_parts(letters: Iterable[Letter]) -> Iterator[Sequence[Letter]]:
    part: list[Letter] = []
    size = 0
    for letter in letters:
        part.append(letter)
        size += len(letter.value or b"")
        if len(part) == _LETTERS_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield part
            part, size = [], 0
    yield part
