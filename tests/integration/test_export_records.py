"""`write_batch` on a real Neo4j: subject keys, equal and old dates, redirected links."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from connector.errors import BatchTooLargeError
from connector.export.rows import ReadRows, change_of
from connector.export.supplied_records import BEHIND_MS
from connector.model.entities import ENTITIES
from connector.model.graph import NodeChange
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.writer import Neo4jGraphWriter
from tests.exporting import Open, count, node, rows

pytestmark = pytest.mark.servers
MODES = pytest.mark.parametrize("idempotent", [True, False], ids=["merge", "create"])
DATE = "2024-11-04 16:03:19"
DATE_MS = 1_730_736_199_000


def parents(database: Neo4jDatabase, study: str, record_id: int) -> list[list[Any]]:
    found: list[list[Any]] = database.read(
        "MATCH (n)-[:HAS_RECORD]->(:Record {study_key: $study, record_id: $id})"
        " RETURN labels(n)[0], coalesce(n.visit_id, n.subject_id, 0)",
        study=study, id=record_id,
    )  # fmt: skip
    return found


def warnings(logs: list[Any], text: str) -> list[dict[str, Any]]:
    return [each for each in logs if each["log_level"] == "warning" and text in each["event"]]


# ---------------------------------------------------------------------------- subjects by key


def older_record(record_id: int, subject_key: str, visit_id: int | None = 5) -> SimpleNamespace:
    """Return a record with only the fields that the SDK's older sink wrote."""
    return SimpleNamespace(
        record_id=record_id, form_id=7, visit_id=visit_id, subject_key=subject_key,
        record_data={"SYSBP": "120"},
    )  # fmt: skip


@MODES
def test_a_record_with_its_subjects_key_alone_is_on_the_path_from_its_subject(
    sink_to: Open, database: Neo4jDatabase, study: str, *, idempotent: bool
) -> None:
    """A record that names its subject only by key is linked to that subject."""
    with sink_to(idempotent=idempotent) as sink:
        sink.write_batch(rows(study, 1, visitId=9, subjectId=11, subjectKey="003-11"), batch_id="b")
        batch = [older_record(2, "003-11"), older_record(3, "003-11", visit_id=None)]
        assert sink.write_batch(batch, batch_id="b") == 2
    path = (
        "MATCH (:Study {study_key: $study})-[:HAS_SUBJECT]->(s)-[:HAS_VISIT|HAS_RECORD*1..2]->"
        "(r:Record) RETURN DISTINCT s.subject_id, r.record_id ORDER BY r.record_id"
    )
    assert database.read(path, study=study) == [[11, 1], [11, 2], [11, 3]]
    assert parents(database, study, 2) == [["Visit", 5]]
    assert parents(database, study, 3) == [["Subject", 11]]
    assert node(database, study, 2)["subject_id"] == 11


