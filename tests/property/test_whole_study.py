"""A study with all kinds and live edits: any order of its events gives the same graph.

``SHUFFLES`` sets how many orders are tried.
"""

import os
import random
from functools import cache
from typing import Any

import pytest

from connector.interfaces import GraphWriter
from connector.lab.simulator.study import Study, build_study
from connector.lab.simulator.workload import Workload
from connector.model.entities import READ_KINDS
from connector.model.entity import Entity
from connector.model.events import Identity, Op, RecordEvent, id_of
from connector.model.graph import node_change
from connector.model.graph_state import GraphState
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from connector.neo4j.writer import Neo4jGraphWriter
from tests.builders import delete, upsert
from tests.fakes.in_memory_graph import InMemoryGraph
from tests.fakes.in_memory_kafka import InMemoryTopic
from tests.oracle import assert_equal, fold

_SHUFFLES = int(os.environ.get("SHUFFLES", "200"))
_ON_SERVER = max(3, _SHUFFLES // 100)
_EDITS = 400


@cache
def history(study_key: str) -> list[RecordEvent]:
    """Return the events of all states that a small study had, every few edits."""
    study = build_study(study_key, 3, 60, 1)
    variables = study.table("variables")
    for each in variables.ids[6:]:
        variables.remove(each)
    now = 1_717_200_000.0
    workload = Workload(study, lambda: now)
    seen: dict[Identity, dict[str, Any]] = {}
    events: list[RecordEvent] = []
    for version in range(1, _EDITS // 4):
        rows = dict(_rows(study))
        for identity, row in rows.items():
            if seen.get(identity) != row:
                events.append(_event(identity, version, row))
        events += [_event(identity, version, None) for identity in seen.keys() - rows.keys()]
        seen = rows
        for _ in range(4):
            now += 0.7
            workload.step()
    return events


def _rows(study: Study) -> list[tuple[Identity, dict[str, Any]]]:
    found = []
    for entity in READ_KINDS.values():
        rows = list(study.table(entity.resource).rows()) if entity.resource else [{**study.row}]
        found += [(_identity(entity, study.key, row), row) for row in rows]
    return found


def _identity(entity: Entity, study_key: str, row: dict[str, Any]) -> Identity:
    entity_id = id_of(entity, row)
    assert entity_id is not None
    return Identity(study_key, entity.name, entity_id)


def _event(identity: Identity, version: int, row: dict[str, Any] | None) -> RecordEvent:
    study_key, entity, entity_id = identity
    if row is None:
        return delete(entity_id, version, entity, study_key)
    return upsert(row, version, entity, study_key)


def expected(events: list[RecordEvent]) -> GraphState:
    topic = InMemoryTopic(1)
    for event in events:
        topic.append_event(event)
    return fold(topic.messages())


def apply_shuffled(writer: GraphWriter, events: list[RecordEvent], rng: random.Random) -> None:
    """Apply all events in random order and batches, and some of them twice."""
    shuffled = [*events, *rng.sample(events, len(events) // 4)]
    rng.shuffle(shuffled)
    while shuffled:
        size = rng.choice((1, 5, 40, 300))
        batch, shuffled = shuffled[:size], shuffled[size:]
        newest: dict[Identity, RecordEvent] = {}
        for event in batch:
            before = newest.get(event.identity)
            if before is None or before.version <= event.version:
                newest[event.identity] = event
        absent = set(newest) if rng.random() < 0.3 else set[Identity]()
        writer.write([node_change(event) for event in newest.values()], absent)


def test_the_history_has_every_kind_in_several_states_and_deletes() -> None:
    """The history below covers all kinds, all relationships, parts and deletes."""
    events = history("S1")
    by_kind = {name: [event for event in events if event.entity == name] for name in READ_KINDS}
    for name, found in by_kind.items():
        assert len(found) > len({event.id for event in found}) or name == "record_revision", name
    assert {event.entity for event in events if event.op is Op.DELETE} >= {"record", "query"}
    state = expected(events)
    kinds = {each.kind for each in state.relationships}
    for entity in READ_KINDS.values():
        assert {each.relationship for each in entity.references} <= kinds, entity.name
        assert {each.relationship for each in entity.reference_lists} <= kinds, entity.name
        assert {each.relationship for each in entity.parts} <= kinds, entity.name


def test_any_order_of_a_studys_events_gives_the_same_graph() -> None:
    """Children before parents, duplicates, deletes, older states: the graph is the fold."""
    events = history("S1")
    wanted = expected(events)
    for seed in range(_SHUFFLES):
        graph = InMemoryGraph()
        apply_shuffled(graph, events, random.Random(seed))
        assert_equal(wanted, graph.state("S1"))


@pytest.mark.servers
@pytest.mark.timeout(3600)
def test_any_order_of_a_studys_events_gives_the_same_graph_on_the_server(
    database: Neo4jDatabase, study: str
) -> None:
    """The same on Neo4j."""
    writer = Neo4jGraphWriter(database, {})
    for seed in range(_ON_SERVER):
        study_key = f"{study}-{seed}"
        events = history(study_key)
        apply_shuffled(writer, events, random.Random(seed))
        assert_equal(expected(events), read_graph(database, study_key))
