"""Texts of form variables become typed values only if they stand for exactly one."""

import datetime as dt
import random
import weakref
from typing import Any

import pytest

from connector.errors import InvalidEventError
from connector.export.rows import changes_of
from connector.model import typed_values
from connector.model.entities import ENTITIES
from connector.model.events import KnownState, Origin
from connector.model.graph import node_change
from connector.model.serde import content_hash, encode
from connector.model.typed_values import Definition, Definitions, definition_of, typed_value
from connector.ops import expected_graph
from connector.source.changes import PageContext, deletions, detect
from connector.store.known_store import SqliteKnownStore
from tests.builders import decode, record_row

RECORD, VARIABLE = ENTITIES["record"], ENTITIES["variable"]
FORM = 77
_ALPHABETS = {
    "number": "0123456789.-+e_ ",
    "boolean": "truefalsTRUE1",
    "date": "0123456789-UN",
    "datetime": "0123456789-T: ZU",
}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("number", "120", 120),
        ("number", "-7", -7),
        ("number", "0", 0),
        ("number", "9223372036854775807", 2**63 - 1),
        ("number", "12.50", 12.5),
        ("number", "-0.1", -0.1),
        ("number", "12345678901234.5", 12345678901234.5),
        ("boolean", "true", True),
        ("boolean", "False", False),
        ("date", "2024-02-29", dt.date(2024, 2, 29)),
        ("datetime", "2024-02-29 10:11", dt.datetime(2024, 2, 29, 10, 11)),  # noqa: DTZ001 - has no zone
        ("datetime", "2024-02-29T10:11:12", dt.datetime(2024, 2, 29, 10, 11, 12)),  # noqa: DTZ001
    ],
)
def test_an_exact_text_becomes_its_value(kind: str, text: str, value: object) -> None:
    """A text that stands for exactly one value becomes that value."""
    found = typed_value(kind, text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(("number", each) for each in ("", " ", "007", "<5", "5 ", "1e5", "1_000", "+1", "-0")),
        *(("number", each) for each in ("9223372036854775808", "9" * 400, "NaN", "0.1234567890123456")),
        *(("number", each) for each in ("12,5", ".5", "5.", "\u0663", "0x1f", "1\n")),
        *(("boolean", each) for each in ("1", "Y", "yes", "truE ", "")),
        *(("date", each) for each in ("2024-UN-UN", "2024-02-30", "2024-2-9", "20240209", "0000-01-01")),
        *(("date", each) for each in ("2024", "2024-02-29 10:11", "\u0662024-01-01")),
        *(("datetime", each) for each in ("2024-02-29", "2024-02-29 24:00", "2024-02-29 10:11:12Z")),
        *((kind, "120") for kind in ("text", "memo", "", "number ", "point")),
    ],
)  # fmt: skip
def test_any_other_text_stays_text(kind: str, text: str) -> None:
    """Partial dates, comparisons, leading zeros, too many digits: nothing is guessed."""
    assert typed_value(kind, text) is None


def test_long_texts_are_not_kept_in_the_caches() -> None:
    """A text longer than any number or date is not parsed, so no cache holds on to it."""
    before = typed_values._number.cache_info().currsize
    row = {"formId": 7, "recordData": {"AGE": "1" * 20_000}}
    assert Definitions([Definition(7, "age", "number")]).types_of(row).untyped == 1
    assert typed_value("number", "2" * 20_000) is None
    assert typed_values._number.cache_info().currsize == before
    assert typed_value("number", str(-(2**63))) == -(2**63)


def test_two_implementations_agree_on_random_texts() -> None:
    """The comparison's own implementation finds the same values in random texts."""
    rng, typed = random.Random(1), 0
    for kind, letters in _ALPHABETS.items():
        for _ in range(20_000):
            text = "".join(rng.choice(letters) for _ in range(rng.randint(0, 9)))
            found = typed_value(kind, text)
            expected = expected_graph._typed(text, kind)
            assert expected == (text if found is None else found), (kind, text)
            assert found is None or type(expected) is type(found), (kind, text)
            typed += found is not None
    assert typed > 2_000


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("datetime", "0999-01-01 00:00"), ("date", "0999-01-01"), ("number", str(2**63)),
        ("number", str(-(2**63))), ("datetime", "2024-01-01T00:00:00"),
    ],
)  # fmt: skip
def test_two_implementations_agree_at_the_limits(kind: str, text: str) -> None:
    """Early years and the limits of 64 bits."""
    found = typed_value(kind, text)
    assert expected_graph._typed(text, kind) == (text if found is None else found)


