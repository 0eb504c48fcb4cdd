"""Parses a response's JSON: as a whole, or row by row if one row would spoil the page."""

import contextlib
import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import orjson

from connector.interfaces import UnreadableRow
from connector.model.events import EntityId

_DIGITS_AS_0 = bytes(ord("0" if chr(byte).isdigit() else " ") for byte in range(128)) + bytes(128)
_LONG_INTEGER = b"0" * 19
"""As many digits as the shortest integer beyond 64 bits."""
# Possessive, so that an unterminated string costs one scan and not one scan per quote.
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)|[\[\]{},]', re.DOTALL)
_CLOSING = {b"[": b"]", b"{": b"}"}
_NEXT_ROW, _END_OF_ROWS = (2, b","), (1, b"]")
_ARRAY = re.compile(rb"\s*+:\s*+\[")
_ID = re.compile(rb'\s*+:\s*+(?:([1-9][0-9]{0,18})|"([^"\\]*+)")\s*+[,}]')


def parse_response(body: bytes, id_field: str) -> Any:
    """Parse a response; a row of its ``data`` that cannot be parsed becomes an `UnreadableRow`.

    Raises:
        ValueError: the fault is outside the rows.
        RecursionError: the envelope is nested too deeply.
    """
    with contextlib.suppress(ValueError, RecursionError):
        return _parse(body)
    envelope, rows = split_rows(body)
    response = _parse(envelope)
    response["data"] = [_row(raw, id_field) for raw in rows]
    return response


def split_rows(body: bytes) -> tuple[bytes, list[bytes]]:
    """Return the envelope with an empty ``data`` array, and the bytes of each row of that array.

    Only strings and brackets have to be well-formed. Iterative, so any nesting depth works.

    Raises:
        ValueError: they are not well-formed, or there is not exactly one array ``data``.
    """
    start = end = -1
    cuts: list[int] = []
    for level, token in _tokens(body):
        if level == 1 and token[0] == b'"data"' and (opening := _ARRAY.match(body, token.end())):
            if start >= 0:
                raise ValueError("two arrays of rows")
            start = opening.end()
            cuts.append(start - 1)
        elif start >= 0 > end and (level, token[0]) in {_NEXT_ROW, _END_OF_ROWS}:
            cuts.append(token.start())
            if level == 1:
                end = token.start()
    if end < 0:
        raise ValueError("no array of rows")
    rows = [body[before + 1 : after].strip() for before, after in pairwise(cuts)]
    return body[:start] + body[end:], [] if rows == [b""] else rows


def _tokens(text: bytes) -> Iterator[tuple[int, re.Match[bytes]]]:
    """Yield strings, brackets and commas, each with the number of open brackets around it.

    Raises:
        ValueError: a string is unterminated, or brackets do not match.
    """
    closing: list[bytes] = []
    for token in _TOKENS.finditer(text):
        kind = text[token.start() : token.start() + 1]
        if kind == b'"' and not token[1]:
            raise ValueError("unterminated string")
        if kind in {b"]", b"}"} and (not closing or closing.pop() != kind):
            raise ValueError("brackets do not match")
        yield len(closing), token
        if kind in _CLOSING:
            closing.append(_CLOSING[kind])
    if closing:
        raise ValueError("brackets do not match")


def _row(raw: bytes, id_field: str) -> Any:
    try:
        return _parse(raw)
    except (ValueError, RecursionError):
        return UnreadableRow(raw, _id_hint(raw, id_field.encode()))


def _id_hint(raw: bytes, id_field: bytes) -> EntityId | None:
    """Return the row's id if it can be recovered; the last one wins, as in JSON parsers."""
    found: EntityId | None = None
    for level, token in _tokens(raw):
        if level == 1 and token[0] == b'"%b"' % id_field and (match := _ID.match(raw, token.end())):
            found = int(match[1]) if match[1] else match[2].decode(errors="replace")
    return found


def _parse(body: bytes) -> Any:
    """Parse JSON exactly: no number is rounded to another, and none is infinite.

    A number without an exact form (``NaN``, ``1e999``) becomes a Decimal. Half of a surrogate pair
    (a truncated emoji) becomes text that is not UTF-8. `connector.model.serde.content_hash`
    rejects both, which costs only their row.
    """
    if _LONG_INTEGER not in body.translate(_DIGITS_AS_0):  # orjson would return it as a float
        with contextlib.suppress(ValueError):
            return orjson.loads(body)
    return json.loads(body, parse_float=_exact, parse_constant=Decimal)


def _exact(text: str) -> float | Decimal:
    number = float(text)
    return number if math.isfinite(number) else Decimal(text)
