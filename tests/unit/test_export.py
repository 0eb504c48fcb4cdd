"""The parts of the export's interface that need no server."""

from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from imednet.errors import ImednetError
from imednet.models.records import Record

from connector.errors import BatchTooLargeError, InvalidEventError, RetryableError
from connector.export import (
    ExportBatchError,
    ExportConfigurationError,
    ExportError,
    ExportSink,
    Neo4jExportSink,
    Neo4jSinkConfig,
    SinkConfig,
    iter_batches,
)
from connector.export.attempts import Attempts
from connector.export.in_flight import Part, PartsInFlight, Refusal
from connector.export.neo4j_sink import redacted
from connector.export.reading import batches_of
from connector.export.rows import api_object, api_objects, changes_of, parent_changes
from connector.interfaces import Page, UnreadableRow
from connector.model.cursor import Cursor, PassPosition
from connector.model.entities import ENTITIES
from connector.source.reading import ReadPage
from connector.source.tracks import Mode, Track
from tests.builders import record_row
from tests.fakes.clock import FakeClock

RECORD = ENTITIES["record"]


class Recording(ExportSink):
    def __init__(self, config: SinkConfig | None = None) -> None:
        super().__init__(config)
        self.calls: list[str] = []

    def write_batch(self, records: Sequence[Any], *, batch_id: str) -> int:
        self.calls.append(batch_id)
        return len(records)

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")


def test_the_defaults_are_those_of_the_earlier_module() -> None:
    """The defaults are those of the earlier module."""
    config = SinkConfig()
    assert (config.batch_size, config.max_retries, config.retry_backoff) == (500, 3, 1.0)
    assert (config.idempotent, config.extra) == (True, {})
    assert (Neo4jSinkConfig().database, Neo4jSinkConfig().batch_size) == ("neo4j", 2000)
    assert SinkConfig(batch_size=10, max_retries=5).batch_size == 10


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"batch_size": -1}, {"batch_size": True}, {"batch_size": 1.5},
     {"max_retries": -1}, {"retry_backoff": -0.1}, {"retry_backoff": float("nan")},
     {"database": ""}, {"max_delete_ratio": 1.1}, {"max_delete_ratio": float("nan")}],
)  # fmt: skip
def test_an_unusable_setting_is_refused(wrong: dict[str, Any]) -> None:
    """A setting that makes writing impossible is refused by name."""
    with pytest.raises(ExportConfigurationError, match=next(iter(wrong))):
        Neo4jSinkConfig(**wrong)


def test_a_clean_block_flushes_and_closes_one_that_fails_only_closes() -> None:
    """A clean block flushes and closes the sink; a failing one only closes it."""
    with Recording() as sink:
        assert sink.write_batch([1, 2], batch_id="S/records/0") == 2
    assert sink.calls == ["S/records/0", "flush", "close"]
    failing = Recording()
    with pytest.raises(RuntimeError), failing:
        raise RuntimeError
    assert failing.calls == ["close"]


