"""A batch of messages: the newest state of each entity, and the offsets it stands for. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from connector.errors import InvalidEventError
from connector.events import Identity, RecordEvent
from connector.graph import NodeChange, node_change
from connector.interfaces import DeadLetter, Message, Polled, Position, TopicPartition
from connector.serde import decode


def next_positions(polled: Polled) -> dict[TopicPartition, Position]:
    """What may be committed once all of this is applied: the offset after the last of each.

    The off-by-one lives here only.
    """
    positions: dict[TopicPartition, Position] = {}
    for message in polled.messages:
        at = Position(message.offset + 1, message.leader_epoch)
        before = positions.get(message.partition)
        if before is None or before.offset < at.offset:
            positions[message.partition] = at
    for partition, end in polled.ends.items():
        before = positions.get(partition)
        if before is None or before.offset < end.offset:
            epoch = before.leader_epoch if before else end.leader_epoch
            positions[partition] = Position(end.offset, epoch)
    return positions


@dataclass(frozen=True, slots=True)
class Candidate:
    """One valid event with the change it asks for and the message it came in."""

    message: Message
    event: RecordEvent
    change: NodeChange


@dataclass(slots=True)
class Decoded:
    """What a batch of messages holds: newest first-come state of each entity, invalid messages."""

    newest: dict[Identity, Candidate] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)


def decode_all(messages: Iterable[Message], now_ms: int) -> Decoded:
    """Decode each message; of several states of an entity only the newest is kept."""
    decoded = Decoded()
    for message in messages:
        try:
            event = decode(
                message.key,
                message.value,
                message.headers,
                timestamp_ms=message.timestamp_ms,
                now_ms=now_ms,
            )
            candidate = Candidate(message, event, node_change(event))
        except InvalidEventError as error:
            decoded.letters.append(DeadLetter(message, error.reason, str(error)))
            continue
        before = decoded.newest.get(event.identity)
        if before is None or before.change.version <= candidate.change.version:
            decoded.newest[event.identity] = candidate
    return decoded


def halves(items: Sequence[Candidate]) -> tuple[Sequence[Candidate], Sequence[Candidate]]:
    """Two parts of at most one item's difference."""
    middle = len(items) // 2
    return items[:middle], items[middle:]
