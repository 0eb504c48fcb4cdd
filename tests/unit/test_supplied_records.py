"""Records handed over by a caller: versions, precedence and subjects."""

from typing import Any

import pytest

from connector.export.rows import changes_of, without_foreign_visit
from connector.export.supplied_records import (
    decide,
    subject_keys_without_id,
    supplied_version,
    with_subject_ids,
)
from connector.model.entities import ENTITIES
from connector.model.events import Identity
from connector.model.graph import NodeChange
from connector.model.properties import LINKS
from connector.neo4j.export_queries import NodeState
from tests.builders import record_row

RECORD = ENTITIES["record"]
AT = 1_730_736_199_000  # 2024-11-04 16:03:19
WHO = Identity("S1", "record", 1)


def change(at: int = AT, **changed: Any) -> NodeChange:
    return changes_of(RECORD, [record_row(1, **changed)], "S1", lambda _: at).newest[WHO]


def state(version: int, content_hash: str | None = "other", links: object = None) -> Any:
    return {WHO: NodeState(version, content_hash, str(links or change().value(LINKS)), 1)}


@pytest.mark.parametrize(
    ("date", "version"),
    [
        ("1969-12-31 23:59:59", 1), ("1900-01-01 00:00:00", 1), ("1970-01-01 00:00:00", 1),
        ("2024-11-04 16:03:19", AT - 1000), ("2999-01-01 00:00:00", AT + 5), (None, AT + 5),
    ],
)  # fmt: skip
def test_a_handed_over_records_version_is_its_date_but_above_any_stub(
    date: str | None, version: int
) -> None:
    """A handed-over record's version is a second before its date; above any stub; not in future."""
    assert supplied_version({"dateModified": date}, AT + 5) == version


@pytest.mark.parametrize(
    ("in_graph", "written_with"),
    [(-1, AT), (AT - 1, AT), (AT, AT + 1), (AT + 1, AT + 2), (AT + 999, AT + 1000)],
)
def test_new_content_of_the_same_date_gets_the_version_after_the_graphs(
    in_graph: int, written_with: int
) -> None:
    """New content of the same date gets the version after the graph's."""
    decision = decide([change()], state(in_graph), are_dated=True)
    (written,) = decision.changes
    assert (written.version, written.properties["_version"]) == (written_with, written_with)
    assert (decision.absent, decision.left_alone) == (set(), set())


def test_a_stream_that_read_the_record_in_the_second_of_its_change_is_left_alone() -> None:
    """A stream's state is kept if it was read in the second of the record's date.

    It has all fields as the API had them, which an SDK's record has not.
    """
    row = record_row(1, dateModified="2024-11-04 16:03:19")
    handed_over = change(supplied_version(row, AT * 2))
    decision = decide([handed_over], state(AT), are_dated=True)
    assert (decision.changes, decision.left_alone) == ([], {WHO})


def test_an_absent_record_is_written_with_its_own_version() -> None:
    """An absent record is written with its own version."""
    decision = decide([change()], {}, are_dated=True)
    assert (decision.changes, decision.absent) == ([change()], {WHO})


@pytest.mark.parametrize(("in_graph", "are_dated"), [(AT + 1000, True), (AT, False)])
def test_a_really_newer_state_of_the_graph_is_left_alone(in_graph: int, *, are_dated: bool) -> None:
    """A state of the graph that is really newer is left alone."""
    decision = decide([change()], state(in_graph), are_dated=are_dated)
    assert (decision.changes, decision.left_alone) == ([], {WHO})


@pytest.mark.parametrize("in_graph", [AT - 5000, AT, AT + 5000])
def test_a_record_that_is_there_with_the_same_content_is_neither_written_nor_left_alone(
    in_graph: int,
) -> None:
    """A record with unchanged content is neither written nor reported as left alone."""
    there = state(in_graph, change().content_hash)
    assert decide([change()], there, are_dated=True) == ([], set(), set())


def test_a_redirected_link_is_corrected_although_the_content_is_the_same() -> None:
    """A redirected link is corrected although the content is the same."""
    redirected = without_foreign_visit(change(), {5: 12})
    there = state(AT, change().content_hash, redirected.value(LINKS))
    (written,) = decide([change()], there, are_dated=True).changes
    assert written.version == AT + 1
    assert decide([redirected], there, are_dated=True).changes == []


def test_a_record_whose_visit_is_another_subjects_says_that_its_link_was_redirected() -> None:
    """A record whose visit belongs to another subject is marked as redirected."""
    redirected = without_foreign_visit(change(), {5: 12})
    assert redirected.links[0].target == Identity("S1", "subject", 11)
    assert redirected.value(LINKS) == "subject 11|"
    assert without_foreign_visit(change(), {5: 11}) == change()


def test_of_two_states_in_one_batch_the_newer_date_wins_wherever_it_stands() -> None:
    """Of a record's states in one batch, the newest date wins, whatever their order."""
    dates = ["2024-11-04 16:03:19", "2024-11-04 16:03:20", "2024-11-04 16:03:18"]
    rows = [record_row(1, dateModified=date, recordStatus=date) for date in dates]
    found = changes_of(RECORD, rows, "S1", lambda row: supplied_version(row, AT * 2))
    assert found.newest[WHO].value("record_status") == dates[1]
    assert (found.counts[WHO], found.superseded) == (2, 1)


def by_key(key: str, **changed: Any) -> dict[str, Any]:
    row = record_row(1, subjectKey=key, **changed)
    del row["subjectId"]
    return row


def test_a_subject_key_becomes_the_id_of_the_one_subject_that_has_it() -> None:
    """A subject key becomes the id of the only subject that has it."""
    rows = [
        by_key("A"), by_key("B"), by_key("none"), by_key("none"), by_key("two"),
        record_row(6, subjectId=2, subjectKey="B"), record_row(7, subjectId=None, subjectKey=""),
        record_row(8, subjectId=0, subjectKey="A"),
    ]  # fmt: skip
    assert subject_keys_without_id(rows) == {"A", "B", "none", "two"}
    resolved = with_subject_ids(rows, {"A": [1], "two": [3, 4]})
    assert [row.get("subjectId") for row in resolved.rows] == [1, 2, None, None, None, 2, None, 1]
    assert (resolved.unresolved_rows, resolved.unresolved_keys) == (3, 2)
    assert "subjectId" not in rows[0]


def test_a_subject_key_that_is_no_text_is_not_looked_up() -> None:
    """A subject key that is not valid text is not looked up."""
    assert subject_keys_without_id([by_key("\ud800"), record_row(2, subjectId=None)]) == {"003-11"}
    assert subject_keys_without_id([{"subjectKey": 7}, {"subjectKey": ["A"]}]) == set()
