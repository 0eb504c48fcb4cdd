"""``imednet-connector trace``: what became of one entity, from the API to the graph."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connector import logs
from connector.cli.own_letters import is_own_letter
from connector.cli.row_counts import row_counts
from connector.config import Settings
from connector.model.events import KnownState
from connector.model.letters import state_of
from connector.ops.trace import Sighting, Trace, conclude
from connector.ops.tracing import identity_of, trace_entity
from connector.ui.durations import ago

_EVENTS_SHOWN = 20


def run(settings: Settings, study: str, kind: str, entity_id: str, *, as_json: bool) -> None:
    """Print what API, topic, graph and dead letter queue have of the entity, and a conclusion.

    Raises:
        FatalError: the kind or the id is not valid.
        typer.Exit: with code 1 if the topic or the graph could not be read.
    """
    logs.configure(settings.log)
    identity = identity_of(study, kind, entity_id)
    with row_counts() as on_rows:
        trace = trace_entity(settings, identity, partial(is_own_letter, settings), on_rows)
    if as_json:
        typer.echo(json.dumps(_as_json(trace), indent=2))
    else:
        _print(trace)
    if {"topic", "graph"} & trace.unknown.keys():
        raise typer.Exit(1)


def _as_json(trace: Trace) -> dict[str, Any]:
    node = trace.node
    return {
        "study": trace.identity.study_key,
        "kind": trace.identity.entity,
        "id": trace.identity.id,
        "api": None if trace.api is None else {"listed": trace.api.row is not None},
        "events": [each._asdict() for each in trace.sightings],
        "committed": dict(trace.committed),
        "cached": None
        if trace.cached is None
        else {
            "version": trace.cached.version,
            "deleted": trace.cached.content_hash is None,
            "delivery": trace.cached.delivery.name.lower(),
        },
        "node": None
        if node is None
        else {"version": node.version, "deleted": node.is_deleted, "stub": node.is_stub},
        "dead_letters": [
            {
                "letter": str(letter.id),
                "reason": letter.reason,
                "state": state_of(mark),
            }
            for letter, mark in trace.letters
        ],
        "unknown": trace.unknown,
        "conclusion": conclude(trace),
    }


def _print(trace: Trace) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, show_header=False, title=Text(_title(trace)), title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for place, text in _lines(trace):
        table.add_row(place, Text(text))
    console.print(table)
    console.print()
    console.print(conclude(trace), markup=False)


def _title(trace: Trace) -> str:
    study_key, kind, entity_id = trace.identity
    return f"{kind} {entity_id} of study {study_key}"


def _lines(trace: Trace) -> Iterator[tuple[str, str]]:
    yield "API", _of_api(trace)
    yield "cache", trace.unknown.get("cache", _of_cache(trace.cached))
    if not trace.sightings:
        yield "topic", trace.unknown.get("topic", "no event")
    shown = trace.sightings[-_EVENTS_SHOWN:]
    if len(shown) < len(trace.sightings):
        yield "topic", f"{len(trace.sightings) - len(shown):,} older events"
    for each in shown:
        yield "topic", _of_event(each)
    if trace.newest_at is not None:
        yield "sinks", trace.unknown.get("group", _of_group(trace, trace.newest_at.partition))
    yield "graph", trace.unknown.get("graph", _of_node(trace))
    for letter, mark in trace.letters:
        age = ago(letter.time_ms)
        yield "dead letter", f"{letter.id}: {letter.reason}, {state_of(mark)}, {age}"
    if "dead letters" in trace.unknown:
        yield "dead letter", trace.unknown["dead letters"]


def _of_event(event: Sighting) -> str:
    at = f"partition {event.partition} offset {event.offset}"
    what = f"{event.op}, version {event.version}" if event.op else "not a valid event"
    return f"{at}: {what}, {ago(event.time_ms)}"


def _of_group(trace: Trace, partition: int) -> str:
    at = trace.committed.get(partition)
    what = "nothing" if at is None else f"offset {at}"
    return f"have committed {what} of partition {partition}"


def _of_api(trace: Trace) -> str:
    if trace.api is None:
        return f"not known: {trace.unknown.get('API', '')}"
    row = trace.api.row
    if row is None:
        return "does not list it"
    modified = row.get("dateModified")
    return f"lists it, modified {modified}" if isinstance(modified, str) else "lists it"


def _of_cache(state: KnownState | None) -> str:
    if state is None:
        return "does not know it"
    deleted = "deleted, " if state.content_hash is None else ""
    return f"{deleted}version {state.version}, {state.delivery.name.lower()}"


def _of_node(trace: Trace) -> str:
    node = trace.node
    if node is None:
        return "no node"
    if node.version is None:
        return "a stub: other nodes refer to it"
    return f"{'deleted, ' if node.is_deleted else ''}version {node.version}"
