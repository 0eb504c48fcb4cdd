"""The simulator's faults match their descriptions."""

from typing import Any

import pytest

from connector.interfaces import Page, PageRequest, UnreadableRow
from connector.lab.simulator.faults import Faults
from connector.lab.simulator.study import build_study
from tests.fakes.clock import FakeClock
from tests.fakes.simulated_api import SimulatedApi

RECORDS = PageRequest("S1", "records", None, "recordId,asc", 5, 0)
STUDIES = PageRequest("S1", "", None, "studyKey,asc", 5, 0)


def answers(fault: str, request: PageRequest = RECORDS) -> tuple[Page, Page]:
    """Return the correct page and the one with the fault."""
    api = SimulatedApi(build_study("S1", 4, 30, 1), FakeClock(1_717_200_000_000))
    right = api.read(request)
    api.faults = Faults({fault: 1.0})
    return right, api.read(request)


@pytest.mark.parametrize(
    ("fault", "total", "rows"),
    [
        ("row_repeated", 0, lambda rows: [rows[0], *rows]),
        ("short_page", 0, lambda rows: rows[:-1]),
        ("total_plus_one", 1, lambda rows: rows),
        ("total_minus_one", -1, lambda rows: rows),
        ("bad_row", 1, lambda rows: [*rows, "not a row"]),
    ],
)
def test_a_page_fault_changes_which_rows_there_are_or_how_many_there_should_be(
    fault: str, total: int, rows: Any
) -> None:
    """A page fault changes the rows of the page or the total, as described."""
    right, wrong = answers(fault)
    assert wrong.rows == rows(right.rows)
    assert wrong.total_elements == right.total_elements + total


@pytest.mark.parametrize(
    ("fault", "changed"),
    [
        ("huge_subject", {"subjectId": 2**70}),
        ("blank_reference", {"visitId": "", "parentRecordId": ""}),
        ("null_date", {"dateModified": None}),
    ],
)
def test_a_value_fault_changes_the_first_row_only(fault: str, changed: dict[str, Any]) -> None:
    """A value fault changes only the first row."""
    right, wrong = answers(fault)
    assert wrong.rows == [right.rows[0] | changed, *right.rows[1:]]
    assert wrong.total_elements == right.total_elements


def test_a_row_of_bad_utf8_is_one_of_the_page_and_has_an_id() -> None:
    """The row with bad UTF-8 cannot be read, but its id can."""
    right, wrong = answers("bad_utf8")
    assert isinstance(wrong.rows[0], UnreadableRow)
    assert wrong.rows[0].id_hint == right.rows[0]["recordId"]
    assert wrong.rows[1:] == right.rows[1:]


@pytest.mark.parametrize(("fault", "levels"), [("deep_row", 253), ("too_deep_row", 1200)])
def test_a_deep_row_is_an_additional_row(fault: str, levels: int) -> None:
    """A deeply nested row is an additional one, with exactly the described depth."""
    right, wrong = answers(fault)
    assert wrong.total_elements == right.total_elements + 1
    assert wrong.rows[:-1] == right.rows
    row = wrong.rows[-1]
    assert isinstance(row, UnreadableRow) is (fault == "too_deep_row")
    text = row.raw if isinstance(row, UnreadableRow) else repr(row).encode()
    assert text.count(b"[") + 1 == levels


@pytest.mark.parametrize(
    "fault", ["huge_subject", "blank_reference", "bad_utf8", "deep_row", "row_repeated"]
)
def test_a_fault_leaves_the_list_of_studies_readable(fault: str) -> None:
    """Row faults leave the list of studies readable."""
    right, wrong = answers(fault, STUDIES)
    assert len(wrong.rows) >= len(right.rows)
