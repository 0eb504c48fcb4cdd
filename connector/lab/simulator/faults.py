"""Faults that the simulated API injects into single responses."""

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
    "drop": "the connection is closed in the middle of the body",
    "slow": "the body stalls for longer than any timeout (120 s)",
    "redirect": "302",
    "no_content": "204",
    "html": "200 with an HTML page",
    "truncated": "200 with the first half of the JSON",
    "no_pagination": "the envelope has no pagination",
    "text_total": "totalElements and totalPages are strings",
    "data_object": "data is an object",
    "data_null": "data is null",
    "empty": "no rows and a total of 0",
    "bad_row": "an extra row that is not an object",
    "no_date": "the first row has no dateModified",
    "null_date": "the first row's dateModified is null",
    "bad_utf8": "the first row has an extra text field with a byte that is not UTF-8",
    "deep_row": "an extra row, nested 253 levels deep",
    "too_deep_row": "an extra row, nested 1 200 levels deep",
    "huge_subject": "the first row's subjectId is 2**70",
    "blank_reference": "the first row's visitId and parentRecordId are empty text",
    "row_repeated": "the first row appears twice in a row",
    "short_page": "the last row is missing from the page but counted in the total",
    "total_plus_one": "totalElements is one too high",
    "total_minus_one": "totalElements is one too low",
    "filter_ignored": "the filter is not applied",
    "edit_between_pages": "a live edit is made after the page",
    "delete_between_pages": "a row is deleted after the page",
}


@dataclass(slots=True)
class Faults:
    """The active faults: the share of responses that each one affects."""

    shares: dict[str, float] = field(default_factory=dict)
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def draw(self) -> str | None:
        """Draw the fault of the next response, or None."""
        draw = self.rng.random()
        for name, share in self.shares.items():
            if (draw := draw - share) < 0:
                return name
        return None

    @classmethod
    def parse(cls, texts: list[str]) -> "Faults":
        """Parse ``NAME=SHARE`` texts.

        Raises:
            FatalError: the fault is unknown, or the share is not a number from 0 to 1.
        """
        return cls(checked_shares(dict(text.partition("=")[::2] for text in texts)))


def checked_shares(shares: dict[str, Any]) -> dict[str, float]:
    """Return the shares as numbers.

    Raises:
        FatalError: a fault is unknown, or its share is not a number from 0 to 1.
    """
    checked = {}
    for name, share in shares.items():
        try:
            checked[name] = float(share)
        except ValueError:
            checked[name] = -1.0
        if name not in FAULTS:
            raise FatalError(
                f"Unknown fault {name!r}. Give NAME=SHARE, with one of: {', '.join(FAULTS)}"
            )
        if not 0 <= checked[name] <= 1:
            raise FatalError(f"{name}={share}: give a share of responses from 0 to 1")
    return checked


def _nested(levels: int) -> bytes:
    """Return a row of this nesting depth: an object that contains nested lists."""
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


_CHANGES_OF_FIRST_ROW: dict[str, Callable[[bytes], bytes]] = {
    "no_date": _without_date,
    "null_date": _with_null_date,
    "bad_utf8": lambda row: row[:-1] + b',"note":"caf\xe9"}',
    "huge_subject": lambda row: re.sub(rb'(?<="subjectId":)[0-9]+', b"%d" % 2**70, row, count=1),
    "blank_reference": _with_blank_references,
}
_EXTRA_ROWS = {"bad_row": b'"not a row"', "deep_row": _nested(253), "too_deep_row": _nested(1200)}
_TOTAL_DELTAS = {"total_plus_one": 1, "total_minus_one": -1, **dict.fromkeys(_EXTRA_ROWS, 1)}
"""Difference between the reported total and the real number of rows."""


def distorted(fault: str, envelope: bytes, bodies: list[bytes]) -> bytes:
    """Return the response's JSON with this fault applied; ``bodies`` are its rows."""
    response = orjson.loads(envelope)
    pagination = response["pagination"]
    if fault == "no_pagination":
        del response["pagination"]
    elif fault == "text_total":
        response["pagination"] = pagination | {
            name: str(pagination[name]) for name in ("totalPages", "totalElements")
        }
    elif fault == "data_object":
        response["data"] = {"rows": response["data"]}
    elif fault == "data_null":
        response["data"] = None
    elif fault == "empty":
        response["data"] = []
        response["pagination"] = pagination | {"totalPages": 0, "totalElements": 0}
    else:
        del response["data"]
        pagination["totalElements"] = max(
            0, pagination["totalElements"] + _TOTAL_DELTAS.get(fault, 0)
        )
        rows = _distorted_rows(fault, bodies)
        return orjson.dumps(response)[:-1] + b',"data":[' + b",".join(rows) + b"]}"
    return orjson.dumps(response)


def _distorted_rows(fault: str, bodies: list[bytes]) -> list[bytes]:
    if fault in _EXTRA_ROWS:
        return [*bodies, _EXTRA_ROWS[fault]]
    if fault == "row_repeated":
        return bodies[:1] + bodies
    if fault == "short_page":
        return bodies[:-1]
    if fault in _CHANGES_OF_FIRST_ROW and bodies:
        return [_CHANGES_OF_FIRST_ROW[fault](bodies[0]), *bodies[1:]]
    return bodies
