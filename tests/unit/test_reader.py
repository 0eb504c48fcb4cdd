import json

import pytest

from connector.errors import FatalError, ResourceDeniedError, RetryableError
from connector.imednet.reader import _of_status, parse_page
from connector.interfaces import PageRequest
from connector.model.entities import ENTITIES
from connector.model.events import Origin
from connector.source.changes import PageContext, detect

REQUEST = PageRequest("S1", "records", None, "recordId,asc", 500, 0)
HEAD = b'{"metadata":{"timestamp":"2024-11-04 16:03:19"},"pagination":{"currentPage":0,"totalElements":2},'
ROW = (
    b'{"studyKey":"S1","recordId":%d,"dateModified":"2024-11-04 16:03:19","recordData":{"A":"%s"}}'
)


def test_half_of_a_surrogate_pair_costs_its_own_row_only() -> None:
    """A row with half of a surrogate pair costs only itself."""
    body = HEAD + b'"data":[' + ROW % (1, rb"cut \ud83d") + b"," + ROW % (2, b"whole") + b"]}"
    page = parse_page(200, body, REQUEST)
    found = detect(
        ENTITIES["record"], page.rows, {}, PageContext("S1", page.server_ms, Origin.POLL)
    )
    assert [event.id for event, _ in found.events] == [2]
    assert len(found.invalid) == 1


@pytest.mark.parametrize("number", [b"NaN", b"1e999", b"-Infinity", b'{"deep":[1,1e400]}'])
def test_a_number_that_json_does_not_have_costs_its_own_row_only(number: bytes) -> None:
    """A row with a number that JSON does not have costs only itself, and never becomes null."""
    bad = (ROW % (1, b"x")).replace(b'"x"', number)
    page = parse_page(200, HEAD + b'"data":[' + bad + b"," + ROW % (2, b"whole") + b"]}", REQUEST)
    found = detect(
        ENTITIES["record"], page.rows, {}, PageContext("S1", page.server_ms, Origin.POLL)
    )
    assert [event.id for event, _ in found.events] == [2]
    assert [row.reason for row in found.invalid] == ["content"]
    assert b"null" not in found.invalid[0].raw


@pytest.mark.parametrize(
    ("number", "published"),
    [
        (b"-9223372036854775808", 1), (b"18446744073709551615", 1),
        (b"-9223372036854775809", 0), (b"18446744073709551616", 0), (b"1" * 400, 0),
        (b"0.1234567890123456789", 1), (b"-0.0", 1),
    ],
)  # fmt: skip
def test_a_number_is_published_exactly_or_not_at_all(number: bytes, published: int) -> None:
    """A number is published exactly or not at all."""
    row = (ROW % (1, b"x")).replace(b'"x"', number)
    page = parse_page(200, HEAD + b'"data":[' + row + b"]}", REQUEST)
    found = detect(
        ENTITIES["record"], page.rows, {}, PageContext("S1", page.server_ms, Origin.POLL)
    )
    assert len(found.events) == published
    if published:
        assert page.rows[0]["recordData"]["A"] == json.loads(number)
    else:
        assert number in found.invalid[0].raw


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", HEAD + b'"data":[', HEAD + b'"data":null}', HEAD + b'"data":{}}', b"[]", b"{}",
     HEAD.replace(b"2,", b'"2",').replace(b":2}", b':"2"}') + b'"data":[]}',
     HEAD.replace(b'"currentPage":0', b'"currentPage":3') + b'"data":[]}'],
)  # fmt: skip
def test_an_answer_that_is_not_the_page_moves_nothing(body: bytes) -> None:
    """An answer that is not the requested page raises RetryableError."""
    with pytest.raises(RetryableError):
        parse_page(200, body, REQUEST)


@pytest.mark.parametrize(
    ("status", "is_resources"), [(400, True), (403, True), (404, True), (401, False)]
)
def test_a_refused_resource_is_told_from_a_refused_key(status: int, *, is_resources: bool) -> None:
    """A refused resource is distinguished from a refused key."""
    error = _of_status(status, REQUEST)
    assert isinstance(error, FatalError)
    assert isinstance(error, ResourceDeniedError) is is_resources
