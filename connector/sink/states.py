"""A message becomes a state of one entity, or a dead letter, once and when it arrives. Pure."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from connector.errors import InvalidEventError
from connector.interfaces import DeadLetter, Message
from connector.model.events import Identity, RecordEvent
from connector.model.serde import decode_event, stated_version


class State(NamedTuple):
    """One state of one entity. The payload is decoded only if the graph lacks it."""

    identity: Identity
    version: int
    message: Message


Arrival = State | DeadLetter


def parse(message: Message, now_ms: int) -> Arrival:
    """The state that the message holds, or why it holds none.

    The payload is decoded only where neither its beginning nor a header gives the version.
    """
    try:
        identity = Identity.from_key(message.key)
        version = stated_version(message, now_ms)
        if version is None:
            version = decode_event(identity, message, now_ms).version
        return State(identity, version, message)
    except InvalidEventError as error:
        return letter_of(message, error)


def letter_of(message: Message, error: InvalidEventError) -> DeadLetter:
    """The message as a dead letter, which keeps its headers if they can be read."""
    kept = message.without_headers() if error.reason == "headers" else message
    return DeadLetter(kept, error.reason, str(error))


def decode(state: State, now_ms: int) -> RecordEvent:
    """The event.

    Raises:
        InvalidEventError: the payload is none, or contradicts key, header or its own beginning.
    """
    event = decode_event(state.identity, state.message, now_ms)
    if event.version != state.version:
        raise InvalidEventError("the payload gives two versions", reason="version")
    return event


def newest_states(arrivals: Iterable[Arrival]) -> dict[Identity, State]:
    """The newest state of each entity; of equal versions the last."""
    newest: dict[Identity, State] = {}
    for state in arrivals:
        if isinstance(state, State):
            before = newest.get(state.identity)
            if before is None or before.version <= state.version:
                newest[state.identity] = state
    return newest


def older_states(
    failed: Collection[Identity], letters: Iterable[DeadLetter], arrivals: Iterable[Arrival]
) -> list[State]:
    """Step back: what gave way to states that turned out to be dead letters."""
    entities, offsets = set(failed), {letter.message.offset for letter in letters}
    return [
        state
        for state in arrivals
        if isinstance(state, State)
        and state.identity in entities
        and state.message.offset not in offsets
    ]
