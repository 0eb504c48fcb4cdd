"""Contract tests of GraphWriter, on the fake and on a real Neo4j."""

import gc
import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import pytest

from connector.config import Neo4jSettings
from connector.errors import InvalidEventError, StaleGraphError
from connector.export.rows import without_foreign_visit
from connector.interfaces import GraphWriter, Span
from connector.model.entities import ENTITIES
from connector.model.entity import Reference
from connector.model.events import Identity, RecordEvent
from connector.model.graph import node_change
from connector.model.graph_state import GraphState, NodeKey, same
from connector.neo4j import bulk_create, cypher, probes, shapes
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.parameters import Rows
from connector.neo4j.reader import read_graph
from connector.neo4j.statement import Statement
from connector.neo4j.writer import Neo4jGraphWriter
from tests.builders import delete, record_row, upsert
from tests.fakes.in_memory_graph import InMemoryGraph
from tests.fakes.in_memory_kafka import InMemoryTopic
from tests.oracle import assert_equal, fold


class Graph(Protocol):
    @property
    def writer(self) -> GraphWriter: ...

    def state(self) -> GraphState: ...

    def set_property(self, record_id: int, name: str, value: Any) -> None: ...


class FakeGraph:
    def __init__(self, study: str) -> None:
        self.study = study
        self.writer = self.fake = InMemoryGraph()

    def state(self) -> GraphState:
        return self.fake.state(self.study)

    def set_property(self, record_id: int, name: str, value: Any) -> None:
        self.fake.graph.nodes[NodeKey("Record", (self.study, record_id))][name] = value


class RealGraph:
    def __init__(self, study: str, database: Neo4jDatabase) -> None:
        self.study, self.database = study, database
        self.writer = Neo4jGraphWriter(database, {"group": "contract"})

    def state(self) -> GraphState:
        return read_graph(self.database, self.study)

    def set_property(self, record_id: int, name: str, value: Any) -> None:
        match = "UNWIND $batch.rows AS row MATCH (n:Record {study_key: row.s, record_id: row.id})"
        rows = [{"s": self.study, "id": record_id, "value": value}]
        self.database.write(Statement(f"{match} SET n.`{name}` = row.value", rows), {})


@pytest.fixture(params=["fake", pytest.param("neo4j", marks=pytest.mark.servers)])
def graph(request: pytest.FixtureRequest, study: str) -> Graph:
    if request.param == "fake":
        return FakeGraph(study)
    return RealGraph(study, request.getfixturevalue("database"))


def apply(graph: Graph, *events: RecordEvent) -> None:
    graph.writer.write([node_change(event) for event in events])


def expected(*events: RecordEvent) -> GraphState:
    topic = InMemoryTopic(1)
    for event in events:
        topic.append_event(event)
    return fold(topic.messages())


def row(study: str, record_id: int = 1, **changed: Any) -> dict[str, Any]:
    return record_row(record_id, studyKey=study, **changed)


def test_what_was_written_is_there_with_its_neighbours_as_stubs(graph: Graph, study: str) -> None:
    """A write stores the node and its links, and creates missing neighbours as stubs."""
    event = upsert(row(study))
    apply(graph, event)
    assert_equal(expected(event), graph.state())
    stub = graph.state().nodes[NodeKey("Visit", (study, 5))]
    assert stub == {"study_key": study, "visit_id": 5}


def test_the_probe_returns_only_absent_and_outdated_nodes(graph: Graph, study: str) -> None:
    """The probe returns absent nodes, and nodes of a lower version or none, but no others."""
    apply(graph, upsert(row(study, 1), 5), upsert(row(study, 2), 5))
    at = {
        Identity(study, "record", number): version for number, version in ((1, 5), (2, 6), (3, 1))
    }
    at[Identity(study, "visit", 5)] = 1  # a stub has no version yet
    at[Identity(study, "study", study)] = 1
    absent, outdated = graph.writer.probe(at)
    assert {(each.entity, each.id) for each in outdated} == {("record", 2), ("visit", 5)}
    assert {(each.entity, each.id) for each in absent} == {("record", 3), ("study", study)}


