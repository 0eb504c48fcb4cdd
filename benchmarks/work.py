"""The workloads: record events of about 950 bytes with 40 variables, for 500 subjects."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connector.lab.simulator.study import build_study
from connector.model.entities import ENTITIES, READ_KINDS
from connector.model.entity import Entity
from connector.model.events import Op, Origin, RecordEvent, id_of
from connector.model.serde import content_hash, encode

SUBJECTS = 500
VARIABLES = [f"VAR{number:02}" for number in range(40)]
OBSERVED_AT = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True)
class Work:
    """The events that one measurement applies."""

    name: str
    events: list[RecordEvent]


def first_load(study: str, count: int, start: int = 0) -> Work:
    """Return each record once, at version 1."""
    return Work("first load", [_event(row, 1) for row in _rows(study, count, start)])


def typed(load: Work, numbers: int = 0, dates: int = 0) -> Work:
    """Return the same records with two dates, and types for this many numbers and dates (0 - 2).

    The texts do not depend on the types.
    """
    kinds = dict.fromkeys(VARIABLES[:dates], "date")
    kinds |= dict.fromkeys(VARIABLES[2 : 2 + numbers], "number")
    events = []
    for number, event in enumerate(load.events):
        row = dict(event.data or {})
        day = f"2024-{number % 12 + 1:02}-{number % 28 + 1:02}"
        row["recordData"] = row["recordData"] | dict.fromkeys(VARIABLES[:2], day)
        events.append(_event(row, event.version, kinds))
    return Work("first load", events)


def replay(load: Work) -> Work:
    """Return the same events again."""
    return Work("replay", load.events)


def updates(load: Work) -> Work:
    """Return version 2 of each record, with 3 of its 40 variables changed."""
    events = []
    for event in load.events:
        row = dict(event.data or {})
        changed = {name: row["recordData"][name] + "9" for name in VARIABLES[7:10]}
        row["recordData"] = row["recordData"] | changed
        events.append(_event(row, 2))
    return Work("updates", events)


def hot_set(load: Work, records: int = 500) -> Work:
    """Return repeated edits of a few records, as many events as the load has."""
    events = []
    rows = [dict(event.data or {}) for event in load.events[:records]]
    for edit in range(len(load.events) // records):
        for row in rows:
            changed = {VARIABLES[edit % 40]: str(edit)}
            row["recordData"] = row["recordData"] | changed
            events.append(_event(dict(row), 3 + edit))
    return Work("hot set", events)


def all_kinds(study: str, records: int) -> Work:
    """Return every row of a simulated study once, in the order in which a source reads kinds."""
    simulated = build_study(study, max(1, records // 25), records, seed=1)
    events = []
    for entity in READ_KINDS.values():
        rows = simulated.table(entity.resource).rows() if entity.resource else [simulated.row]
        events += [_event({"studyKey": study, **row}, 1, entity=entity) for row in rows]
    return Work("first load", events)


def messages(work: Work) -> Iterator[tuple[RecordEvent, int | None, bytes, bytes, Any]]:
    """Yield each event with its subject, key, value and headers."""
    for event in work.events:
        yield (event, (event.data or {}).get("subjectId"), *encode(event))


def _rows(study: str, count: int, start: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(start)
    for number in range(start + 1, start + count + 1):
        subject = number % SUBJECTS + 1
        visit = subject * 100_000 + number // SUBJECTS // 10
        yield {
            "studyKey": study, "intervalId": 1, "formId": 101, "formKey": "VS",
            "siteId": subject % 20 + 1, "recordId": number, "recordStatus": "Complete",
            "deleted": False, "dateModified": "2024-11-04 16:03:19", "subjectId": subject,
            "subjectKey": f"01-{subject:03}", "visitId": visit, "parentRecordId": 0,
            "recordData": {name: str(rng.randint(10, 999)) for name in VARIABLES},
        }  # fmt: skip


def _event(
    row: dict[str, Any],
    version: int,
    types: dict[str, str] | None = None,
    entity: Entity = ENTITIES["record"],
) -> RecordEvent:
    entity_id = id_of(entity, row)
    if entity_id is None:
        raise ValueError(f"a row of {entity.name} has no id")
    return RecordEvent(
        entity=entity.name,
        op=Op.UPSERT,
        origin=Origin.SNAPSHOT,
        study_key=row["studyKey"],
        id=entity_id,
        version=version,
        content_hash=content_hash(row, types),
        observed_at=OBSERVED_AT,
        data=row,
        types=types or None,
    )
