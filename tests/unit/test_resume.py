"""Whether, and where, an export resumes an interrupted one."""

import pytest

from connector.export.resume import RESUME_SECONDS_MAX, ExportProgress, export_start
from connector.model.cursor import Cursor, PassPosition
from connector.model.entities import ENTITIES
from connector.neo4j.export_positions import StoredPosition

NOW = 1_700_000_000_000
LIMIT_MS = RESUME_SECONDS_MAX * 1000
DONE, UNDER_WAY = PassPosition(passes=1), PassPosition(after=70, started_ms=5)


def kept(written_ms: int | None = NOW, **positions: PassPosition) -> StoredPosition:
    cursor = Cursor(
        study_key="S1", positions={f"{name}.full": position for name, position in positions.items()}
    )
    progress = ExportProgress(
        read={"visit": 30, "record": 70}, refused={"S1/records/0": "7 (content)"}
    )
    return StoredPosition(cursor.to_bytes().decode(), progress.model_dump_json(), written_ms)


def test_without_an_interrupted_export_it_starts_at_the_beginning_and_says_nothing() -> None:
    """Without an interrupted export, it starts at the beginning and gives no reason."""
    start = export_start(None, "S1", ENTITIES, {}, NOW)
    assert (start.cursor.positions, start.progress, start.why) == ({}, ExportProgress(), None)


@pytest.mark.parametrize("age_ms", [0, 1, LIMIT_MS - 1])
def test_a_place_younger_than_an_hour_is_resumed_with_what_was_counted(age_ms: int) -> None:
    """A position younger than an hour is resumed, with its counts."""
    start = export_start(kept(NOW - age_ms, visit=DONE, record=UNDER_WAY), "S1", ENTITIES, {}, NOW)
    assert start.is_resumed
    assert set(start.cursor.positions) == {"visit.full", "record.full"}
    assert start.progress.read == {"visit": 30, "record": 70}
    assert start.progress.refused == {"S1/records/0": "7 (content)"}


@pytest.mark.parametrize("age_ms", [LIMIT_MS, LIMIT_MS * 24, -1])
def test_an_older_place_or_one_of_the_future_starts_over_and_says_so(age_ms: int) -> None:
    """An older position, or one from the future, starts over and gives the reason."""
    start = export_start(kept(NOW - age_ms, visit=DONE), "S1", ENTITIES, {}, NOW)
    assert (start.cursor.positions, start.progress, start.is_resumed) == (
        {},
        ExportProgress(),
        False,
    )
    assert start.why


@pytest.mark.parametrize(
    "place",
    [
        StoredPosition(kept(visit=DONE).cursor, None, None),
        StoredPosition("not a cursor", "{}", NOW),
        StoredPosition(kept(visit=DONE).cursor, "not progress", NOW),
    ],
    ids=["of an earlier version", "cursor", "progress"],
)
def test_a_place_that_does_not_say_its_age_or_cannot_be_read_starts_over(
    place: StoredPosition,
) -> None:
    """A position without an age, or one that cannot be read, starts over."""
    start = export_start(place, "S1", ENTITIES, {}, NOW)
    assert (start.cursor.positions, start.is_resumed) == ({}, False)
    assert start.why


def test_numbered_pages_are_read_and_counted_from_their_beginning() -> None:
    """Numbered pages are read and counted from their beginning again."""
    position = PassPosition(rows_before=20, started_ms=5)
    start = export_start(kept(subject=DONE, visit=position), "S1", ENTITIES, {}, NOW)
    assert set(start.cursor.positions) == {"subject.full"}
    assert start.progress.read == {"visit": 0, "record": 70}


def test_a_complete_export_that_did_not_say_so_starts_again() -> None:
    """A complete export whose position was not removed starts again."""
    start = export_start(
        kept(study=DONE, visit=DONE, record=UNDER_WAY), "S1", ["study", "visit"], {}, NOW
    )
    assert (start.cursor.positions, start.is_resumed) == ({}, False)


def test_an_export_with_other_settings_starts_over() -> None:
    """An export with other settings starts over: what was written before has the old ones."""
    there = kept(visit=DONE, record=UNDER_WAY)
    start = export_start(there, "S1", ENTITIES, {"omit_personal_data": True}, NOW)
    assert (start.cursor.positions, start.is_resumed) == ({}, False)
    assert start.why == "it had other settings"
    assert start.progress.settings == {"omit_personal_data": True}


def test_a_kind_that_this_version_does_not_know_starts_over() -> None:
    """A position of a later version, with a kind that this one does not know, starts over."""
    start = export_start(kept(visit=DONE, novelty=UNDER_WAY), "S1", ENTITIES, {}, NOW)
    assert (start.cursor.positions, start.is_resumed) == ({}, False)
    assert start.why == "it has kinds that this version does not know"


def test_what_failed_before_an_interruption_is_still_known() -> None:
    """Refused deletes, and the kinds that were swept, are known after an interruption."""
    progress = ExportProgress(failed={"visit": "nothing was deleted"}, swept=["visit"])
    there = kept(visit=DONE, record=UNDER_WAY)._replace(progress=progress.model_dump_json())
    start = export_start(there, "S1", ENTITIES, {}, NOW)
    assert (start.progress.failed, start.progress.swept) == (progress.failed, progress.swept)
