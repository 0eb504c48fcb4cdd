"""An answer's JSON: parsed as a whole, and row by row where one row would spoil the page."""

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
"""As many digits as the shortest integer beyond 64 bits has."""
# Possessive, so that an unterminated string costs one pass and not one pass per quote.
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)|[\[\]{},]', re.DOTALL)
_CLOSING = {b"[": b"]", b"{": b"}"}
_NEXT_ROW, _END_OF_ROWS = (2, b","), (1, b"]")
_ARRAY = re.compile(rb"\s*+:\s*+\[")
_ID = re.compile(rb'\s*+:\s*+(?:([1-9][0-9]{0,18})|"([^"\\]*+)")\s*+[,}]')


def parse_answer(body: bytes, id_field: str) -> Any:
    """The answer; a row of its ``data`` that cannot be parsed is an `UnreadableRow`.

    Raises:
        ValueError: the fault is not within one row.
        RecursionError: the envelope is nested too deeply.
    """
    with contextlib.suppress(ValueError, RecursionError):
        return _parse(body)
    envelope, rows = split_rows(body)
    answer = _parse(envelope)
    answer["data"] = [_row(raw, id_field) for raw in rows]
    return answer


def split_rows(body: bytes) -> tuple[bytes, list[bytes]]:
    """The envelope with an empty ``data`` array, and the bytes of each row of that array.

    Only strings and brackets have to be right. Iterative: no nesting is too deep for it.

    Raises:
        ValueError: they are not, or there is not exactly one array ``data``.
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
    """Strings, brackets and commas, each with how many brackets are open around it.

    Raises:
        ValueError: a string does not end, or brackets do not match.
    """
    closing: list[bytes] = []
    for token in _TOKENS.finditer(text):
        kind = text[token.start() : token.start() + 1]
        if kind == b'"' and not token[1]:
            raise ValueError("a string does not end")
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
    """The row's id where it can be made out: as parsers do, the last one counts."""
    found: EntityId | None = None
    for level, token in _tokens(raw):
        if level == 1 and token[0] == b'"%b"' % id_field and (said := _ID.match(raw, token.end())):
            found = int(said[1]) if said[1] else said[2].decode(errors="replace")
    return found


def _parse(body: bytes) -> Any:
    """JSON, exactly: no number is rounded to another, and none is infinite.

    What has no exact form (``NaN``, ``1e999``) is a Decimal, as half of a surrogate pair (a cut
    emoji) is text that is no UTF-8: one row's fault, refused by
    `connector.model.serde.content_hash`.
    """
    if _LONG_INTEGER not in body.translate(_DIGITS_AS_0):  # orjson would make it a float
        with contextlib.suppress(ValueError):
            return orjson.loads(body)
    return json.loads(body, parse_float=_exact, parse_constant=Decimal)


def _exact(text: str) -> float | Decimal:
    number = float(text)
    return number if math.isfinite(number) else Decimal(text)