def test_batches_are_made_from_any_iterable() -> None:
    """Batches can be made from any iterable."""
    assert list(iter_batches([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
    assert list(iter_batches((each for each in range(3)), 5)) == [[0, 1, 2]]
    with pytest.raises(ValueError, match="batch_size"):
        list(iter_batches([1], 0))


def test_export_errors_share_the_sdks_base_error() -> None:
    """All export errors are ExportErrors, which are the SDK's errors too."""
    error = ExportBatchError("what", batch_id="S/records/7")
    assert (error.batch_id, str(error)) == ("S/records/7", "what")
    assert isinstance(error, ExportError)
    assert isinstance(ExportConfigurationError("x"), ExportError)
    assert issubclass(ExportError, ImednetError)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("bolt://user:pass@host:7687", "bolt://***@host:7687"),
        ("bolt://user@host", "bolt://***@host"),
        ("bolt://u:p/a@ss@host", "bolt://***@host"),
        ("bolt://host:7687", "bolt://host:7687"),
        ("user:pass@host:7687", "***@host:7687"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_user_and_password(uri: str, shown: str) -> None:
    """An address is printed without user and password."""
    assert redacted(uri) == shown


def test_models_dicts_objects_and_api_rows_convert_to_the_same_row() -> None:
    """Models, their dicts, plain objects and API rows convert to the same row."""
    row = {
        "studyKey": "S1", "recordId": 5, "formKey": "VS", "subjectId": 11, "visitId": 3,
        "dateModified": "2024-11-04 16:03:19", "deleted": False,
        "recordData": {"AETERM": "x", "labs": {"hgb": 13.2}},
    }  # fmt: skip
    model = Record.from_json(row)
    forms = [
        row, model, model.model_dump(exclude_unset=True),
        SimpleNamespace(
            study_key="S1", record_id=5, form_key="VS", subject_id=11, visit_id=3, deleted=False,
            date_modified=datetime(2024, 11, 4, 16, 3, 19, tzinfo=UTC),
            record_data=row["recordData"],
        ),
    ]  # fmt: skip
    assert [api_object(RECORD, form) == row for form in forms] == [True] * 4
    with pytest.raises(InvalidEventError):
        api_object(RECORD, object())


def test_what_cannot_be_stored_is_named_by_its_id_and_the_rest_is_kept() -> None:
    """A record that cannot be stored is named by its id, and the rest is kept."""
    records = [
        record_row(1), record_row(2, recordData={"A": 2**70}), {"formKey": "VS"}, "no record",
        record_row(3, studyKey="OTHER"), record_row(4, recordData={"A": float("inf")}),
    ]  # fmt: skip
    rows, refused = api_objects(RECORD, records)
    assert [(each.id, each.reason) for each in refused] == [(None, "row")]
    unreadable = UnreadableRow(b"\xff", 7)
    found = changes_of(RECORD, [*rows, "no row", unreadable], "S1", lambda _: 1)
    assert [identity.id for identity in found.newest] == [1]
    assert [(each.id, each.reason) for each in found.refused] == [
        (2, "content"), (None, "id"), (3, "study"), (4, "content"), (None, "row"),
        (7, "unparsable"),
    ]  # fmt: skip


def test_a_record_whose_values_cannot_be_converted_costs_only_itself() -> None:
    """A record whose values cannot be converted is refused; the others are kept."""
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-6)))
    records = [record_row(1, recordData={"A": deep}), record_row(2, recordData={"A": last})]
    rows, refused = api_objects(RECORD, [*records, record_row(3)])
    assert [(each.id, each.reason) for each in refused] == [(None, "row")]
    assert [row["recordId"] for row in rows] == [2, 3]
    assert rows[0]["recordData"]["A"] == "9999-12-31T23:59:59-06:00"


def test_a_refused_record_implies_no_parents() -> None:
    """A refused record, such as one of another study, implies no subject and no visit."""
    rows = [record_row(1, studyKey="OTHER", subjectId=99), record_row(2)]
    found = changes_of(RECORD, rows, "S1", lambda _: 1)
    subjects = [each.identity for each in parent_changes(found.rows, "S1")][1:]
    assert [each.id for each in subjects] == [11, 5]


def test_a_server_that_is_short_of_memory_for_a_moment_does_not_end_an_export() -> None:
    """A step that is too large at the moment is tried again, as in any other outage."""
    errors: list[Exception] = [BatchTooLargeError("no memory"), RetryableError("deadlock")]

    def step() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert Attempts(SinkConfig(max_retries=2), FakeClock()).until_done(step, "S1/0") == "done"


def test_records_imply_their_study_subject_and_visit_at_version_0() -> None:
    """The study, subject and visit that records imply get version 0, below any real one."""
    derived = parent_changes([record_row(1), record_row(2, visitId=None, subjectId=0)], "S1")
    assert [(each.identity.entity, each.version) for each in derived] == [
        ("study", 0), ("subject", 0), ("visit", 0),
    ]  # fmt: skip
    assert derived[1].properties["subject_key"] == "003-11"


@pytest.mark.parametrize("uri", ["http://host:7474", "https://host", "bolts://host", "host:7687"])
def test_an_address_with_another_scheme_is_refused_with_the_valid_schemes(uri: str) -> None:
    """An address that is not Neo4j's is refused with the list of valid schemes."""
    with pytest.raises(ExportConfigurationError, match=r"Cannot connect.*bolt, .*neo4j\+ssc$"):
        Neo4jExportSink(uri, ("neo4j", "p4ss"), "S1")


def test_pages_are_combined_into_batches_and_each_row_keeps_its_pages_clock() -> None:
    """Each row keeps its page's clock: a newer page may list a row of an older one again."""

    def read(server_ms: int, *rows: int) -> ReadPage:
        page = Page(server_ms, 0, list(rows), took_ms=1)
        track = Track(ENTITIES["record"], Mode.FULL)
        return ReadPage(track, PassPosition(), page, [], PassPosition())

    pages = [read(11, 1, 2, 3), read(21), read(31, 4, 5), read(41, 6)]
    assert batches_of(pages, 9) == [[([1, 2, 3], 10), ([4, 5], 30), ([6], 40)]]
    assert batches_of(pages, 4) == [[([1, 2, 3], 10), ([4], 30)], [([5], 30), ([6], 40)]]
    assert batches_of(pages, 2) == [[([1, 2], 10)], [([3], 10), ([4], 30)], [([5], 30), ([6], 40)]]
    assert batches_of([], 2) == []


def part(size_bytes: int, *results: Refusal | None) -> Part:
    futures: list[Future[Refusal | None]] = []
    for result in results:
        futures.append(Future())
        futures[-1].set_result(result)
    return Part(futures, size_bytes, Cursor(study_key="S1"), {}, {})


def test_four_parts_are_in_flight_or_fewer_if_they_are_large() -> None:
    """Memory is bounded, whatever the size of a row."""
    small, large = PartsInFlight(), PartsInFlight()
    for _ in range(3):
        small.add(part(1000))
        assert list(small.ended()) == []
    small.add(part(1000))
    assert len(list(small.ended())) == 1
    large.add(part(20_000_000))
    assert list(large.ended()) == []
    large.add(part(20_000_000))
    assert len(list(large.ended())) == 1
    assert len(list(small.ended(all_parts=True))) == 3


def test_what_a_part_could_not_store_is_known_once_the_parts_before_it_are_written() -> None:
    """A resumed export writes later parts again: a record may have been corrected by then."""
    parts = PartsInFlight()
    refusal = Refusal("S1/records/1", "record 7 cannot be stored")
    parts.add(part(1, None))
    parts.add(part(1, None, refusal))
    assert [found for _, found in parts.ended(all_parts=True)] == [[], [refusal]]