def test_nodes_wrongly_assumed_absent_are_still_written(graph: Graph, study: str) -> None:
    """A change whose node exists, contrary to the caller's assumption, is merged.

    Another writer was faster, or an acknowledgement was lost and the batch is repeated.
    """
    old, newest = upsert(row(study, 1, visitId=8), 4), upsert(row(study, 2), 9)
    apply(
        graph, upsert(row(study, 1, visitId=5), 3), newest, upsert(row(study, 4, parentRecordId=3))
    )
    events = [old, upsert(row(study, 2), 7), upsert(row(study, 3)), upsert(row(study, 5, parentRecordId=6)),
              upsert(row(study, 6))]  # fmt: skip
    changes = [node_change(event) for event in events]
    for _ in range(2):
        result = graph.writer.write(changes, absent={change.identity for change in changes})
        assert not result.were_absent
    wanted = expected(old, newest, *events[2:], upsert(row(study, 4, parentRecordId=3)))
    assert_equal(wanted, graph.state())


def test_an_older_version_changes_nothing(graph: Graph, study: str) -> None:
    """Upserts and deletes of an older version are no-ops."""
    newest = upsert(row(study, visitId=8, recordData={"a": "new"}), 9)
    apply(graph, newest)
    before = graph.state().digest()
    apply(graph, upsert(row(study, visitId=5, recordData={"a": "old"}), 3), newest)
    apply(graph, delete(1, 4, study_key=study))
    assert graph.state().digest() == before


def test_properties_are_replaced_so_that_a_removed_variable_disappears(
    graph: Graph, study: str
) -> None:
    """A newer state replaces all properties, so a removed variable disappears."""
    apply(graph, upsert(row(study, recordData={"a": "1", "b": "2"}), 1))
    newest = upsert(row(study, recordData={"a": "3"}), 2)
    apply(graph, newest)
    assert_equal(expected(newest), graph.state())


def test_properties_of_the_graphs_users_survive_updates_and_deletes(
    graph: Graph, study: str
) -> None:
    """``x_`` properties of the graph's users survive updates and deletes."""
    apply(graph, upsert(row(study), 1))
    graph.set_property(1, "x_reviewed", "yes")
    apply(graph, upsert(row(study, recordData={}), 2))
    apply(graph, delete(1, 3, study_key=study))
    assert graph.state().nodes[NodeKey("Record", (study, 1))]["x_reviewed"] == "yes"


def test_a_record_that_moves_loses_the_old_relationship(graph: Graph, study: str) -> None:
    """A record that moves to another parent loses its old relationship."""
    apply(graph, upsert(row(study, visitId=5, parentRecordId=4), 1))
    moves: list[dict[str, Any]] = [
        {"visitId": 6},
        {"visitId": None},
        {"visitId": None, "subjectId": 12},
        {"visitId": None, "subjectId": None, "siteId": None},
    ]
    for version, changed in enumerate(moves, 2):
        moved = upsert(row(study, **changed), version)
        apply(graph, moved)
        assert_equal(expected(moved), graph.state())


@pytest.mark.parametrize("blank", [None, 0, "", " ", [], {}], ids=repr)
def test_a_record_that_moves_from_a_blank_visit_to_a_real_one_and_back_has_one_parent(
    graph: Graph, study: str, blank: Any
) -> None:
    """A record has exactly one parent while its references change between blank and real."""
    for version, (visit, parent) in enumerate(
        [(blank, blank), (5, 4), (blank, blank), (6, blank), (blank, 4), (5, 4)], 1
    ):
        moved = upsert(row(study, visitId=visit, parentRecordId=parent), version)
        apply(graph, moved)
        assert_equal(expected(moved), graph.state())
    nowhere = upsert(row(study, visitId=blank, subjectId=blank, siteId=blank), 7)
    apply(graph, nowhere)
    assert_equal(expected(nowhere), graph.state())


@pytest.mark.parametrize("blank", [None, "", " ", [], {}], ids=repr)
def test_a_record_whose_data_is_blank_loses_its_variables(
    graph: Graph, study: str, blank: Any
) -> None:
    """A state with blank ``recordData`` removes the record's variables."""
    apply(graph, upsert(row(study), 1))
    newest = upsert(row(study, recordData=blank), 2)
    apply(graph, newest)
    assert_equal(expected(newest), graph.state())


