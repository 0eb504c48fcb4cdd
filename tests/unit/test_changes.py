from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.errors import InvalidEventError
from connector.interfaces import UnreadableRow, VanishedRows
from connector.model.entities import ENTITIES
from connector.model.events import Delivery, Identity, KnownState, Op, Origin
from connector.model.graph import node_change
from connector.model.serde import content_hash, encode
from connector.source.changes import (
    Changes,
    PageContext,
    deletions,
    detect,
    may_delete,
    subject_of,
)
from tests.builders import decode, record_row

RECORD = ENTITIES["record"]
AT = PageContext("S1", 1_730_736_199_000, Origin.POLL)


def known(row: dict[str, Any], version: int) -> dict[int | str, KnownState]:
    return {row["recordId"]: KnownState(version, content_hash(row), row["subjectId"])}


def test_a_row_is_published_verbatim_once() -> None:
    """A row is published verbatim, and only once while its content stays the same."""
    row = record_row(extraField={"kept": [1, None]})
    found = detect(RECORD, [row], {}, AT)
    assert found.events[0][0].data == row
    assert found.events[0][1] == 11
    assert detect(RECORD, [row], found.known, AT).events == []


def test_two_states_of_one_second_are_both_published_in_order() -> None:
    """Two states of the same second are both published, with increasing versions."""
    first, second = record_row(), record_row(recordData={"SYSBP": "121"})
    one = detect(RECORD, [first], {}, AT)
    two = detect(RECORD, [second], one.known, AT)
    assert two.events[0][0].version == one.events[0][0].version + 1


def test_versions_grow_when_the_servers_clock_goes_back() -> None:
    """Versions increase even if the server's clock goes back."""
    row = record_row()
    found = detect(RECORD, [record_row(deleted=True)], known(row, AT.server_ms + 5_000), AT)
    assert found.events[0][0].version == AT.server_ms + 5_001


def test_a_row_that_comes_back_after_a_delete_is_published_again() -> None:
    """A row that comes back after its delete is published again."""
    row = record_row()
    gone = deletions(RECORD, known(row, 7), AT)
    assert gone.events[0][0].op is Op.DELETE
    assert detect(RECORD, [row], gone.known, AT).events[0][0].op is Op.UPSERT


@pytest.mark.parametrize(
    "row",
    ["text", None, {}, record_row(0), record_row(recordId=None), record_row(recordId="1"),
     record_row(studyKey="OTHER"), record_row(recordData={"n": 2**70})],
)  # fmt: skip
def test_an_invalid_row_is_set_aside_and_the_rest_of_its_page_is_published(row: Any) -> None:
    """An invalid row is set aside, and the rest of its page is published."""
    found = detect(RECORD, [row, record_row(2)], {}, AT)
    assert [event.id for event, _ in found.events] == [2]
    assert len(found.invalid) == 1


def vanished(known: int, gone: int, missed: int = 0) -> VanishedRows:
    states: dict[int | str, KnownState] = {
        number: KnownState(1, "aa", None) for number in range(gone)
    }
    return VanishedRows(known, known - gone - missed, missed, states, {})


def test_an_empty_answer_deletes_nothing_unless_everything_may_go() -> None:
    """An empty answer deletes nothing unless the ratio is 1."""
    assert not may_delete(vanished(3, 3), 0.99)
    assert not may_delete(vanished(1, 1), 0.1)
    assert may_delete(vanished(3, 3), 1.0)


def test_where_nothing_is_missing_there_is_nothing_to_report() -> None:
    """A pass that misses no rows is never reported as implausible."""
    assert may_delete(vanished(0, 0), 0.1)
    assert may_delete(vanished(5, 0), 0.0)


@pytest.mark.parametrize(
    ("known", "allowed"),
    [(2, 1), (3, 1), (12, 4), (29, 9), (30, 10), (99, 10), (100, 10), (1000, 100)],
)
def test_a_sweep_may_delete_a_tenth_or_of_a_small_kind_a_third_up_to_ten(
    known: int, allowed: int
) -> None:
    """A sweep may delete a tenth of a kind, or a third of a small kind up to ten rows."""
    assert may_delete(vanished(known, allowed), 0.1)
    assert not may_delete(vanished(known, allowed + 1), 0.1)
    assert not may_delete(vanished(known, 0, missed=allowed + 1), 0.1)


def test_lost_states_are_published_again_and_diverted_ones_by_full_passes_only() -> None:
    """Lost states are published again by any pass, diverted ones only by full passes."""
    row = record_row(1)
    digest = content_hash(row)

    def found(delivery: Delivery, *, is_full_pass: bool) -> Changes:
        known: dict[int | str, KnownState] = {1: KnownState(5, digest, 11, delivery)}
        return detect(RECORD, [row], known, replace(AT, is_full_pass=is_full_pass))

    assert found(Delivery.DELIVERED, is_full_pass=True).events == []
    assert found(Delivery.LOST, is_full_pass=False).events[0][0].version > 5
    assert found(Delivery.DIVERTED, is_full_pass=False).events == []
    again = found(Delivery.DIVERTED, is_full_pass=True)
    assert [event.id for event, _ in again.events] == [1]
    assert again.dead_lettered == {Identity("S1", "record", 1)}


