from dataclasses import replace
from typing import Any

import pytest

from connector.errors import InvalidEventError
from connector.events import Identity
from connector.graph import node_change
from tests.builders import delete, record_row, upsert


def properties(**changed: Any) -> dict[str, Any]:
    return dict(node_change(upsert(record_row(**changed))).properties)


def test_variables_become_properties_under_their_own_names() -> None:
    assert properties(recordData={"SYSBP": "120", "AETERM": "x"})["SYSBP"] == "120"


@pytest.mark.parametrize(
    "name", ["record_id", "study_key", "_version", "_x", "x_note", "var_a", "deleted"]
)
def test_a_variable_never_overwrites_the_records_own_or_a_reserved_property(name: str) -> None:
    made = properties(recordData={name: "HIJACK"})
    assert made[f"var_{name}"] == "HIJACK"
    assert made["record_id"] == 1
    assert made["study_key"] == "S1"
    assert made.get(name) != "HIJACK"


def test_no_two_variables_get_one_name() -> None:
    made = properties(recordData={"deleted": 1, "var_deleted": 2, "var_var_deleted": 3})
    assert (made["var_deleted"], made["var_var_deleted"], made["var_var_var_deleted"]) == (1, 2, 3)


def test_an_unknown_field_never_takes_a_documented_ones_property() -> None:
    made = properties(visit_id=7, recordData={"visit_id": 8, "visitID": 9})
    assert made["visit_id"] == 5
    assert made["var_visit_id"] == 7
    made = properties(newField="API", recordData={"new_field": "form", "newField": "other"})
    assert (made["new_field"], made["var_new_field"], made["newField"]) == ("API", "form", "other")


def test_nested_values_are_stored_as_json_text_and_plain_lists_as_lists() -> None:
    made = properties(
        recordData={"a": {"z": 1, "b": None}, "l": [1, 2], "m": [1, "x"], "n": [None]}
    )
    assert made["a"] == '{"b":null,"z":1}'
    assert made["l"] == [1, 2]
    assert made["m"] == '[1,"x"]'
    assert made["n"] == "[null]"


def test_null_values_are_absent() -> None:
    assert "visit_id" not in properties(visitId=None)


@pytest.mark.parametrize(
    "changed",
    [{"recordData": {"": 1}}, {"recordData": {"a\0": 1}}, {"recordData": {"a": 2**63}},
     {"recordData": {"a": [2**63]}}, {"recordData": {"a": float("inf")}}, {"recordData": [1]},
     {"visitId": "5"}, {"visitId": -1}, {"visitId": True}, {"visitId": 1.0},
     {"recordData": {"a": {"b": 2**70}}}],
)  # fmt: skip
def test_what_neo4j_would_refuse_is_an_invalid_event(changed: dict[str, Any]) -> None:
    row = record_row() | changed
    event = replace(upsert(record_row()), data=row)
    with pytest.raises(InvalidEventError):
        node_change(event)


@pytest.mark.parametrize(
    ("changed", "parent"),
    [
        ({}, Identity("S1", "visit", 5)),
        ({"visitId": None}, Identity("S1", "subject", 11)),
        ({"visitId": 0}, Identity("S1", "subject", 11)),
        ({"visitId": None, "subjectId": 0}, Identity("S1", "site", 3)),
        ({"visitId": None, "subjectId": None, "siteId": None}, Identity("S1", "study", "S1")),
    ],
)
def test_a_record_hangs_on_its_visit_else_subject_else_site_else_study(
    changed: dict[str, Any], parent: Identity
) -> None:
    links = node_change(upsert(record_row(**changed))).links
    assert links[0].reference.relationship == "HAS_RECORD"
    assert links[0].target == parent


def test_null_and_zero_never_become_a_node() -> None:
    for parent in (None, 0):
        assert node_change(upsert(record_row(parentRecordId=parent))).links[1].target is None


def test_a_delete_takes_data_and_relationships() -> None:
    change = node_change(delete(1, 9))
    assert change.is_delete
    assert change.properties == {"study_key": "S1", "record_id": 1, "_version": 9, "deleted": True}
    assert [link.target for link in change.links] == [None, None]