@pytest.mark.servers
def test_a_record_that_another_names_as_its_parent_is_not_taken_for_created(
    database: Neo4jDatabase, study: str
) -> None:
    """A parent is merged, as its child may have made a stub: so it may have existed before.

    Nothing needs to be written again, however: the graph has both, or newer states.
    """
    writer = Neo4jGraphWriter(database, {})
    parent, child = (
        node_change(upsert(record_row(number, studyKey=study, parentRecordId=named), 5))
        for number, named in ((1, None), (2, 1))
    )
    assert writer.create([parent])
    assert writer.create([parent, child])
    assert not writer.create([child])
    other = node_change(upsert(record_row(3, studyKey=study, parentRecordId=1), 5))
    assert writer.create([other])


@pytest.mark.servers
def test_a_visit_without_a_subject_is_no_other_subjects_visit(
    database: Neo4jDatabase, study: str
) -> None:
    """A visit without a valid subject id belongs to no subject."""
    writer = Neo4jGraphWriter(database, {})
    subjects: list[Any] = [11, 0, None, "", [], {}]
    visits = [
        upsert({"studyKey": study, "visitId": number, "subjectId": subject}, 1, "visit")
        for number, subject in enumerate(subjects, 1)
    ]
    writer.write([node_change(visit) for visit in visits])
    assert writer.subjects_of_visits(study, range(1, 8)) == {1: 11}


@pytest.mark.servers
def test_the_longest_names_and_widest_values_that_are_let_through_are_stored(
    database: Neo4jDatabase, study: str
) -> None:
    """Neo4j stores the longest names and most extreme values that the model accepts."""
    graph = RealGraph(study, database)
    widest: dict[str, Any] = {
        "n" * 65_535: "1", "é" * 32_767: 2**63 - 1, "😀" * 16_383: -(2**63), " ": "\0", "\n": 1.7e308,
        "\uffff": [2**63 - 1], "a\\": ["\0"], "`": [True],
    }  # fmt: skip
    event = upsert(row(study, recordData=widest))
    apply(graph, event)
    assert_equal(expected(event), graph.state())


@pytest.mark.servers
@pytest.mark.parametrize("name", ["", "\0", "a\0b"])
def test_names_that_are_not_let_through_are_those_that_neo4j_refuses(
    database: Neo4jDatabase, study: str, name: str
) -> None:
    """A name that the model refuses is one that Neo4j refuses."""
    with pytest.raises(InvalidEventError) as error:
        node_change(upsert(row(study, recordData={name: 1})))
    assert error.value.reason == "property_name"
    change = node_change(upsert(row(study, recordData={"a": 1})))
    unchecked = change._replace(names=(name, *change.names[1:]))
    with pytest.raises(InvalidEventError) as refused:
        Neo4jGraphWriter(database, {}).write([unchecked])
    assert refused.value.reason == "TokenNameError"


@pytest.mark.servers
def test_a_relationship_that_has_not_moved_is_not_touched(
    database: Neo4jDatabase, study: str
) -> None:
    """An update keeps relationships whose target has not changed."""
    graph = RealGraph(study, database)
    apply(graph, upsert(row(study, visitId=5, parentRecordId=4), 1))
    match = "MATCH (:Record {study_key: $batch.rows[0]})-[r]-() RETURN DISTINCT elementId(r) AS id ORDER BY id"
    before = database.read(match, [study])
    apply(graph, upsert(row(study, visitId=5, parentRecordId=4, siteId=9), 2))
    assert database.read(match, [study]) == before
    assert len(before) == 2


def test_a_record_whose_link_was_redirected_is_moved_by_its_next_state(
    graph: Graph, study: str
) -> None:
    """The next state of a record with a redirected link moves that link.

    The record's own properties do not say where the link points.
    """
    change = without_foreign_visit(node_change(upsert(row(study), 1)), {5: 12})
    graph.writer.write([change])
    subject = NodeKey("Subject", (study, 11))
    links = graph.state().relationships
    assert {each.start for each in links if each.kind == "HAS_RECORD"} == {subject}
    newest = upsert(row(study, recordData={}), 2)
    apply(graph, newest)
    assert_equal(expected(newest), graph.state())


SetReferences = Callable[[Iterable[Reference], int], None]