NO_DATES: list[Any] = [
    None, "", " ", "garbage", "31.02.10000", "2024-13-01 00:00:00", 0, 1_730_736_199, True, 1.5, [],
    {}, ["2024-11-04 16:03:19"],
]  # fmt: skip


@pytest.mark.parametrize("entity", ["study", "site", "subject", "visit", "record"])
@pytest.mark.parametrize("date", NO_DATES)
def test_a_row_without_a_usable_date_is_published_and_counted(entity: str, date: Any) -> None:
    """A row without a usable date is published and counted as undated."""
    kind = ENTITIES[entity]
    row = {"studyKey": "S1", kind.id_field: "S1" if entity == "study" else 1, "dateModified": date}
    found = detect(kind, [row], {}, AT)
    assert (found.events[0][0].data, found.undated, found.invalid) == (row, 1, [])


def test_a_row_whose_date_is_missing_is_published_once_and_counted_once() -> None:
    """A row without a date is published once and counted once."""
    row = record_row()
    del row["dateModified"]
    found = detect(RECORD, [row, record_row(2)], {}, AT)
    assert ([event.id for event, _ in found.events], found.undated) == ([1, 2], 1)
    again = detect(RECORD, [row], found.known, AT)
    assert (again.events, again.undated) == ([], 0)
    total = Changes()
    total.extend(found)
    total.extend(found)
    assert total.undated == 2


def test_a_kind_that_has_no_such_date_is_never_undated() -> None:
    """Rows of a kind without ``dateModified`` are never counted as undated."""
    revision = {"studyKey": "S1", "recordRevisionId": 1}
    assert detect(ENTITIES["record_revision"], [revision], {}, AT).undated == 0


@pytest.mark.parametrize("subject", [None, 0, "", "  ", [], {}, 2**63, 2**70, "11", True])
def test_a_blank_or_impossible_subject_is_none_for_the_partition(subject: Any) -> None:
    """A blank or impossible subject id does not decide the partition."""
    assert subject_of(RECORD, record_row(subjectId=subject)) is None


def test_an_unreadable_row_is_set_aside_with_its_own_bytes() -> None:
    """An unreadable row is set aside with its original bytes."""
    found = detect(RECORD, [UnreadableRow(b"{\xff}", 1), record_row(2)], {}, AT)
    assert [event.id for event, _ in found.events] == [2]
    assert [(row.raw, row.reason) for row in found.invalid] == [(b"{\xff}", "unparsable")]


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


class Unwritable:
    def __str__(self) -> str:
        raise ValueError("no text of it")


@pytest.mark.parametrize(
    "row",
    [deep(5000), {"a": deep(100_000)}, {"a": "\ud800"}, {"\ud800": 1}, {"a": Decimal("NaN")},
     {1: 1, "a": 2}, {(1,): 2}, {"a": Unwritable()}, {"a": b"x"}, Unwritable(), object(), {1, 2},
     float("nan"), {"recordId": 1, "a": deep(5000)}],
)  # fmt: skip
def test_no_row_whatsoever_keeps_its_page_from_being_published(row: Any) -> None:
    """No row, however broken, keeps the rest of its page from being published."""
    found = detect(RECORD, [row, record_row(2)], {}, AT)
    assert [event.id for event, _ in found.events] == [2]
    assert [isinstance(each.raw, bytes) and bool(each.raw) for each in found.invalid] == [True]


def test_rows_that_cannot_be_written_in_full_are_told_apart_by_what_can_be() -> None:
    """Rows that cannot be serialized in full differ by what can be serialized.

    The source dead-letters rows with equal bytes only once.
    """
    rows = [record_row(number, extra=deep(5000)) for number in (1, 2)]
    one, other = detect(RECORD, rows, {}, AT).invalid
    assert one.raw != other.raw
    assert b'"recordId": 1' in one.raw


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.binary()
    | st.text(st.characters(exclude_categories=())) | st.sampled_from([0, "", " ", 5, 2**63, 2**70])
)  # fmt: skip
NESTED = st.integers(150, 1500).map(deep)
NAMES = st.text(st.characters(exclude_categories=()), max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=8
)
FIELDS = st.sampled_from(RECORD.fields) | NAMES


@settings(max_examples=500, deadline=None)
@given(changed=st.dictionaries(FIELDS, VALUES | NESTED, max_size=6))
def test_whatever_a_row_holds_it_becomes_a_change_or_a_dead_letter_with_a_reason(
    changed: dict[str, Any],
) -> None:
    """Any row becomes either a valid event or a dead letter with a reason."""
    row = record_row() | changed
    found = detect(RECORD, [row, record_row(2**40)], {}, AT)
    assert len(found.events) + len(found.invalid) == 2
    assert all(each.reason and isinstance(each.raw, bytes) for each in found.invalid)
    for event, _ in found.events:
        read = decode(*encode(event), timestamp_ms=AT.server_ms, now_ms=AT.server_ms)
        assert read.identity == event.identity
        try:
            node_change(read)
        except InvalidEventError as error:
            assert error.reason  # noqa: PT017 - either is fine, nothing else is
