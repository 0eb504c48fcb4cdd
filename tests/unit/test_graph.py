from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neo4j._codec.packstream.v1 import PackableBuffer, Packer

from connector.errors import InvalidEventError
from connector.model.events import Identity
from connector.model.graph import NodeChange, node_change
from connector.model.properties import LINKS
from tests.builders import delete, record_row, upsert


def properties(**changed: Any) -> dict[str, Any]:
    return dict(node_change(upsert(record_row(**changed))).properties)


def test_variables_become_properties_under_their_own_names() -> None:
    """Variables become properties under their own names."""
    assert properties(recordData={"SYSBP": "120", "AETERM": "x"})["SYSBP"] == "120"


@pytest.mark.parametrize(
    "name", ["record_id", "study_key", "_version", "_x", "x_note", "var_a", "deleted"]
)
def test_a_variable_never_overwrites_the_records_own_or_a_reserved_property(name: str) -> None:
    """A variable never overwrites one of the record's own or reserved properties."""
    made = properties(recordData={name: "HIJACK"})
    assert made[f"var_{name}"] == "HIJACK"
    assert made["record_id"] == 1
    assert made["study_key"] == "S1"
    assert made.get(name) != "HIJACK"


def test_no_two_variables_get_one_name() -> None:
    """No two variables get the same property name."""
    made = properties(recordData={"deleted": 1, "var_deleted": 2, "var_var_deleted": 3})
    assert (made["var_deleted"], made["var_var_deleted"], made["var_var_var_deleted"]) == (1, 2, 3)


def test_an_unknown_field_never_takes_a_documented_ones_property() -> None:
    """An unknown field never takes the property of a documented one."""
    made = properties(visit_id=7, recordData={"visit_id": 8, "visitID": 9})
    assert made["visit_id"] == 5
    assert (made["var_visit_id"], made["var_var_visit_id"]) == (7, 8)
    made = properties(newField="API", recordData={"new_field": "form", "newField": "other"})
    assert (made["new_field"], made["var_new_field"], made["newField"]) == ("API", "form", "other")


@pytest.mark.parametrize(
    "changed",
    [
        {"lockState": "a", "LockState": "b"}, {"lock_state": "b", "lockState": "a"},
        {"siteID": "a", "recordData": {"site_id": "b"}},
        {"varFoo": "a", "recordData": {"var_foo": "b"}},
        {"_version": "a", "recordData": {"_version": "b"}},
    ],
)  # fmt: skip
def test_two_values_never_share_a_property(changed: dict[str, Any]) -> None:
    """Values whose names become the same are all kept, under names that the order cannot change."""
    values = [each for key, each in changed.items() if key != "recordData"]
    values += changed.get("recordData", {}).values()
    made = properties(**changed)
    assert [value for value in values if value not in made.values()] == []
    assert properties(**dict(reversed(changed.items()))) == made


def test_nested_values_are_stored_as_json_text_and_plain_lists_as_lists() -> None:
    """Nested values are stored as JSON text, and plain lists as lists."""
    made = properties(
        recordData={"a": {"z": 1, "b": None}, "l": [1, 2], "m": [1, "x"], "n": [None]}
    )
    assert made["a"] == '{"b":null,"z":1}'
    assert made["l"] == [1, 2]
    assert made["m"] == '[1,"x"]'
    assert made["n"] == "[null]"


def test_null_values_are_absent() -> None:
    """Null values make no property."""
    assert "visit_id" not in properties(visitId=None)


@pytest.mark.parametrize(
    "changed",
    [{"recordData": {"": 1}}, {"recordData": {"a\0": 1}}, {"recordData": {"a": 2**63}},
     {"recordData": {"a": [2**63]}}, {"recordData": {"a": float("inf")}}, {"recordData": [1]},
     {"visitId": "5"}, {"visitId": -1}, {"visitId": True}, {"visitId": 1.0},
     {"recordData": {"a": {"b": 2**70}}}, {"visitId": 0.0}, {"visitId": False}, {"visitId": "0"},
     {"visitId": [0]}, {"visitId": {"id": 5}}, {"recordData": "x"}, {"recordData": 0},
     {"recordData": False}, {"recordData": {"\ud800": 1}}, {"recordData": {"n" * 65_536: 1}},
     {"recordData": {"é" * 32_768: 1}}, {"x_" + "n" * 65_532: 1}, {"newField\ud800": 1}],
)  # fmt: skip
def test_what_neo4j_would_refuse_is_an_invalid_event(changed: dict[str, Any]) -> None:
    """A name, value or reference that Neo4j would refuse makes the event invalid."""
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
    """A record hangs on its visit, else its subject, else its site, else its study."""
    links = node_change(upsert(record_row(**changed))).links
    assert links[0].reference.relationship == "HAS_RECORD"
    assert links[0].target == parent


def test_null_and_zero_never_become_a_node() -> None:
    """A reference of null or 0 never creates a node."""
    for parent in (None, 0):
        assert node_change(upsert(record_row(parentRecordId=parent))).links[1].target is None


def test_a_delete_removes_data_and_relationships() -> None:
    """A delete removes data and relationships and keeps key, version and mark."""
    change = node_change(delete(1, 9))
    assert change.is_delete
    assert change.properties == {
        "study_key": "S1",
        "record_id": 1,
        "_version": 9,
        "_model": 1,
        "deleted": True,
    }
    assert [link.target for link in change.links] == [None, None]
    assert change.value(LINKS) is None


BLANK: list[Any] = [None, 0, "", " ", "\t\n", [], {}]