@pytest.fixture
def set_references(monkeypatch: pytest.MonkeyPatch) -> Iterator[SetReferences]:
    """Set the references and the model revision of records in the table of kinds."""

    def clear() -> None:
        for each in (*vars(cypher).values(), *vars(bulk_create).values(), *vars(probes).values()):
            if hasattr(each, "cache_clear"):
                each.cache_clear()

    def change(references: Iterable[Reference], revision: int) -> None:
        record = replace(ENTITIES["record"], references=tuple(references), model_revision=revision)
        monkeypatch.setitem(ENTITIES, "record", record)
        clear()

    yield change
    monkeypatch.undo()
    clear()


def keyword(keyword_id: int, **changed: Any) -> dict[str, Any]:
    return {"keywordName": f"K {keyword_id}", "keywordId": keyword_id,
            "dateAdded": "2024-11-04 16:03:19"} | changed  # fmt: skip


def test_a_list_of_references_becomes_relationships_with_properties(
    graph: Graph, study: str
) -> None:
    """Each element of a list field is a relationship; a later state adds and removes some."""
    first = upsert(row(study, keywords=[keyword(1), keyword(2), keyword(1)]), 1)
    apply(graph, first)
    assert_equal(expected(first), graph.state())
    second = upsert(row(study, keywords=[keyword(2, dateAdded="2025-01-01 00:00:00")]), 2)
    apply(graph, second)
    assert_equal(expected(second), graph.state())
    gone = delete(1, 3, study_key=study)
    apply(graph, gone)
    assert_equal(expected(gone), graph.state())


def query_row(study: str, comments: Any) -> dict[str, Any]:
    return {"studyKey": study, "annotationId": 4, "recordId": 1, "queryComments": comments}


def comment(sequence: int, **changed: Any) -> dict[str, Any]:
    return {"sequence": sequence, "comment": "Check.", "closed": False} | changed


def query(study: str, version: int, comments: Any) -> RecordEvent:
    return upsert(query_row(study, comments), version, "query")


def test_an_owners_next_state_replaces_all_of_its_parts(graph: Graph, study: str) -> None:
    """A query's comments are those of its newest state, whatever the order of events."""
    states = [
        query(study, 1, [comment(1), comment(2)]),
        query(study, 2, [comment(1, closed=True)]),
        query(study, 3, None),
        query(study, 4, [comment(7), comment(7)]),
    ]
    for state in states:
        apply(graph, state)
        assert_equal(expected(state), graph.state())
    apply(graph, states[0])
    assert_equal(expected(states[-1]), graph.state())
    gone = delete(4, 5, "query", study)
    apply(graph, gone)
    assert_equal(expected(gone), graph.state())


def test_a_new_model_revision_reaches_existing_nodes_by_replay_and_by_their_next_change(
    graph: Graph, study: str, set_references: SetReferences
) -> None:
    """A reference added to the table reaches every existing node, and a removed one leaves it."""
    all_references = ENTITIES["record"].references
    without = [each for each in all_references if each.relationship != "CHILD_OF"]
    events = [upsert(row(study, number, parentRecordId=9), 5) for number in (1, 2)]
    set_references(without, 1)
    apply(graph, *events)
    assert "CHILD_OF" not in {each.kind for each in graph.state().relationships}
    set_references(all_references, 2)
    outdated = graph.writer.probe({event.identity: event.version for event in events}).outdated
    assert outdated == {event.identity for event in events}
    apply(graph, events[0])  # a replay
    changed = upsert(row(study, 2, parentRecordId=9, recordStatus="Locked"), 6)
    apply(graph, changed)
    assert_equal(expected(events[0], changed), graph.state())
    assert not graph.writer.probe({events[0].identity: 5}).outdated
    set_references(
        [replace(each, targets=()) if each.relationship == "CHILD_OF" else each
         for each in all_references], 3,
    )  # fmt: skip
    apply(graph, events[0])
    own = NodeKey("Record", (study, 1))
    assert {each.kind for each in graph.state().relationships if own in each} == {"HAS_RECORD"}


