"""What became of one entity: what each place has of it, and one sentence that says so. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from connector.errors import START_SWEEP
from connector.model.comparison import Difference, FoundNode, Problem
from connector.model.events import Identity, KnownState, Op, RecordEvent
from connector.model.graph_state import canonical
from connector.model.letters import Action, Letter, Mark, Stage


class Sighting(NamedTuple):
    """One message of the entity on the events topic."""

    partition: int
    offset: int
    time_ms: int
    version: int | None
    """None: it is not a valid event."""
    op: Op | None


class ApiAnswer(NamedTuple):
    """What the API lists now."""

    row: Mapping[str, Any] | None
    """None: it does not list the entity."""


@dataclass(slots=True)
class Trace:
    """What each place has of one entity; ``unknown`` has the places that could not be asked."""

    identity: Identity
    api: ApiAnswer | None = None
    sightings: list[Sighting] = field(default_factory=list)
    newest: RecordEvent | None = None
    """The newest valid event, and where it is: in ``newest_at``."""
    newest_at: Sighting | None = None
    committed: Mapping[int, int | None] = field(default_factory=dict)
    """The group's committed offsets by partition."""
    cached: KnownState | None = None
    """What the source's cache knows; None also if it does not know the entity."""
    node: FoundNode | None = None
    differences: Sequence[Difference] = ()
    """Between the newest event and the node, of equal versions."""
    letters: list[tuple[Letter, Mark | None]] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    """By place (API, cache, topic, group, graph, dead letters): why it could not be asked."""


def conclude(trace: Trace) -> str:
    """Say in one sentence what became of the entity, and what to do, if anything."""
    for place in ("topic", "graph"):
        if place in trace.unknown:
            return f"Not known, because the {place} could not be read: {trace.unknown[place]}"
    if trace.newest is None or trace.newest_at is None:
        return _without_event(trace)
    version = trace.node.version if trace.node else None
    if version is None or version < trace.newest.version:
        return _behind(trace, trace.newest_at)
    if version > trace.newest.version:
        return (
            "The graph has a newer state than the topic: an export wrote it, or the topic has lost"
            f" events. To publish what the topic lacks, {START_SWEEP}. If it stays newer, run:"
            f" imednet-connector verify --study {trace.identity.study_key} --repair"
        )
    if trace.differences:
        return _different(trace.differences[0])
    return _compared_with_api(trace, trace.newest) + _waiting_letters(trace, ", of other states")


def _without_event(trace: Trace) -> str:
    if trace.sightings:
        count = len(trace.sightings)
        return f"The topic has {count} events of it, but no valid one{_waiting_letters(trace)}"
    if trace.api is not None and trace.api.row is not None:
        return _only_in_api(trace)
    if trace.node is not None and not trace.node.is_stub:
        return _only_in_graph(trace, is_marker=trace.node.is_deleted)
    if "API" in trace.unknown:
        return f"Neither topic nor graph has it, and the API is not known: {trace.unknown['API']}"
    if trace.node is not None:
        return "Other entities refer to it, but neither the API nor the topic has it"
    return "Neither API, topic nor graph has it. Check study, kind and id"


def _only_in_api(trace: Trace) -> str:
    if of_source := _waiting_at_source(trace):
        return of_source
    if "dead letters" in trace.unknown:
        unread = _unread(trace, "dead letters")
        return f"The API lists it, but the topic has no event of it, and {unread}"
    return (
        "The API lists it, but the topic has no event of it: the source has not read it yet."
        f" Check that the source runs; to read everything now, {START_SWEEP}"
    )


def _only_in_graph(trace: Trace, *, is_marker: bool) -> str:
    if is_marker:
        return "It was deleted: the graph keeps a marker, and the topic has no event of it any more"
    if "API" in trace.unknown:
        return f"The topic does not have it, and the API is not known: {trace.unknown['API']}"
    return (
        "Only the graph has it. To delete it there, run: imednet-connector verify --study"
        f" {trace.identity.study_key} --repair"
    )