@pytest.mark.parametrize("blank", BLANK)
def test_a_blank_reference_means_none(blank: Any) -> None:
    """A blank reference means no reference."""
    change = node_change(upsert(record_row(visitId=blank, parentRecordId=blank)))
    assert [link.target for link in change.links] == [Identity("S1", "subject", 11), None]
    change = node_change(upsert(record_row(visitId=blank, subjectId=blank, siteId=blank)))
    assert change.links[0].target == Identity("S1", "study", "S1")


@pytest.mark.parametrize("blank", [None, "", " ", [], {}])
def test_blank_record_data_means_no_variables(blank: Any) -> None:
    """Blank ``recordData`` means no variables."""
    made = properties(recordData=blank)
    assert {**made, "_hash": ""} == {**properties(recordData={}), "_hash": ""}


NOT_FOR_THE_DRIVER = [
    Decimal(1), b"x", bytearray(b"x"), (1,), {1}, frozenset({1}), Ellipsis, int, 1j, range(3),
    date(2024, 11, 4), datetime(2024, 11, 4, tzinfo=UTC), 2**63, -(2**63) - 1, float("nan"),
    float("inf"), "\ud800", "a\udfffb", "\ud83d\ude00",
]  # fmt: skip


def test_a_value_that_is_nested_too_deeply_to_be_written_is_an_invalid_event() -> None:
    """A value nested too deeply to be serialized makes the event invalid."""
    deep: Any = {}
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidEventError):
        node_change(replace(upsert(record_row()), data=record_row(recordData={"a": deep})))


@pytest.mark.parametrize("value", NOT_FOR_THE_DRIVER, ids=repr)
@pytest.mark.parametrize(
    "place",
    [lambda value: {"recordData": {"a": value}}, lambda value: {"recordData": {"a": value, "b": 1}},
     lambda value: {"recordData": {"a": [value]}}, lambda value: {"recordData": {"a": [value, value]}},
     lambda value: {"recordData": {"a": {"b": value}}}, lambda value: {"formKey": value},
     lambda value: {"recordData": {"a": ["text", value]}}, lambda value: {"newField": value}],
)  # fmt: skip
def test_what_the_driver_cannot_send_is_an_invalid_event_wherever_it_stands(
    value: Any, place: Any
) -> None:
    """A value that the driver cannot send makes the event invalid, wherever it is."""
    with pytest.raises(InvalidEventError):
        node_change(replace(upsert(record_row()), data=record_row() | place(value)))


def test_a_key_that_the_driver_cannot_send_is_an_invalid_event() -> None:
    """A key or version that the driver cannot send makes the event invalid."""
    for event in (upsert(record_row()), delete(1, 9)):
        with pytest.raises(InvalidEventError):
            node_change(replace(event, study_key="S\ud800"))
        for change in ({"id": 2**63}, {"version": 2**63}, {"version": Decimal(1)}):
            with pytest.raises(InvalidEventError):
                node_change(replace(event, **change))


def test_the_widest_values_that_neo4j_has_are_no_invalid_event() -> None:
    """The most extreme values that Neo4j supports are valid."""
    widest = {"a": 2**63 - 1, "b": -(2**63), "c": [2**63 - 1, -(2**63)], "d": 1.7e308, "e": "\0😀"}
    assert properties(recordData=widest | {"n" * 65_535: "x"}).items() >= widest.items()


def test_an_enumeration_is_stored_as_the_text_or_number_that_it_is() -> None:
    """A member of an enumeration is stored as its plain text or number."""
    text, number = StrEnum("text", {"A": "a"}), IntEnum("number", {"B": 7})
    made = properties(recordData={"t": text.A, "n": number.B, "none": None})  # type: ignore[attr-defined]
    assert [(made[name], type(made[name])) for name in "tn"] == [("a", str), (7, int)]


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=6)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | ANY_TEXT
    | st.binary(max_size=3) | st.decimals() | st.dates() | st.uuids() | st.complex_numbers()
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(ANY_TEXT, inner, max_size=3)
        | st.sets(st.integers(), max_size=2)
    ),
    max_leaves=5,
)


def packed(change: NodeChange) -> None:
    """Pack a change as the driver does, in both forms in which it is sent."""
    for parameter in (change.properties, change.values, change.version):
        Packer(PackableBuffer()).pack(parameter)  # type: ignore[no-untyped-call]


@settings(max_examples=1000, deadline=None)
@given(
    variables=st.dictionaries(ANY_TEXT, VALUES, max_size=4) | VALUES,
    fields=st.dictionaries(st.sampled_from(["visitId", "formKey", "siteId"]) | ANY_TEXT, VALUES),
)
def test_what_is_no_invalid_event_can_be_packed_by_the_driver(
    variables: Any, fields: dict[str, Any]
) -> None:
    """The driver can pack every change of a valid event."""
    event = replace(upsert(record_row()), data=record_row() | fields | {"recordData": variables})
    try:
        change = node_change(event)
    except InvalidEventError:
        return
    packed(change)
    for value in change.values:
        kinds = set(map(type, value)) if isinstance(value, list) else {type(value)}
        assert len(kinds) <= 1
        assert kinds <= {str, bool, int, float, type(None)}


def test_a_reference_that_cannot_be_compared_is_refused() -> None:
    """A signalling NaN, which raises when it is compared, is no id either."""
    event = upsert(record_row())
    assert event.data is not None
    event.data["visitId"] = Decimal("sNaN")
    with pytest.raises(InvalidEventError):
        node_change(event)