@pytest.mark.servers
def test_a_graph_of_the_earlier_version_is_brought_up_to_date_by_a_replay(
    database: Neo4jDatabase, study: str
) -> None:
    """Nodes without ``_model`` and ``_links`` are written again at their own version."""
    graph = RealGraph(study, database)
    event = upsert(row(study, visitId=5, parentRecordId=4, keywords=[keyword(1)]), 3)
    old = (
        "UNWIND $batch.rows AS row CREATE (v:Visit {study_key: row[0], visit_id: 6})"
        " CREATE (p:Record {study_key: row[0], record_id: 4})"
        " CREATE (v)-[:HAS_RECORD]->(n:Record {study_key: row[0], record_id: 1, _version: 3,"
        " _hash: 'old', SYSBP: '120', keywords: 'text', old: true})-[:CHILD_OF]->(p)"
    )
    database.write(Statement(old, [[study]]), {})
    assert graph.writer.probe({event.identity: 3}).outdated == {event.identity}
    apply(graph, event)
    assert_equal(expected(event), graph.state())


@pytest.mark.servers
def test_relationships_that_an_earlier_versions_delete_left_are_removed_by_a_replay(
    database: Neo4jDatabase, study: str
) -> None:
    """During an upgrade an older sink may delete a node and leave links that it does not know."""
    graph = RealGraph(study, database)
    visit = {"studyKey": study, "visitId": 1, "subjectId": 2, "intervalId": 3}
    apply(graph, upsert(visit, 1, "visit"))
    older = (
        "UNWIND $batch.rows AS row MATCH (:Subject)-[r:HAS_VISIT]->(n:Visit {study_key: row})"
        " DELETE r SET n = {study_key: row, visit_id: 1, _version: 2, deleted: true}"
        " SET n:Deleted"
    )
    database.write(Statement(older, [study]), {})
    gone = delete(1, 2, "visit", study)
    apply(graph, gone)
    assert_equal(expected(gone), graph.state())
    back = upsert(visit | {"intervalId": 9}, 3, "visit")
    apply(graph, back)
    assert_equal(expected(back), graph.state())


@pytest.mark.servers
def test_a_neighbour_deleted_by_hand_is_linked_again_by_the_next_change(
    database: Neo4jDatabase, study: str
) -> None:
    """A node whose relationships are fewer than it records gets them again."""
    graph = RealGraph(study, database)
    apply(graph, upsert(row(study, keywords=[keyword(1)]), 1))
    by_hand = (
        "UNWIND $batch.rows AS row MATCH (n:Visit|Keyword {study_key: row[0]}) DETACH DELETE n"
    )
    database.write(Statement(by_hand, [[study]]), {})
    newest = upsert(row(study, keywords=[keyword(1)], recordStatus="x"), 2)
    apply(graph, newest)
    assert_equal(expected(newest), graph.state())


def test_a_deleted_entity_stays_as_a_mark_and_can_come_back(graph: Graph, study: str) -> None:
    """A deleted entity stays as a mark, and a newer upsert restores it."""
    apply(graph, upsert(row(study), 1))
    gone = delete(1, 2, study_key=study)
    apply(graph, gone)
    assert_equal(expected(gone), graph.state())
    back = upsert(row(study), 3)
    apply(graph, back)
    assert_equal(expected(back), graph.state())


def test_a_delete_of_an_unknown_entity_keeps_an_older_event_out(graph: Graph, study: str) -> None:
    """A delete that arrives first keeps out older upserts of its entity."""
    gone = delete(1, 5, study_key=study)
    apply(graph, gone)
    apply(graph, upsert(row(study), 4))
    assert_equal(expected(gone), graph.state())


def test_a_record_may_be_its_own_parent_or_part_of_a_circle(graph: Graph, study: str) -> None:
    """Records that are their own parent, or each other's, are stored."""
    events = (upsert(row(study, 1, parentRecordId=1)), upsert(row(study, 2, parentRecordId=3)),
              upsert(row(study, 3, parentRecordId=2)))  # fmt: skip
    apply(graph, *events)
    assert_equal(expected(*events), graph.state())


def test_names_from_data_are_never_taken_as_cypher(graph: Graph, study: str) -> None:
    """Property names from the data are never interpreted as Cypher."""
    names = ["a`b", "`}) DETACH DELETE n //", "\\u0060", "a b", "ü", "record_id", "_lock"]
    event = upsert(row(study, recordData=dict.fromkeys(names, "1")))
    apply(graph, event)
    assert_equal(expected(event), graph.state())


