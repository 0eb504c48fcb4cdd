"""Asks API, topic, graph and dead letter queue for one entity."""

import time
from collections.abc import Callable
from contextlib import closing

import orjson

from connector.config import Settings
from connector.errors import ConnectorError, FatalError, InvalidEventError
from connector.interfaces import Range, TopicPartition
from connector.kafka.consumer import message_of
from connector.kafka.dead_letter_topic import read_letters
from connector.kafka.group_offsets import GroupOffsets
from connector.kafka.topic_log import bounds, read_ranges
from connector.kafka.topics import Topics
from connector.model.comparison import compare_node
from connector.model.entities import ENTITIES, READ_KINDS
from connector.model.events import Identity, id_of, valid_id
from connector.model.graph import node_change
from connector.model.letters import Letter, Stage
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.node_reader import NodeReader
from connector.ops.trace import ApiAnswer, Sighting, Trace
from connector.ops.wanted import ApiStates, OnRows
from connector.sink.states import State, decode, parse
from connector.store.cached_state import cache_path, cached_state


def identity_of(study_key: str, kind: str, text: str) -> Identity:
    """Return the entity that the command's arguments name.

    Raises:
        FatalError: the kind is unknown or not read, or the id is not one of the kind's.
    """
    if kind not in READ_KINDS:
        raise FatalError(f"Unknown kind {kind}. Use one of {', '.join(READ_KINDS)}")
    entity = ENTITIES[kind]
    given = int(text) if entity.id_is_number and text.isdecimal() else text
    entity_id = valid_id(kind, given)
    if entity_id is None:
        form = "a positive number" if entity.id_is_number else "a text"
        raise FatalError(f"{text} is not an id of a {kind}: {entity.id_field} is {form}")
    return Identity(study_key, kind, entity_id)


def trace_entity(
    settings: Settings,
    identity: Identity,
    is_own_letter: Callable[[Letter], bool],
    on_rows: OnRows,
) -> Trace:
    """Ask every place for the entity; what cannot be asked is noted. Blocks.

    Dead letters of sinks that fill another graph, or from another topic, are not its own.
    The whole topic is read: only the source knows in which partition the entity's subject is.
    """
    trace = Trace(identity)

    def ask(place: str, step: Callable[[], None]) -> None:
        try:
            step()
        except ConnectorError as error:
            trace.unknown[place] = str(error)

    ends: dict[int, int] = {}
    ask("API", lambda: _ask_api(settings, trace, on_rows))
    ask("topic", lambda: _read_topic(settings, trace, ends, on_rows))
    if "topic" not in trace.unknown:
        # Before the graph: what the group has committed by then, the graph must have.
        ask("group", lambda: _read_group(settings, trace))
        ask("dead letters", lambda: _read_letters(settings, trace, is_own_letter))
    ask("cache", lambda: _read_cache(settings, trace))
    ask("graph", lambda: _read_graph(settings, trace))
    if trace.node and trace.newest and (trace.node.version or 0) > trace.newest.version:
        # Reading the topic takes time: the node may be of an event that came meanwhile.
        ask("topic", lambda: _read_topic(settings, trace, ends, on_rows))
        _compare(trace)
    return trace


def _ask_api(settings: Settings, trace: Trace, on_rows: OnRows) -> None:
    identity = trace.identity
    with closing(ApiStates(settings, identity.study_key, on_rows, attempts_max=2)) as api:
        trace.api = ApiAnswer(api.row(ENTITIES[identity.entity], identity.id))


def _read_topic(settings: Settings, trace: Trace, ends: dict[int, int], on_rows: OnRows) -> None:
    """Read the topic from ``ends`` on, and set them to its end."""
    Topics(settings.kafka).check()
    topic, key = settings.kafka.events_topic, trace.identity.to_key()
    ranges = {
        number: Range(max(start, ends.get(number, start)), end)
        for number, (start, end) in bounds(settings.kafka, topic).items()
    }
    ends.update({number: end for number, (_, end) in ranges.items()})
    for raw in read_ranges(settings.kafka, topic, ranges):
        on_rows("topic", 1)
        if raw.key() != key:
            continue
        message = message_of(raw, TopicPartition(topic, raw.partition() or 0))
        at = Sighting(message.partition.partition, message.offset, message.timestamp_ms, None, None)
        now_ms = time.time_ns() // 1_000_000
        state = parse(message, now_ms)
        if isinstance(state, State):
            try:
                event = decode(state, now_ms)
            except InvalidEventError:
                pass  # its dead letter says why
            else:
                at = at._replace(version=event.version, op=event.op)
                if trace.newest is None or trace.newest.version <= event.version:
                    trace.newest, trace.newest_at = event, at
        trace.sightings.append(at)


def _read_group(settings: Settings, trace: Trace) -> None:
    with closing(GroupOffsets(settings.kafka, settings.sink.group_id)) as group:
        trace.committed = {each: at.offset for each, at in group.committed().items()}


def _read_cache(settings: Settings, trace: Trace) -> None:
    cluster_id = Topics(settings.kafka).cluster_id()
    path = cache_path(settings, trace.identity.study_key, cluster_id)
    trace.cached = cached_state(path, trace.identity)


def _read_letters(
    settings: Settings, trace: Trace, is_own_letter: Callable[[Letter], bool]
) -> None:
    key = trace.identity.to_key()
    for letter, mark in read_letters(settings.kafka):
        is_of_entity = letter.key == key or _is_row_of(letter, trace.identity)
        if is_of_entity and is_own_letter(letter):
            trace.letters.append((letter, mark))


def _is_row_of(letter: Letter, identity: Identity) -> bool:
    """Whether it is a row of the entity that could not become an event: its key is the kind."""
    if letter.stage is not Stage.SOURCE or letter.value is None:
        return False
    if (letter.study, letter.kind) != identity[:2]:
        return False
    try:
        row = orjson.loads(letter.value)
    except ValueError:
        return False
    return isinstance(row, dict) and id_of(ENTITIES[identity.entity], row) == identity.id


def _read_graph(settings: Settings, trace: Trace) -> None:
    identity = trace.identity
    with Neo4jDatabase(settings.neo4j) as database:
        found = NodeReader(database).nodes(
            ENTITIES[identity.entity], identity.study_key, [identity.id]
        )
    trace.node = found[0] if found else None
    _compare(trace)


def _compare(trace: Trace) -> None:
    """Find how the node differs from the newest event, if it has that event's version."""
    if trace.node is None or trace.newest is None or trace.node.version != trace.newest.version:
        return
    try:
        trace.differences = list(compare_node(node_change(trace.newest), trace.node))
    except InvalidEventError:
        trace.differences = []  # a dead letter says why
