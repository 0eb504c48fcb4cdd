from dataclasses import replace
from typing import Any

import pytest

from connector.entities import ENTITIES
from connector.events import Delivery, Identity, Known, Op, Origin
from connector.interfaces import Vanished
from connector.serde import content_hash
from connector.source.changes import Changes, Sighting, deletions, detect, may_delete
from tests.builders import record_row

RECORD = ENTITIES["record"]
AT = Sighting("S1", 1_730_736_199_000, Origin.POLL)


def known(row: dict[str, Any], version: int) -> dict[int | str, Known]:
    return {row["recordId"]: Known(version, content_hash(row), row["subjectId"])}


def test_a_row_is_published_verbatim_once() -> None:
    row = record_row(extraField={"kept": [1, None]})
    found = detect(RECORD, [row], {}, AT)
    assert found.events[0][0].data == row
    assert found.events[0][1] == 11
    assert detect(RECORD, [row], found.known, AT).events == []


def test_two_states_of_one_second_are_both_published_in_order() -> None:
    first, second = record_row(), record_row(recordData={"SYSBP": "121"})
    one = detect(RECORD, [first], {}, AT)
    two = detect(RECORD, [second], one.known, AT)
    assert two.events[0][0].version == one.events[0][0].version + 1


def test_versions_grow_when_the_servers_clock_goes_back() -> None:
    row = record_row()
    found = detect(RECORD, [record_row(deleted=True)], known(row, AT.server_ms + 5_000), AT)
    assert found.events[0][0].version == AT.server_ms + 5_001


def test_a_row_that_comes_back_after_a_delete_is_published_again() -> None:
    row = record_row()
    gone = deletions(RECORD, known(row, 7), AT)
    assert gone.events[0][0].op is Op.DELETE
    assert detect(RECORD, [row], gone.known, AT).events[0][0].op is Op.UPSERT


@pytest.mark.parametrize(
    "row",
    ["text", None, {}, record_row(0), record_row(recordId=None), record_row(recordId="1"),
     record_row(studyKey="OTHER"), record_row(dateModified=None),
     record_row(dateModified="garbage"), record_row(recordData={"n": 2**70})],
)  # fmt: skip
def test_an_invalid_row_is_set_aside_and_the_rest_of_its_page_goes_on(row: Any) -> None:
    found = detect(RECORD, [row, record_row(2)], {}, AT)
    assert [event.id for event, _ in found.events] == [2]
    assert len(found.invalid) == 1


def vanished(known: int, gone: int, missed: int = 0) -> Vanished:
    states: dict[int | str, Known] = {number: Known(1, "aa", None) for number in range(gone)}
    return Vanished(known, known - gone - missed, missed, states, {})


def test_an_empty_answer_deletes_nothing_unless_everything_may_go() -> None:
    assert not may_delete(vanished(3, 3), 0.99)
    assert not may_delete(vanished(1, 1), 0.1)
    assert may_delete(vanished(3, 3), 1.0)


def test_where_nothing_is_missing_there_is_nothing_to_report() -> None:
    assert may_delete(vanished(0, 0), 0.1)
    assert may_delete(vanished(5, 0), 0.0)


@pytest.mark.parametrize(
    ("known", "allowed"),
    [(2, 1), (3, 1), (12, 4), (29, 9), (30, 10), (99, 10), (100, 10), (1000, 100)],
)
def test_a_sweep_may_delete_a_tenth_or_of_a_small_kind_a_third_up_to_ten(
    known: int, allowed: int
) -> None:
    assert may_delete(vanished(known, allowed), 0.1)
    assert not may_delete(vanished(known, allowed + 1), 0.1)
    assert not may_delete(vanished(known, 0, missed=allowed + 1), 0.1)


def test_what_the_topic_has_lost_is_published_again_and_what_was_diverted_by_full_passes() -> None:
    row = record_row(1)
    digest = content_hash(row)

    def found(delivery: Delivery, *, is_full_pass: bool) -> Changes:
        known: dict[int | str, Known] = {1: Known(5, digest, 11, delivery)}
        return detect(RECORD, [row], known, replace(AT, is_full_pass=is_full_pass))

    assert found(Delivery.DELIVERED, is_full_pass=True).events == []
    assert found(Delivery.LOST, is_full_pass=False).events[0][0].version > 5
    assert found(Delivery.DIVERTED, is_full_pass=False).events == []
    again = found(Delivery.DIVERTED, is_full_pass=True)
    assert [event.id for event, _ in again.events] == [1]
    assert again.lettered == {Identity("S1", "record", 1)}