def test_bulk_creation_of_similar_nodes_equals_creating_each_alone(
    graph: Graph, study: str
) -> None:
    """Nodes of one shape that are created in bulk equal nodes created one by one.

    There are just enough of each shape for a bulk statement; some exist already, some in
    another state.
    """
    shapes: list[dict[str, Any]] = [
        {"recordData": {"a": "1", "b": None}},
        {"visitId": None, "recordData": {"a": None, "b": 2.5, "match": [1, 2]}},
        {"visitId": None, "subjectId": 0, "siteId": None, "parentRecordId": 1},
        {"parentRecordId": 99_999, "recordData": {"a` = 1 REMOVE n:Record //": "x"}},
        {"recordData": {"a\\u0060 = 1 //": "x", "é b": "y"}},
    ]
    events = [
        upsert(row(study, 1000 * place + number + 1, **shape), 5)
        for place, shape in enumerate(shapes)
        for number in range(bulk_create._ALIKE_MIN)
    ]
    newer = upsert(row(study, 1, visitId=8), 9)
    apply(graph, newer, upsert(row(study, 1003), 2), events[-1])
    changes = [node_change(event) for event in events]
    for _ in range(2):
        graph.writer.write(changes, absent={change.identity for change in changes})
    assert_equal(expected(newer, *events[1:]), graph.state())


@pytest.mark.parametrize("count", [1, 30])
def test_an_update_of_many_nodes_of_one_shape_leaves_nothing_else_on_them(
    graph: Graph, study: str, count: int
) -> None:
    """An update removes all other properties and relationships, but not those of users.

    The nodes had more properties, or fewer; they were stubs, deleted, moved or newer.
    """
    before: list[RecordEvent] = []
    after: list[RecordEvent] = []
    newest: list[RecordEvent] = []
    for number in range(0, 8 * count, 8):
        more = {"a": 1, "old": "text", "b": 2.5, "c": ["x"]}
        older = [
            upsert(row(study, number + 1, recordData=more, lock=True), 1),
            upsert(row(study, number + 2, recordData={}), 1),
            delete(number + 3, 1, study_key=study),
            upsert(row(study, number + 4, visitId=9), 1),
            upsert(row(study, number + 5, parentRecordId=number + 6), 1),
            upsert(row(study, number + 7, recordData=more), 9),
            upsert(row(study, number + 8, recordData=more), 1),
        ]
        newer = [
            upsert(row(study, number + each, recordData={"a": None, "b": 3, "d": "y"}), 5)
            for each in range(1, 9)
        ]
        before += older
        after += newer
        newest += [*newer[:6], older[5], newer[7]]
    assert (len(after) >= cypher._ALIKE_MIN) is (count > 1)
    graph.writer.write([node_change(event) for event in before])
    for number in range(1, 8 * count, 8):
        graph.set_property(number, "x_note", "kept")
        graph.set_property(number, "unknown", "removed")
    graph.writer.write([node_change(event) for event in after])
    wanted = expected(*newest)
    for number in range(1, 8 * count, 8):
        wanted.nodes[NodeKey("Record", (study, number))]["x_note"] = "kept"
    assert_equal(wanted, graph.state())


