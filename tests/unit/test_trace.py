"""Conclusions that must not claim what could not be read."""

from typing import Any

import pytest

from connector.model.comparison import FoundNode
from connector.model.events import Identity, Op
from connector.model.letters import Action, Letter, LetterId, Mark, Origin, Stage
from connector.ops.trace import ApiAnswer, Sighting, Trace, conclude
from tests.builders import record_row, upsert

IDENTITY = Identity("S1", "record", 1)
AT = Sighting(3, 70, 1_000, 9, Op.UPSERT)


def behind(**fields: Any) -> Trace:
    """Return the trace of an entity whose newest event the graph does not have."""
    node = FoundNode(IDENTITY, is_deleted=False, properties={"_version": 1})
    row = record_row(1)
    usual: dict[str, Any] = {
        "api": ApiAnswer(row), "sightings": [AT], "newest": upsert(row, 9), "newest_at": AT,
        "committed": {3: 71}, "node": node,
    }  # fmt: skip
    return Trace(IDENTITY, **(usual | fields))


def letter(stage: Stage, reason: str, origin: Origin | None) -> Letter:
    return Letter(
        id=LetterId(0, 3), time_ms=1, stage=stage, reason=reason, explanation="", attempts=1,
        study="S1", kind="record", entity_id="1", connector="g", origin=origin, value_bytes=1,
        is_reference=False, key=b"", value=b"", headers=[],
    )  # fmt: skip


MARKER = FoundNode(IDENTITY, is_deleted=True, properties={"_version": 1, "deleted": True})
CURRENT = FoundNode(IDENTITY, is_deleted=False, properties={"_version": 9})
NEWER = ApiAnswer(record_row(1, formId=4))
INVALID = Sighting(3, 71, 2_000, None, None)
REFUSED = letter(Stage.SINK, "index_size", Origin("events", 3, 70, 1))


@pytest.mark.parametrize(
    ("trace", "text", "absent"),
    [
        (behind(unknown={"group": "no broker"}), "the group could not be read", "Check that they"),
        (
            behind(unknown={"dead letters": "no topic"}),
            "the dead letters could not be read",
            "changed from outside",
        ),
        (behind(letters=[(REFUSED, None)]), "dlq redrive 0:3", "verify"),
        (
            behind(letters=[(REFUSED, Mark(LetterId(0, 3), Action.REDRIVEN, ""))]),
            "verify --study S1 --repair",
            "redrive",
        ),
        (
            behind(letters=[(REFUSED, Mark(LetterId(0, 3), Action.DROPPED, "known"))]),
            "the letter was dropped",
            "repair",
        ),
        (
            behind(newest=None, newest_at=None, api=ApiAnswer(None), node=MARKER, sightings=[]),
            "the graph keeps a marker",
            "repair",
        ),
        (
            behind(
                newest=None, newest_at=None, api=None, sightings=[], unknown={"API": "HTTP 401"}
            ),
            "the API is not known: HTTP 401",
            "repair",
        ),
        (
            behind(
                node=None, newest=upsert(record_row(1), 9), api=ApiAnswer(record_row(1, formId=4)),
                committed={3: 70}, letters=[(letter(Stage.SOURCE, "id", None), None)],
            ),
            "not applied its newest event yet",
            "cannot make",
        ),
        (
            behind(
                node=CURRENT, api=NEWER,
                letters=[(letter(Stage.SOURCE, "id", None), None)],
            ),
            "The API has a newer state",
            "cannot make",
        ),
        (
            behind(newest=None, newest_at=None, node=None, sightings=[INVALID], letters=[(REFUSED, None)]),
            "The topic has 1 events of it, but no valid one. Dead letters of it wait: 0:3 index_size",
            "has not read it",
        ),
        (
            behind(
                newest=None, newest_at=None, node=None, sightings=[],
                unknown={"dead letters": "no access"},
            ),
            "the topic has no event of it, and the dead letters could not be read",
            "--sweep",
        ),
        (
            behind(node=CURRENT, api=NEWER, unknown={"dead letters": "no access"}),
            "The API has a newer state, and the dead letters could not be read",
            "the source has not",
        ),
        (
            behind(node=CURRENT, api=NEWER, sightings=[AT, INVALID], letters=[(REFUSED, None)]),
            "a later event on the topic is not valid. Dead letters of it wait, of other states: 0:3",
            "the source has not",
        ),
        (behind(committed={3: 70}), "they are 1 offsets before it", "verify"),
        (behind(committed={}), "they are 71 offsets before it", "verify"),
        (
            behind(
                newest=None, newest_at=None, node=None, sightings=[],
                letters=[(letter(Stage.SOURCE, "id", None), None)],
            ),
            "The source cannot make an event of its row: id",
            "--sweep",
        ),
        (
            behind(
                newest=None, newest_at=None, node=None, sightings=[],
                letters=[(letter(Stage.SOURCE, "too_large", None), None)],
            ),
            "max.message.bytes",
            "--sweep",
        ),
    ],
)  # fmt: skip
def test_a_conclusion_claims_only_what_was_read(trace: Trace, text: str, absent: str) -> None:
    """What could not be read is named instead of a cause, and marked letters are not redriven."""
    found = conclude(trace)
    assert text in found
    assert absent not in found