@pytest.mark.parametrize("kind", ["INT", " Decimal ", "CHECKBOX", "BOOL", "RADIO", None, 5])
def test_two_implementations_agree_on_words_for_types(kind: Any) -> None:
    """Synonyms of the SDK, other kinds of variables, and what is not a word."""
    row = {"formId": FORM, "variableName": "X", "variableType": kind}
    found = definition_of(VARIABLE, row)
    expected = expected_graph.variable_types([row]).get((FORM, "x"), "")
    assert (found.type if found and found.type != "text" else "") == expected


def definition(name: str, kind: str, form: object = FORM) -> dict[str, Any]:
    return {"variableId": 1, "formId": form, "variableName": name, "variableType": kind}


def types_of(
    row: dict[str, Any], *definitions: dict[str, Any]
) -> tuple[dict[str, str] | None, int]:
    found = (definition_of(VARIABLE, each) for each in definitions)
    return Definitions(each for each in found if each is not None).types_of(row)


def row(**variables: object) -> dict[str, Any]:
    return record_row(1, formId=FORM, recordData=variables)


def test_definitions_apply_by_form_and_by_name_without_case() -> None:
    """A definition applies to its own form; names differ in case between the API's endpoints."""
    aegrade = definition("AEGRADE", "NUMBER")
    assert types_of(row(aegrade="3", note="3"), aegrade) == ({"aegrade": "number"}, 0)
    assert types_of(record_row(1, formId=78, recordData={"AEGRADE": "3"}), aegrade) == (None, 0)


def test_texts_that_do_not_fit_are_counted_blanks_are_not() -> None:
    """A text that does not fit its definition is counted; blank ones and other values are not."""
    definitions = [definition(name, "number") for name in "abcdef"]
    found = types_of(row(a="1", b="<5", c="", d=" ", e=3, f=None), *definitions)
    assert found == ({"a": "number"}, 1)


def test_a_name_with_two_types_stays_text() -> None:
    """If a form defines a name twice, with different types, neither is guessed."""
    twice = definition("X", "number"), definition("x", "Date")
    assert types_of(row(X="1"), *twice) == (None, 0)
    assert types_of(row(X="1"), twice[0], twice[0]) == ({"X": "number"}, 0)


@pytest.mark.parametrize(
    "malformed",
    [
        definition("X", "number", form="77"),
        definition("X", "number", form=[77]),
        {"variableName": "X"},
        {**definition("X", "number"), "variableName": 5},
        {**definition("X", "number"), "variableType": None},
    ],
)
def test_a_malformed_definition_types_nothing(malformed: dict[str, Any]) -> None:
    """A malformed definition is stored as a node, and types nothing."""
    assert types_of(row(X="1"), malformed) == (None, 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"formId": None},
        {"formId": [77]},
        {"recordData": None},
        {"recordData": []},
        {"recordData": "x"},
    ],
)
def test_a_malformed_record_has_no_types(changed: dict[str, Any]) -> None:
    """A record without a usable form or variables has no types."""
    assert types_of({**row(X="1"), **changed}, definition("X", "number")) == (None, 0)


def context(*definitions: Definition) -> PageContext:
    return PageContext("S1", 1_750_000_000_000, Origin.SNAPSHOT, Definitions(definitions))


def test_an_event_carries_the_types_and_the_graph_the_values() -> None:
    """Types travel with the event: encoded, decoded, and applied to the node's properties."""
    texts = row(AGE="42", SEX="F", SEEN="2024-05-03", PARTIAL="2024-UN-UN")
    defined = [Definition(FORM, name, kind) for name, kind in
               (("age", "number"), ("seen", "date"), ("partial", "date"), ("sex", "text"))]  # fmt: skip
    found = detect(RECORD, [texts], {}, context(*defined))
    ((event, _),) = found.events
    assert event.data == texts  # verbatim
    assert event.types == {"AGE": "number", "SEEN": "date"}
    assert found.untyped == 1
    assert decode(*encode(event), timestamp_ms=0, now_ms=event.version) == event
    properties = node_change(event).properties
    assert properties["AGE"] == 42
    assert properties["SEEN"] == dt.date(2024, 5, 3)
    assert (properties["SEX"], properties["PARTIAL"]) == ("F", "2024-UN-UN")


