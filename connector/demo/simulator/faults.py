"""What can go wrong with an API, one answer at a time."""

import random
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
    elif fault == "bad_row":
        answer["data"].append("not a row")
        pagination["totalElements"] += 1
    elif fault == "no_date" and bodies:
        answer["data"][0].pop("dateModified", None)
    elif fault == "null_date" and bodies and "dateModified" in answer["data"][0]:
        answer["data"][0]["dateModified"] = None
    return orjson.dumps(answer)
