"""A bad row costs only itself; a broken envelope fails the whole page."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.errors import RetryableError
from connector.imednet.reader import parse_page
from connector.imednet.rows import split_rows
from connector.interfaces import Page, PageRequest, UnreadableRow
from connector.model.entities import ENTITIES
from connector.model.events import Origin
from connector.source.changes import Changes, PageContext, detect
from connector.source.page_checks import valid_ids

RECORD = ENTITIES["record"]
REQUEST = PageRequest("S1", "records", None, "recordId,asc", 500, 0)
HEAD = b'{"metadata":{"timestamp":"2024-11-04 16:03:19"},"pagination":{"currentPage":0,"totalElements":3},'
ROW = b'{"studyKey":"S1","recordId":%d,"dateModified":"2024-11-04 16:03:19","recordData":{"A":%b}}'


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def body(*rows: bytes) -> bytes:
    return HEAD + b'"data":[' + b", \n".join(rows) + b"]}"


def read(*rows: bytes) -> Page:
    return parse_page(200, body(*rows), REQUEST)


def found(page: Page) -> Changes:
    return detect(RECORD, page.rows, {}, PageContext("S1", page.server_ms, Origin.POLL))


UNPARSABLE = {
    "not UTF-8": b'"caf\xe9"',
    "1 200 levels": nested(1200),
    "100 000 levels": nested(100_000),
    "not a value": b"undefined",
    "a number of 5 000 digits": b"1" * 5000,
    "a raw line feed": b'"a\nb"',
    "an unknown escape": rb'"\q"',
    "a comma too many": b"[1,]",
    "a quoted quote and brackets before it": b'"}]\\"{[,", x',
}


@pytest.mark.parametrize("value", UNPARSABLE.values(), ids=UNPARSABLE.keys())
def test_a_row_that_cannot_be_parsed_costs_itself_only_and_keeps_its_bytes(value: bytes) -> None:
    """A row that cannot be parsed costs only itself and keeps its bytes."""
    bad = ROW % (2, value)
    page = read(ROW % (1, b'"x"'), bad, ROW % (3, b'"]},{"'))
    changes = found(page)
    assert [event.id for event, _ in changes.events] == [1, 3]
    assert [(row.reason, row.raw) for row in changes.invalid] == [("unparsable", bad)]


@pytest.mark.parametrize(
    "levels", [198, 250, 251, 252, 253, 254, 990, 1000, 1020, 1021, 1022, 1023]
)
def test_a_row_that_is_nested_too_deeply_for_an_event_costs_itself_only(levels: int) -> None:
    """A row nested too deeply for an event costs only itself."""
    page = read(ROW % (1, b'"x"'), ROW % (2, nested(levels)), ROW % (3, b'"y"'))
    changes = found(page)
    assert [event.id for event, _ in changes.events] == [1, 3]
    assert len(changes.invalid) == 1


@pytest.mark.parametrize("number", [b"NaN", b"-1e999", b"18446744073709551616"])
def test_numbers_beside_an_unparsable_row_stay_exact(number: bytes) -> None:
    """Numbers on the same page as an unparsable row stay exact."""
    changes = found(read(ROW % (1, number), ROW % (2, b"\xff"), ROW % (3, b"0.1")))
    assert [event.id for event, _ in changes.events] == [3]
    assert [row.reason for row in changes.invalid] == ["content", "unparsable"]


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        (b'{"recordId":7,"a":"\xff"}', 7),
        (b'{"a":{"recordId":8},"b":["recordId",9],"c":"recordId", "recordId" : 7 ,"d":\xff}', 7),
        (b'{"recordId":6,"recordId":7,"d":\xff}', 7),
        (b'{"recordId":0,"d":\xff}', None),
        (b'{"recordId":"7","d":\xff}', None),
        (b'{"recordId":7.5,"d":\xff}', None),
        (b'{"recordId":99999999999999999999,"d":\xff}', None),
        (b'["recordId",7,\xff]', None),
        (b"\xff", None),
    ],
)
def test_an_unparsable_row_is_listed_by_its_id_where_that_can_be_made_out(
    row: bytes, hint: int | None
) -> None:
    """An unparsable row is listed by its id if that can be found."""
    page = read(row)
    assert isinstance(page.rows[0], UnreadableRow)
    assert valid_ids(RECORD, page) == ([] if hint is None else [hint])


def test_an_unparsable_study_is_still_the_study() -> None:
    """An unparsable study row still identifies the study."""
    request = PageRequest("S1", "", None, "studyKey,asc", 500, 0)
    page = parse_page(200, body(b'{"studyKey":"S1","studyName":"caf\xe9"}'), request)
    assert valid_ids(ENTITIES["study"], page) == ["S1"]


def test_an_unreadable_row_shows_its_size_and_no_content() -> None:
    """The repr of an unreadable row shows its size and no content."""
    assert repr(UnreadableRow(b"canary-content", 7)) == "UnreadableRow(14 bytes)"
    assert "canary" not in repr(read(b'"canary\xff"'))


@pytest.mark.parametrize(
    "broken",
    [
        HEAD + b'"data":[' + ROW % (1, b"\xff"),
        HEAD + b'"data":[' + ROW % (1, b"\xff") + b"]",
        HEAD + b'"data":[' + ROW % (1, b'"\xff') + b"]}",
        HEAD + b'"data":[{"a":[1}]}',
        HEAD + b'"data":[\xff]}}',
        HEAD + b'"data":[\xff],"data":[1]}',
        HEAD + b'"data":{"rows":[\xff]}}',
        HEAD + b'"x":\xff,"data":[1]}',
        HEAD + b'"x":' + nested(5000) + b',"data":[1]}',
        b"[" + HEAD + b'"data":[\xff]}]',
        b'["data":[\xff]]',
        b"<html>\xff</html>",
        nested(100_000),
    ],
)
def test_an_answer_that_is_broken_beyond_one_row_moves_nothing(broken: bytes) -> None:
    """An answer that is broken beyond one row raises RetryableError."""
    with pytest.raises(RetryableError):
        parse_page(200, broken, REQUEST)


def test_half_of_an_answer_never_passes_for_a_page_wherever_it_is_cut() -> None:
    """A truncated answer never passes for a page, wherever it is cut."""
    whole = body(ROW % (1, rb'"a\"]}"'), ROW % (2, b"\xff"), ROW % (3, nested(1200)))
    for end in range(0, len(whole), 7):
        with pytest.raises(RetryableError):
            parse_page(200, whole[:end], REQUEST)


def test_a_long_text_that_does_not_end_is_found_out_in_one_pass() -> None:
    """A long unterminated text is detected in one pass, not one pass per quote."""
    with pytest.raises(RetryableError):
        parse_page(200, HEAD + b'"data":["' + rb"\"[" * 300_000, REQUEST)


def test_a_long_text_with_many_escapes_is_no_burden() -> None:
    """A long text with many escapes is read normally."""
    text = b'"' + rb"\"" * 1_000_000 + b'"'
    assert [event.id for event, _ in found(read(ROW % (1, text), b"\xff")).events] == [1]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(JSON),
    extra=JSON,
    form=st.sampled_from([{}, {"indent": 1}, {"ensure_ascii": False}]),
)
def test_rows_are_split_as_a_parser_would(
    rows: list[Any], extra: Any, form: dict[str, Any]
) -> None:
    """Rows are split exactly as a parser would split them."""
    answer = {"x": extra, "data": rows, "y": [extra, "data"]}
    whole = json.dumps(answer, **form).encode(errors="replace")
    envelope, raw = split_rows(whole)
    assert json.loads(envelope) == json.loads(whole) | {"data": []}
    assert [json.loads(each) for each in raw] == json.loads(whole)["data"]