def test_an_export_types_values_as_the_stream_does() -> None:
    """An export with the same definitions writes the same values and the same hash."""
    defined = Definition(FORM, "age", "number")
    found = detect(RECORD, [row(AGE="42")], {}, context(defined))
    ((event, _),) = found.events
    exported = changes_of(
        RECORD, [row(AGE="42")], "S1", lambda _: event.version, Definitions([defined])
    )
    assert exported.newest[event.identity] == node_change(event)


@pytest.mark.parametrize("types", [{"AGE": "point"}, {"AGE": "date"}, {"OTHER": "number"}])
def test_types_of_a_foreign_producer_that_do_not_fit_leave_the_text(types: dict[str, str]) -> None:
    """Types that are unknown, do not fit or name no variable leave the text as it is."""
    ((event, _),) = detect(RECORD, [row(AGE="42")], {}, context()).events
    event.types = types
    assert node_change(event).properties["AGE"] == "42"


@pytest.mark.parametrize("types", ["number", {"AGE": 5}, ["AGE"]])
def test_malformed_types_are_not_an_event(types: object) -> None:
    """An event whose types are malformed is dead-lettered."""
    ((event, _),) = detect(RECORD, [row(AGE="42")], {}, context()).events
    event.types = types  # type: ignore[assignment]
    with pytest.raises(InvalidEventError):
        decode(*encode(event), timestamp_ms=0, now_ms=event.version)


def test_a_changed_definition_changes_the_hash_and_so_publishes_the_record_again() -> None:
    """The hash covers the types: the same row under another definition is a new state."""
    known: dict[Any, KnownState] = {}
    states = []
    for kind in ("number", "text", "text"):
        found = detect(RECORD, [row(AGE="42")], known, context(Definition(FORM, "age", kind)))
        known |= found.known
        states.append([event.types for event, _ in found.events])
    assert states == [[{"AGE": "number"}], [None], []]
    assert content_hash(row(AGE="42"), None) == content_hash(row(AGE="42"))


def test_a_definition_is_known_from_its_row_until_that_is_deleted() -> None:
    """New, changed and deleted definitions are noticed; any other edit of a variable is not one."""
    known: dict[Any, KnownState] = {}
    redefines = []
    for changed in ({}, {"label": "Age"}, {"variableType": "TEXT"}, {"variableType": None}, {}):
        rows = [{**definition("AGE", "NUMBER"), **changed}]
        found = detect(VARIABLE, rows, known, context())
        known |= found.known
        redefines.append(found.redefines)
    assert redefines == [True, False, True, True, True]
    assert deletions(VARIABLE, known, context()).redefines
    assert not deletions(RECORD, {1: KnownState(1, "aa", None)}, context()).redefines


def test_the_cache_keeps_definitions_and_forgets_deleted_ones() -> None:
    """The cache returns the definitions of live variables, of a rebuilt cache, too."""
    store = SqliteKnownStore(":memory:")
    age = Definition(FORM, "age", "number")
    found = detect(VARIABLE, [definition("AGE", "NUMBER")], {}, context())
    with store.update() as update:
        update.put("variable", found.known, 1)
    assert store.definitions() == [age]
    assert store.lookup("variable", [1])[1].definition == age
    with store.update() as update:
        update.put("variable", deletions(VARIABLE, found.known, context()).known, 2)
    assert store.definitions() == []


def test_definitions_are_freed_without_the_garbage_collector() -> None:
    """An export has new ones for each part, and its collector hardly ever runs."""
    definitions = Definitions([Definition(1, "age", "number")])
    assert definitions.types_of({"formId": 1, "recordData": {"AGE": "7"}}).types
    kept = weakref.ref(definitions)
    del definitions
    assert kept() is None
