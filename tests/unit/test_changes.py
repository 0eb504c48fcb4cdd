from typing import Any

import pytest

from connector.entities import ENTITIES
from connector.events import Known, Op, Origin
from connector.interfaces import Vanished
from connector.serde import content_hash
from connector.source.changes import Sighting, deletions, detect, may_delete
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


def test_an_empty_answer_deletes_nothing() -> None:
    states: dict[int | str, Known] = {number: Known(1, "aa", None) for number in range(3)}
    assert not may_delete(Vanished(known=3, listed=0, missed=0, gone=states), 1.0)


def test_a_sweep_that_would_delete_too_large_a_share_deletes_nothing() -> None:
    states: dict[int | str, Known] = {number: Known(1, "aa", None) for number in range(30)}
    assert not may_delete(Vanished(known=100, listed=70, missed=0, gone=states), 0.1)
    assert may_delete(Vanished(known=1000, listed=970, missed=0, gone=states), 0.1)