def test_a_record_with_an_unknown_or_ambiguous_subject_key_hangs_on_its_study_with_a_warning(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """A subject key of no or several subjects leaves the record on its study, with a warning."""
    with sink_to() as sink, capture_logs() as logs:
        sink.write_batch(
            rows(study, 1, subjectId=11, subjectKey="TWICE")
            + rows(study, 2, subjectId=12, subjectKey="TWICE"),
            batch_id="b",
        )
        batch = [older_record(each, key, None) for each, key in ((3, "TWICE"), (4, "NONE"))]
        assert sink.write_batch([*batch, older_record(5, "NONE", 77)], batch_id="b") == 3
    assert parents(database, study, 3) == parents(database, study, 4) == [["Study", 0]]
    assert parents(database, study, 5) == [["Visit", 77]]
    assert database.read(
        "MATCH (s)-[:HAS_VISIT]->(:Visit {study_key: $study, visit_id: 77}) RETURN labels(s)",
        study=study,
    ) == [[["Study"]]]
    (warned,) = warnings(logs, "subjects not resolved")
    assert (warned["records"], warned["subject_keys"]) == (3, 2)
    assert "TWICE" not in repr(logs)
    assert "NONE" not in repr(logs)


# --------------------------------------------------------------------- equal, older, old dates


@MODES
def test_changed_content_of_the_same_date_is_written_each_time(
    sink_to: Open, database: Neo4jDatabase, study: str, *, idempotent: bool
) -> None:
    """Changed content with the same date is written each time, with the next version."""
    with sink_to(idempotent=idempotent) as sink:
        for place, status in enumerate(("first", "second", "third")):
            batch = rows(study, 1, recordStatus=status)
            assert sink.write_batch(batch, batch_id="b") == 1
            assert sink.write_batch(batch, batch_id="b") == 1
            found = node(database, study, 1)
            assert (found["record_status"], found["_version"]) == (
                status,
                DATE_MS - BEHIND_MS + place,
            )


def test_a_record_with_a_newer_state_in_the_graph_is_left_alone_uncounted_and_warned_about(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """A record with a newer state in the graph is left alone, not counted, and warned about."""
    with sink_to() as sink, capture_logs() as logs:
        sink.write_batch(
            rows(study, 1, recordStatus="later", dateModified="2024-11-04 16:03:20"), batch_id="b"
        )
        stream = change_of(
            ENTITIES["record"], rows(study, 2, recordStatus="stream")[0], study, DATE_MS + 60_000
        )
        Neo4jGraphWriter(database, {}).write([stream])
        batch = rows(study, 1, 2, 3, recordStatus="older")
        assert sink.write_batch(batch, batch_id="b") == 1
        same = rows(study, 2, recordStatus="stream")
        assert sink.write_batch(same, batch_id="b") == 1
    statuses = [node(database, study, each)["record_status"] for each in (1, 2, 3)]
    assert statuses == ["later", "stream", "older"]
    (warned,) = warnings(logs, "left alone")
    assert warned["records"] == 2


def test_a_record_dated_before_1970_replaces_its_stub(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """A record dated before 1970 gets version 1, which is above its stub."""
    with sink_to() as sink:
        sink.write_batch(rows(study, 2, parentRecordId=1), batch_id="b")
        old = rows(study, 1, dateModified="1969-04-20 16:20:00", recordStatus="old")
        assert sink.write_batch(old, batch_id="b") == 1
    assert node(database, study, 1)["record_status"] == "old"
    assert node(database, study, 1)["_version"] == 1


# -------------------------------------------------------------------------------- moved links


def test_a_newer_event_moves_a_record_whose_link_was_redirected(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """A newer event moves a redirected link to the visit that the record names."""
    with sink_to() as sink:
        sink.write_batch(rows(study, 1, visitId=10, subjectId=1, subjectKey="A"), batch_id="b")
        mixed = rows(study, 2, visitId=10, subjectId=2, subjectKey="B")
        sink.write_batch(mixed, batch_id="b")
        assert parents(database, study, 2) == [["Subject", 2]]
    newer = change_of(ENTITIES["record"], mixed[0] | {"recordStatus": "x"}, study, DATE_MS * 2)
    Neo4jGraphWriter(database, {}).write([newer])
    assert parents(database, study, 2) == [["Visit", 10]]
    assert "_redirected" not in node(database, study, 2)


def test_an_export_of_the_same_content_puts_a_redirected_record_where_the_model_has_it(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """An export moves a redirected link to the model's target although the content is the same."""
    with sink_to() as sink:
        sink.write_batch(rows(study, 1, visitId=10, subjectId=1, subjectKey="A"), batch_id="b")
        mixed = rows(study, 2, visitId=10, subjectId=2, subjectKey="B")
        sink.write_batch(mixed, batch_id="b")
        batch = [ReadRows(mixed, DATE_MS * 2)]
        sink.write_kind(ENTITIES["record"], batch, batch_id="b")
    assert parents(database, study, 2) == [["Visit", 10]]


@MODES
def test_a_record_with_the_same_content_is_left_alone_beside_a_new_one_that_names_it(
    sink_to: Open, database: Neo4jDatabase, study: str, *, idempotent: bool
) -> None:
    """The graph's state keeps its version: a new one would claim a change."""
    parent, child = rows(study, 1)[0], rows(study, 2, parentRecordId=1)[0]
    with sink_to(idempotent=idempotent) as sink:
        sink.write_batch([parent], batch_id="b", read_at_ms=DATE_MS)
        before = node(database, study, 1)
        sink.write_batch([parent, child], batch_id="b", read_at_ms=DATE_MS * 2)
    assert node(database, study, 1) == before
    assert parents(database, study, 2)


def test_of_a_row_on_two_pages_the_newer_page_counts(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """The page that the API's clock says is newer counts, however pages fall into batches."""
    newer, older = rows(study, 1, recordStatus="newer"), rows(study, 1, recordStatus="older")
    batch = [ReadRows(newer, DATE_MS + 5000), ReadRows(older, DATE_MS + 3000)]
    with sink_to() as sink:
        sink.write_kind(ENTITIES["record"], batch, batch_id="b")
    assert node(database, study, 1)["record_status"] == "newer"


def test_after_a_transaction_that_was_too_large_the_next_ones_are_smaller(
    sink_to: Open, monkeypatch: pytest.MonkeyPatch, study: str
) -> None:
    """Otherwise each batch would be refused first, and sent again in halves."""
    sizes: list[int] = []
    create = Neo4jGraphWriter.create

    def limited(writer: Neo4jGraphWriter, changes: Sequence[NodeChange]) -> bool:
        sizes.append(len(changes))
        if len(changes) > 10:
            raise BatchTooLargeError("out of memory")
        return create(writer, changes)

    monkeypatch.setattr(Neo4jGraphWriter, "create", limited)
    with sink_to(idempotent=False, batch_size=64) as sink:
        for first in range(1, 321, 64):
            found = rows(study, *range(first, first + 64))
            sink.write_kind(ENTITIES["record"], [ReadRows(found, DATE_MS)], batch_id="b")
    in_vain = 64 + 2 * 32 + 4 * 16  # of the first batch, whose limit is not yet known
    assert sum(size for size in sizes if size > 10) < 2 * in_vain


# ---------------------------------------------------------------------------------- iterables


@MODES
def test_a_generator_of_records_is_written_batch_by_batch_and_counted(
    sink_to: Open, database: Neo4jDatabase, study: str, *, idempotent: bool
) -> None:
    """A generator is consumed one batch at a time, and its records are counted."""
    held: list[int] = []

    def generated() -> Any:
        for each in range(1, 26):
            held.append(count(database, study))
            yield rows(study, each)[0]

    with sink_to(idempotent=idempotent, batch_size=10) as sink:
        assert sink.write_batch(generated(), batch_id="b") == 25
        assert sink.write_batch(iter([]), batch_id="b") == 0
    assert count(database, study) == 25
    assert sorted(set(held)) == [0, 10, 20]
