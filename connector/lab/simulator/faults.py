"""What can go wrong with an API, one answer at a time."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from connector.errors import FatalError

FAULTS = {
    "rate_limit": "429 with Retry-After: 1",
    "server_error": "503",
    "drop": "the connection is cut within the body",
    "slow": "the body stalls for longer than any timeout",
    "redirect": "302",
    "no_content": "204",
    "html": "200 with a page of HTML",
    "truncated": "200 with half of the JSON",
    "no_pagination": "the envelope lacks its pagination",
    "text_total": "totalElements and totalPages are strings",
    "data_object": "data is an object",
    "data_null": "data is null",
    "empty": "there are no rows, and the total says so",
    "bad_row": "one more row, which is not one",
    "no_date": "the first row lacks its dateModified",
    "null_date": "the first row's dateModified is null",
    "bad_utf8": "the first row has one more text, with a byte that is not UTF-8",
    "deep_row": "one more row, nested 253 levels deep",
    "too_deep_row": "one more row, nested 1 200 levels deep",
    "huge_subject": "the first row's subjectId is 2**70",
    "blank_reference": "the first row's visitId and parentRecordId are empty text",
    "row_repeated": "the first row comes twice, the second one right after the first",
    "short_page": "the last row is missing from the page, although the total counts it",
    "total_plus_one": "totalElements is one more than it should be",
    "total_minus_one": "totalElements is one less than it should be",
    "filter_ignored": "the filter is not applied",
    "edit_between_pages": "a change is made after each page",
    "delete_between_pages": "a row is deleted after each page",
}


@dataclass(slots=True)
class Faults:
    """The share of answers that each fault befalls."""

    shares: dict[str, float] = field(default_factory=dict)
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def drawn(self) -> str | None:
        """The fault of this answer, if any."""
        draw = self.rng.random()
        for name, share in self.shares.items():
            if (draw := draw - share) < 0:
                return name
        return None

    @classmethod
    def parse(cls, texts: list[str]) -> "Faults":
        """``NAME=SHARE`` texts.

        Raises:
            FatalError: no such fault, or no share from 0 to 1.
        """
        return cls(checked_shares(dict(text.partition("=")[::2] for text in texts)))


def checked_shares(shares: dict[str, Any]) -> dict[str, float]:
    """The shares as numbers.

    Raises:
        FatalError: no such fault, or no share from 0 to 1.
    """
    checked = {}
    for name, share in shares.items():
        try:
            checked[name] = float(share)
        except ValueError:
            checked[name] = -1.0
        if name not in FAULTS or not 0 <= checked[name] <= 1:
            raise FatalError(
                f"fault {name!r}: write NAME=SHARE, share from 0 to 1, name one of"
                f" {', '.join(FAULTS)}"
            )
    return checked


def _nested(levels: int) -> bytes:
    """A row of this depth: an object that holds lists."""
    return b'{"nested":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def _without_date(row: bytes) -> bytes:
    fields = orjson.loads(row)
    fields.pop("dateModified", None)
    return orjson.dumps(fields)


def _with_null_date(row: bytes) -> bytes:
    fields = orjson.loads(row)
    return orjson.dumps(fields | {"dateModified": None}) if "dateModified" in fields else row


def _with_blank_references(row: bytes) -> bytes:
    fields = orjson.loads(row)
    blank = {name: "" for name in ("visitId", "parentRecordId") if name in fields}
    return orjson.dumps(fields | blank)


_FIRST_ROW: dict[str, Callable[[bytes], bytes]] = {
    "no_date": _without_date,
    "null_date": _with_null_date,
    "bad_utf8": lambda row: row[:-1] + b',"note":"caf\xe9"}',
    "huge_subject": lambda row: re.sub(rb'(?<="subjectId":)[0-9]+', b"%d" % 2**70, row, count=1),
    "blank_reference": _with_blank_references,
}
_MORE_ROWS = {"bad_row": b'"not a row"', "deep_row": _nested(253), "too_deep_row": _nested(1200)}
_TOTALS = {"total_plus_one": 1, "total_minus_one": -1, **dict.fromkeys(_MORE_ROWS, 1)}
"""By how much the total differs from the number of rows that there are."""


def distorted(fault: str, envelope: bytes, bodies: list[bytes]) -> bytes:
    """The answer's JSON with this fault in it; ``bodies`` are its rows."""
    answer = orjson.loads(envelope)
    pagination = answer["pagination"]
    if fault == "no_pagination":
        del answer["pagination"]
    elif fault == "text_total":
        answer["pagination"] = pagination | {
            name: str(pagination[name]) for name in ("totalPages", "totalElements")
        }
    elif fault == "data_object":
        answer["data"] = {"rows": answer["data"]}
    elif fault == "data_null":
        answer["data"] = None
    elif fault == "empty":
        answer["data"] = []
        answer["pagination"] = pagination | {"totalPages": 0, "totalElements": 0}
    else:
        del answer["data"]
        pagination["totalElements"] = max(0, pagination["totalElements"] + _TOTALS.get(fault, 0))
        rows = _distorted_rows(fault, bodies)
        return orjson.dumps(answer)[:-1] + b',"data":[' + b",".join(rows) + b"]}"
    return orjson.dumps(answer)


def _distorted_rows(fault: str, bodies: list[bytes]) -> list[bytes]:
    if fault in _MORE_ROWS:
        return [*bodies, _MORE_ROWS[fault]]
    if fault == "row_repeated":
        return bodies[:1] + bodies
    if fault == "short_page":
        return bodies[:-1]
    if fault in _FIRST_ROW and bodies:
        return [_FIRST_ROW[fault](bodies[0]), *bodies[1:]]
    return bodies