def test_dates_and_datetimes_are_written_as_such_by_every_statement(
    graph: Graph, study: str
) -> None:
    """Created in bulk, one by one or merged, dates are dates; other values of the same property stay.

    In bulk they travel as texts, beside partial dates, numbers and lists of the same property.
    """
    days = ["2024-02-29", "2024-UN-UN", "", None, 20_240_229, ["2024-02-29"], "0001-01-01"]
    times = [
        "2024-02-29 10:11",
        "2024-02-29T10:11:12",
        "10:11",
        "9999-12-31 23:59:59",
        True,
        1.5,
        {},
    ]
    types = {"day": "date", "both": "date", "at": "datetime", "count": "number"}
    events = []
    for number in range(3 * bulk_create._ALIKE_MIN + cypher._ALIKE_MIN):
        day, at = days[number % 7], times[number % 7]
        variables = {"day": day, "text": "2024-02-29", "both": "2024-03-01", "at": at, "count": "7"}
        event = upsert(row(study, number + 1, recordData=variables), 5)
        event.types = types | ({"both": "datetime"} if number % 2 else {})
        events.append(event)
    changes = [node_change(event) for event in events]
    merged, created = changes[: cypher._ALIKE_MIN], changes[cypher._ALIKE_MIN :]
    bulk, single, few = created[:-70], created[-70:-60], created[-60:]
    for part in (bulk, single):
        graph.writer.write(part, absent={change.identity for change in part})
    for part in (merged, few):
        graph.writer.write(part)
    found = graph.state()
    for change in changes:
        node = found.nodes[NodeKey("Record", (study, change.identity.id))]
        for name in ("day", "text", "both", "at", "count"):
            wanted = change.properties.get(name)
            assert same(node.get(name), wanted), (name, node.get(name), wanted)
    kinds = {type(node.get("day")).__name__ for node in found.nodes.values()}
    assert kinds >= {"date", "str", "int", "list", "NoneType"}


@pytest.mark.parametrize("name", ["a`b", "a b", "a-b", "1a", "é", "a\\u0060", "a\n", "$rows", ""])
def test_a_name_that_is_no_plain_identifier_never_gets_into_a_statement(name: str) -> None:
    """Only names that are plain identifiers become part of a statement's text."""
    for names, is_in in ((("SYSBP", "_x1"), True), (("SYSBP", name), False)):
        shape = shapes.Shape("record", names, ("visit", None))
        assert shapes._has_plain_names(shape) is is_in


def test_any_order_and_repetition_gives_the_same_graph(graph: Graph, study: str) -> None:
    """Events in any order, and repeated, give the same graph."""
    rng = random.Random(7)
    events = []
    for version in range(1, 60):
        number = rng.randint(1, 8)
        if rng.random() < 0.2:
            events.append(delete(number, version, study_key=study))
        else:
            visit, parent = rng.choice([None, 5, 6]), rng.choice([0, 1, 2])
            data = {"v": version}
            events.append(
                upsert(
                    row(study, number, visitId=visit, parentRecordId=parent, recordData=data),
                    version,
                )
            )
    events += [
        upsert({"studyKey": study, "visitId": each, "subjectId": 11}, 1, "visit") for each in (5, 6)
    ]
    wanted = expected(*events)
    shuffled = events * 2
    rng.shuffle(shuffled)
    for start in range(0, len(shuffled), 7):
        batch = {event.identity: event for event in shuffled[start : start + 7]}
        apply(graph, *batch.values())
    assert_equal(wanted, graph.state())


@pytest.mark.servers
def test_a_stale_writer_that_waits_for_a_newer_ones_lock_does_not_win(
    database: Neo4jDatabase, neo4j_settings: Neo4jSettings, study: str
) -> None:
    """A stale write that waits for a newer write's lock changes nothing.

    Version 9 is written but not committed when version 3 arrives and blocks.
    """
    apply(RealGraph(study, database), upsert(row(study), 1))
    newer = cypher.statements([node_change(upsert(row(study, recordData={"a": "new"}), 9))])
    stale = node_change(upsert(row(study, recordData={"a": "stale"}), 3))
    with database._session("WRITE") as session, session.begin_transaction() as held:
        for statement in newer:
            held.run(statement.cypher, batch={"rows": statement.rows}).consume()
        with Neo4jDatabase(neo4j_settings) as other:
            writer = Neo4jGraphWriter(other, {"group": study})
            waiting = threading.Thread(target=writer.write, args=([stale],))
            waiting.start()
            assert _until(
                lambda: (
                    _blocked(database)
                    == [[{"app": "imednet-connector", "group": study, "changes": 1}]]
                )
            )
            held.commit()
            waiting.join(30)
    found = read_graph(database, study).nodes[NodeKey("Record", (study, 1))]
    assert (found["a"], found["_version"]) == ("new", 9)


def _blocked(database: Neo4jDatabase) -> list[list[Any]]:
    """Return the metadata of blocked transactions, as an administrator sees it."""
    return database.read(
        "SHOW TRANSACTIONS YIELD status, metaData WHERE status STARTS WITH 'Blocked'"
        " RETURN metaData"
    )