def _behind(trace: Trace, newest: Sighting) -> str:
    if "group" in trace.unknown:
        return f"The graph does not have its newest event yet, and {_unread(trace, 'group')}"
    committed = trace.committed.get(newest.partition)
    if committed is None or committed <= newest.offset:
        behind = newest.offset - (committed or 0) + 1
        return (
            f"The sinks have not applied its newest event yet: they are {behind:,} offsets before"
            " it. Check that they run"
        )
    if "dead letters" in trace.unknown:
        return f"The graph does not have its newest event, and {_unread(trace, 'dead letters')}"
    for letter, mark in trace.letters:
        origin = letter.origin
        if origin is None or (origin.partition, origin.offset) != newest[:2]:
            continue
        failed = f"Its newest event could not be applied: {letter.reason} (dead letter {letter.id})"
        if mark is None:
            return (
                f"{failed}. Once the cause is fixed, run: imednet-connector dlq redrive {letter.id}"
            )
        if mark.action is Action.DROPPED:
            return f"{failed}, and the letter was dropped: only its next change will be applied"
    return (
        "The sinks are past its newest event, but the graph does not have it: it was changed from"
        f" outside. Run: imednet-connector verify --study {trace.identity.study_key} --repair"
    )


def _unread(trace: Trace, place: str) -> str:
    return f"the {place} could not be read: {trace.unknown[place]}"


def _different(difference: Difference) -> str:
    if difference.problem is Problem.STALE:
        return (
            "An earlier version of the graph model wrote the node. Run: imednet-connector replay"
            " --from beginning"
        )
    names = f" ({', '.join(difference.names)})" if difference.names else ""
    return (
        f"The node has the newest version, but is {difference.problem}{names}: it was changed from"
        f" outside. Run: imednet-connector verify --study {difference.identity.study_key} --repair"
    )


def _compared_with_api(trace: Trace, newest: RecordEvent) -> str:
    if trace.api is None:
        why = trace.unknown.get("API", "it was not asked")
        return f"The graph has the newest state on the topic; the API is not known: {why}"
    is_deleted, row = newest.data is None, trace.api.row
    if is_deleted and row is None:
        return "It was deleted in the API, and the graph has it as deleted"
    if is_deleted:
        return (
            "It was deleted, and the API lists it again: the source publishes it with its next pass"
        )
    if row is None:
        return (
            "The API no longer lists it. The source deletes it once two full passes have missed it;"
            f" to start one now, {START_SWEEP}"
        )
    if canonical(row) != canonical(newest.data):
        return _newer_at_api(trace)
    return "Up to date: API, topic and graph have the same state"


def _newer_at_api(trace: Trace) -> str:
    if of_source := _waiting_at_source(trace):
        return of_source
    since_ms = trace.newest_at.time_ms if trace.newest_at else 0
    if any(each.version is None and each.time_ms >= since_ms for each in trace.sightings):
        return "The API has a newer state, and a later event on the topic is not valid"
    if "dead letters" in trace.unknown:
        return f"The API has a newer state, and {_unread(trace, 'dead letters')}"
    return "The API has a newer state, which the source has not read yet"


def _waiting_at_source(trace: Trace) -> str | None:
    """What keeps the source from publishing the entity's row, if its dead letter waits."""
    # An event that came after the letter shows that the source could read the row again.
    since_ms = trace.newest_at.time_ms if trace.newest_at else 0
    letters = [
        each
        for each, mark in trace.letters
        if mark is None and each.stage is Stage.SOURCE and each.time_ms >= since_ms
    ]
    if not letters:
        return None
    letter = letters[-1]
    if letter.reason == "too_large":
        return (
            f"Its event is too large for the topic (dead letter {letter.id}). Raise"
            " max.message.bytes of the topic; the source tries again in each full pass"
        )
    return (
        f"The source cannot make an event of its row: {letter.reason} (dead letter {letter.id})."
        " It tries again in each full pass"
    )


def _waiting_letters(trace: Trace, whose: str = "") -> str:
    waiting = [letter for letter, mark in trace.letters if mark is None]
    if not waiting:
        return ""
    letters = ", ".join(f"{letter.id} {letter.reason}" for letter in waiting[:3])
    return f". Dead letters of it wait{whose}: {letters}"
