"""Parses each message once, on arrival, into a state of one entity or a dead letter. Pure."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from connector.errors import InvalidEventError
from connector.interfaces import DeadLetter, Message
from connector.model.events import Identity, RecordEvent
from connector.model.serde import decode_event, stated_version


class State(NamedTuple):
    """One state of one entity. Its payload is decoded only if the graph lacks this state."""

    identity: Identity
    version: int
    message: Message


Arrival = State | DeadLetter


def parse(message: Message, now_ms: int) -> Arrival:
    """Parse a message into a state, or into a dead letter if it is not a valid event.

    The payload is decoded only if neither its beginning nor a header gives the version.
    """
    try:
        identity = Identity.from_key(message.key)
        version = stated_version(message, now_ms)
        if version is None:
            version = decode_event(identity, message, now_ms).version
        return State(identity, version, message)
    except InvalidEventError as error:
        return to_dead_letter(message, error)


def to_dead_letter(message: Message, error: InvalidEventError) -> DeadLetter:
    """Build the message's dead letter, without its headers if they cannot be read."""
    kept = message.without_headers() if error.reason == "headers" else message
    return DeadLetter(kept, error.reason, str(error))


def decode(state: State, now_ms: int) -> RecordEvent:
    """Decode the state's payload.

    Raises:
        InvalidEventError: it is not an event, or contradicts the key, a header or itself.
    """
    event = decode_event(state.identity, state.message, now_ms)
    if event.version != state.version:
        raise InvalidEventError("payload contains two versions", reason="version")
    return event


def newest_states(arrivals: Iterable[Arrival]) -> dict[Identity, State]:
    """The newest state of each entity; of those with equal versions, the first, as in the graph."""
    newest: dict[Identity, State] = {}
    for state in arrivals:
        if isinstance(state, State):
            previous = newest.get(state.identity)
            if previous is None or previous.version < state.version:
                newest[state.identity] = state
    return newest


def older_states(
    failed: Collection[Identity], dead_letters: Iterable[DeadLetter], arrivals: Iterable[Arrival]
) -> list[State]:
    """The states to fall back to, for entities whose newest state turned out to be invalid.

    These are all their states in the batch, except those among ``dead_letters``.
    """
    entities, offsets = set(failed), {letter.message.offset for letter in dead_letters}
    return [
        state
        for state in arrivals
        if isinstance(state, State)
        and state.identity in entities
        and state.message.offset not in offsets
    ]