def _until(holds: Callable[[], bool], seconds: float = 100) -> bool:
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.servers
def test_values_that_the_server_refuses_are_invalid_events(
    database: Neo4jDatabase, study: str
) -> None:
    """A value that the server refuses raises InvalidEventError, whose text quotes no data."""
    change = node_change(upsert(row(study)))
    for value in ({"a": 1}, [1, "a"], [None]):
        change.values[0] = value  # type: ignore[assignment]
        with pytest.raises(InvalidEventError) as error:
            Neo4jGraphWriter(database, {}).write([change])
        assert "003-11" not in str(error.value)


def span(study: str, start: int, end: int) -> Span:
    return Span(f"topic/{study}/0", start, end)


def test_a_checkpoint_moves_with_the_write_that_it_stands_for(graph: Graph, study: str) -> None:
    """An advancing write moves its checkpoint in the same transaction."""
    key = span(study, 0, 0).checkpoint
    assert graph.writer.checkpoints([key]) == {}
    graph.writer.set_checkpoint(key, 5)
    event = upsert(row(study))
    graph.writer.write([node_change(event)], (), span(study, 5, 9), advance=True)
    assert graph.writer.checkpoints([key, "another"]) == {key: 9}
    assert_equal(expected(event), graph.state())


@pytest.mark.parametrize("ways", ["create", "create alike", "merge", "merge alike", "delete"])
def test_nothing_is_written_into_a_graph_that_lacks_what_came_before(
    graph: Graph, study: str, ways: str
) -> None:
    """Nothing is written while the checkpoint is missing or lower than the batch's start.

    The graph was emptied, restored or swapped, and its checkpoint with its data.
    """
    count = 2 * cypher._ALIKE_MIN if "alike" in ways else 1
    events = [upsert(row(study, each + 1)) for each in range(count)]
    if ways == "delete":
        events = [delete(1, 5, study_key=study)]
    changes = [node_change(each) for each in events]
    absent = {each.identity for each in events} if "create" in ways else set()
    before = graph.state()
    with pytest.raises(StaleGraphError):
        graph.writer.write(changes, absent, span(study, 5, 9), advance=True)
    with pytest.raises(StaleGraphError):  # a later transaction would advance it
        graph.writer.write(changes, absent, span(study, 5, 9))
    graph.writer.set_checkpoint(span(study, 0, 0).checkpoint, 4)
    with pytest.raises(StaleGraphError):
        graph.writer.write(changes, absent, span(study, 5, 9), advance=True)
    with pytest.raises(StaleGraphError):
        graph.writer.advance(span(study, 5, 9))
    assert graph.state() == before
    assert graph.writer.checkpoints([span(study, 0, 0).checkpoint]) == {f"topic/{study}/0": 4}


def test_a_checkpoint_never_goes_back_and_hides_nothing(graph: Graph, study: str) -> None:
    """A checkpoint never moves back, and it filters nothing: redelivered events are applied."""
    key = span(study, 0, 0).checkpoint
    graph.writer.set_checkpoint(key, 100)
    graph.writer.set_checkpoint(key, 50)
    event = upsert(row(study))
    graph.writer.write([node_change(event)], (), span(study, 5, 9), advance=True)
    graph.writer.advance(span(study, 9, 20))
    assert graph.writer.checkpoints([key]) == {key: 100}
    assert_equal(expected(event), graph.state())


@pytest.mark.servers
def test_rows_never_reach_the_drivers_log_and_do_not_outlive_the_call(
    database: Neo4jDatabase, study: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows appear in no log of the driver and are not kept alive after the call."""
    writer = Neo4jGraphWriter(database, {})
    event = upsert(row(study, recordData={"V": "canary-content"}))
    gc.disable()
    try:
        with caplog.at_level(logging.DEBUG, logger="neo4j"):
            writer.probe({event.identity: 1})
            writer.write([node_change(event)])
        alive = [each for each in gc.get_objects() if isinstance(each, Rows) and each]
    finally:
        gc.enable()
    assert "UNWIND $batch.rows" in caplog.text
    assert "canary-content" not in caplog.text
    # A list that is a parameter itself would have each statement planned for each size of it.
    assert "'batch': {'rows': <1 rows>}" in caplog.text
    assert alive == []
