"""The export on a real Neo4j: what the SDK's own module tested, and the defects it had."""

import io
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from imednet import ImednetSDK
from imednet.models.records import Record

from connector.config import Neo4jSettings
from connector.export import (
    ExportBatchError,
    ExportConfigurationError,
    ExportError,
    Neo4jExportSink,
    Neo4jSinkConfig,
    export_to_neo4j,
)
from connector.export.neo4j_sink import redacted
from connector.lab.servers.processes import free_port
from connector.lab.simulator.api import API_KEY, SECURITY_KEY, Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from connector.ops.compare import compare
from tests.builders import record_row
from tests.exporting import Open, count, node, rows
from tests.programs import (
    consumed_all,
    imednet,
    passes,
    run_program,
    running,
    source_environment,
    wait_until,
)
from tests.proxy import cutting

pytestmark = pytest.mark.servers
MODES = pytest.mark.parametrize("idempotent", [True, False], ids=["merge", "create"])
NOW_MS = round(time.time() * 1000)


# ------------------------------------------------------------- what the SDK's module tested


def test_a_batch_is_written_and_counted_an_empty_one_is_nothing(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """A batch is written and counted; an empty batch counts 0."""
    with sink_to() as sink:
        assert sink.write_batch(rows(study, *range(1, 6)), batch_id=f"{study}/records/0") == 5
        assert sink.write_batch([], batch_id=f"{study}/records/1") == 0
    assert count(database, study) == 5


def test_closing_twice_is_safe_and_a_closed_sink_says_so_at_once(sink_to: Open, study: str) -> None:
    """Closing twice is safe, and a closed sink refuses to write at once, without retries."""
    sink = sink_to(max_retries=5, retry_backoff=5)
    sink.close()
    sink.close()
    began = time.monotonic()
    with pytest.raises(ExportError, match="closed"):
        sink.write_batch(rows(study, 1), batch_id="b")
    assert time.monotonic() - began < 1


def test_closing_waits_for_a_call_of_another_thread_and_breaks_no_connection_under_it(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """``close`` waits for another thread's call, which then ends with a clear error."""
    sink, outcome = sink_to(), list[BaseException]()

    def write() -> None:
        try:
            sink.write_batch(rows(study, 1), batch_id="b")
        except BaseException as error:  # noqa: BLE001 - looked at below
            outcome.append(error)

    writing, closing = threading.Thread(target=write), threading.Thread(target=sink.close)
    with database._session("WRITE") as session, session.begin_transaction() as holding:
        holding.run("CREATE (:Study {study_key: $study})", study=study).consume()
        writing.start()
        waits = "SHOW TRANSACTIONS YIELD status, metaData WHERE metaData.export = $study"
        waits += " AND status STARTS WITH 'Blocked' RETURN count(*)"
        wait_until(lambda: database.read(waits, study=study) == [[1]], 20, "the writer waits")
        closing.start()
        closing.join(0.3)
        assert closing.is_alive()
        holding.rollback()
    for thread in (writing, closing):
        thread.join(20)
        assert not thread.is_alive()
    assert [(type(error), str(error)) for error in outcome] == [
        (ExportError, "the export sink is closed")
    ]
    assert database.read("MATCH (n:Study {study_key: $s}) RETURN count(n)", s=study) == [[1]]


def test_models_and_rows_of_one_record_are_one_node(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """A model and an API row of the same record are one node."""
    row = record_row(1, studyKey=study)
    with sink_to() as sink:
        assert sink.write_batch([Record.from_json(row)], batch_id="b") == 1
        before = node(database, study, 1)
        assert sink.write_batch([row], batch_id="b") == 1
    assert node(database, study, 1) == before
    assert (before["form_key"], before["SYSBP"]) == ("VS", "120")


# ------------------------------------------------------------- defects of the SDK's module


@MODES
def test_1_a_lost_acknowledgement_is_no_success_and_a_repeat_duplicates_nothing(
    sink_to: Open, neo4j_settings: Neo4jSettings, database: Neo4jDatabase, study: str,
    idempotent: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """A lost acknowledgement does not count as success, and a retry duplicates nothing."""
    batch = rows(study, *range(1, 200))
    with cutting(neo4j_settings.uri, b"CREATE (n:Record)") as (proxy, uri):
        with sink_to(uri, idempotent=idempotent) as sink:
            proxy.cuts = 1
            assert sink.write_batch(batch, batch_id="b") == 199
            assert proxy.done == 1
        assert count(database, study) == 199
        with sink_to(uri, idempotent=idempotent, max_retries=0) as sink:
            proxy.cuts = 1
            with pytest.raises(ExportBatchError, match="failed 1 times") as caught:
                sink.write_batch(rows(study, 1000), batch_id="S/records/7")
            assert caught.value.batch_id == "S/records/7"
    assert count(database, study) in {199, 200}  # the commit of the last one is in doubt


def test_2_subjects_that_share_a_visit_id_are_not_mixed_up_and_a_blank_visit_makes_no_node(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """Subjects that share a visit id are kept apart, and a blank visit id creates no visit."""
    with sink_to() as sink:
        sink.write_batch(rows(study, 1, visitId=10, subjectId=1, subjectKey="A"), batch_id="b")
        sink.write_batch(rows(study, 2, visitId=10, subjectId=2, subjectKey="B"), batch_id="b")
        sink.write_batch(
            rows(study, 3, visitId=None, subjectId=1, subjectKey="A")
            + rows(study, 4, visitId=0, subjectId=2, subjectKey="B"),
            batch_id="b",
        )
    found = database.read(
        "MATCH (:Study {study_key: $study})-[:HAS_SUBJECT]->(s:Subject)-[:HAS_VISIT|HAS_RECORD*1..2]"
        "->(r:Record) RETURN s.subject_key, collect(DISTINCT r.record_id) ORDER BY s.subject_key",
        study=study,
    )
    assert [(key, sorted(ids)) for key, ids in found] == [("A", [1, 3]), ("B", [2, 4])]
    assert count(database, study, "Visit") == 1


def test_3_4_records_of_no_subject_hang_on_their_site_with_all_their_properties(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """Records without a subject hang on their site and keep all their properties."""
    with sink_to() as sink:
        sink.write_batch(
            rows(study, 1, subjectId=None, subjectKey="", visitId=None, recordStatus="Complete"),
            batch_id="b",
        )
    assert count(database, study, "Subject") == 0
    assert database.read(
        "MATCH (s:Site)-[:HAS_RECORD]->(r:Record {study_key: $study}) RETURN s.site_id", study=study
    ) == [[3]]
    found = node(database, study, 1)
    assert (found["form_id"], found["record_status"], found["deleted"]) == (7, "Complete", False)
    assert found["date_modified"] == "2024-11-04 16:03:19"


def test_5_variables_never_overwrite_keys_and_disappear_when_removed(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """Variables never overwrite keys, and disappear when a newer state lacks them."""
    named = {"record_id": "X", "study_key": "OTHER", "dateModified": "then", "AETERM": "a"}
    with sink_to() as sink:
        sink.write_batch(rows(study, 1, recordData=named), batch_id="b", read_at_ms=10_000)
        found = node(database, study, 1)
        assert (found["record_id"], found["study_key"]) == (1, study)
        assert (found["var_record_id"], found["var_study_key"]) == ("X", "OTHER")
        sink.write_batch(rows(study, 1, recordData={"B": "b"}), batch_id="b", read_at_ms=20_000)
    found = node(database, study, 1)
    assert found["B"] == "b"
    assert "AETERM" not in found


@MODES
def test_6_a_record_that_cannot_be_stored_is_named_and_all_others_are_written(
    sink_to: Open, database: Neo4jDatabase, study: str, caplog: pytest.LogCaptureFixture,
    idempotent: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """A record that cannot be stored is named with its reason, and all others are written."""
    secret = "SECRETVALUE"
    batch = rows(study, *range(1, 60), recordData={"labs": {"hgb": 13.2}, "mixed": [1, "a"]})
    batch[20]["recordData"] = {"A": 2**70, "B": secret}
    batch[40]["recordData"] = {"": secret}
    batch[50]["formKey"] = secret * 10_000  # too large for the server's index
    with sink_to(idempotent=idempotent) as sink:
        with pytest.raises(
            ExportBatchError, match=r"21 \(content\), 41 \(property_name\), 51 \(index_size\)"
        ) as caught:
            sink.write_batch(batch, batch_id=f"{study}/records/0")
        assert secret not in str(caught.value)
    assert count(database, study) == 56
    assert node(database, study, 1)["labs"] == '{"hgb":13.2}'
    assert secret not in caplog.text


def test_7_constraints_are_made_where_they_are_missing(
    sink_to: Open, database: Neo4jDatabase
) -> None:
    """Opening a sink creates missing constraints."""
    database._driver.execute_query("DROP CONSTRAINT imednet_visit_key")
    with sink_to():
        assert database.missing_schema() == []


def test_8_an_older_reading_never_overwrites_a_newer_one_and_a_move_leaves_no_trace(
    sink_to: Open, database: Neo4jDatabase, study: str
) -> None:
    """An older state never overwrites a newer one, and a moved record keeps only its new link."""
    with sink_to() as sink:
        sink.write_batch(rows(study, 1, recordStatus="new"), batch_id="b", read_at_ms=50_000)
        sink.write_batch(rows(study, 1, recordStatus="old"), batch_id="b", read_at_ms=40_000)
        assert node(database, study, 1)["record_status"] == "new"
        # Records without a read time: handed over now, they are only as new as their own date.
        sink.write_batch(rows(study, 1, recordStatus="old"), batch_id="b")
        sink.write_batch(
            rows(study, 1, recordStatus="newest", dateModified="2024-11-04 16:03:20"), batch_id="b"
        )
        sink.write_batch(rows(study, 1, recordStatus="old"), batch_id="b")
        assert node(database, study, 1)["record_status"] == "newest"
        moved = rows(study, 1, visitId=6, subjectId=12, subjectKey="003-12", deleted=True)
        sink.write_batch(moved, batch_id="b", read_at_ms=NOW_MS)
    assert database.read(
        "MATCH (n)-[:HAS_RECORD]->(:Record {study_key: $study}) RETURN labels(n), n.visit_id",
        study=study,
    ) == [[["Visit"], 6]]
    assert node(database, study, 1)["deleted"] is True


def test_9_permanent_errors_are_not_retried(neo4j_settings: Neo4jSettings, study: str) -> None:
    """A wrong password fails at once, whatever the retry settings."""
    began = time.monotonic()
    config = Neo4jSinkConfig(max_retries=9, retry_backoff=9)
    with pytest.raises(ExportConfigurationError, match="Cannot connect to Neo4j"):
        Neo4jExportSink(neo4j_settings.uri, ("neo4j", "wrong"), study, config=config)
    assert time.monotonic() - began < 5


@MODES
def test_10_a_second_run_changes_nothing_at_all(
    sink_to: Open, database: Neo4jDatabase, study: str,
    idempotent: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Writing the same records again changes nothing."""
    batch = rows(study, *range(1, 300))
    with sink_to(idempotent=idempotent) as sink:
        sink.write_batch(batch, batch_id="b")
    before = read_graph(database, study)
    with sink_to(idempotent=idempotent) as sink:
        assert sink.write_batch(batch, batch_id="b") == 299
    assert read_graph(database, study).digest() == before.digest()
    assert len(before.relationships) == 299 + 3  # HAS_SUBJECT, HAS_VISIT, AT_SITE


def test_11_user_password_and_keys_are_in_no_text(
    neo4j_settings: Neo4jSettings, sink_to: Open, auth: tuple[str, str], study: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """No error, log line or repr contains a user's password or key."""
    caplog.set_level(logging.DEBUG)
    texts = [repr(sink_to()), repr(Neo4jSinkConfig())]
    host = neo4j_settings.uri.removeprefix("bolt://")
    for uri, password in (
        (f"bolt://somebody:pass/word@{host}", auth[1]), (f"bolt://127.0.0.1:{free_port()}", "p4ss"),
        (neo4j_settings.uri, "wr0ng"), ("nonsense://x", "p4ss"), ("", "p4ss"),
        ("somebody:pass/word@host:7687", "p4ss"),
    ):  # fmt: skip
        with pytest.raises(ExportConfigurationError) as caught:
            Neo4jExportSink(uri, ("somebody", password), study)
        texts += [str(caught.value), repr(caught.value), repr(caught.value.__context__)]
    text = "\n".join([*texts, caplog.text])
    for secret in (auth[1], "p4ss", "wr0ng", "pass/word", "somebody:"):
        assert secret not in text
    assert redacted(neo4j_settings.uri) in texts[0]


def test_12_the_documented_usage_runs(
    neo4j_settings: Neo4jSettings, auth: tuple[str, str], study: str
) -> None:
    """The documented usage works."""
    with Neo4jExportSink(neo4j_settings.uri, auth, study) as sink:
        assert sink.write_batch(rows(study, 1), batch_id=f"{study}/records/0") == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_13_transient_errors_are_retried_as_often_as_configured(
    sink_to: Open, neo4j_settings: Neo4jSettings, study: str, retries: int
) -> None:
    """A transient error is retried ``max_retries`` times, then raised."""
    with cutting(neo4j_settings.uri, b":Record") as (proxy, uri):
        with sink_to(uri, max_retries=retries) as sink:
            proxy.cuts = 100
            with pytest.raises(ExportBatchError, match=f"failed {retries + 1} times"):
                sink.write_batch(rows(study, 1), batch_id="b")
        assert proxy.done == retries + 1


# --------------------------------------------------------------------------- a whole study


@MODES
def test_an_exported_study_equals_the_api_and_a_second_export_changes_nothing(
    sdk: ImednetSDK, api: str, neo4j_settings: Neo4jSettings, auth: tuple[str, str], database: Neo4jDatabase,
    study: str, idempotent: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """An exported study equals the API, and a second export changes nothing."""
    config = Neo4jSinkConfig(idempotent=idempotent)
    total = export_to_neo4j(sdk, study, neo4j_settings.uri, auth, config=config)
    assert total == count(database, study) >= 1400
    assert compare(imednet(api), neo4j_settings, study).different == 0
    before = read_graph(database, study).digest()
    assert export_to_neo4j(sdk, study, neo4j_settings.uri, auth, config=config) == total
    assert read_graph(database, study).digest() == before


def test_14_an_interrupted_export_resumes_where_it_stopped(
    sdk: ImednetSDK, api: str, simulation: Simulation, neo4j_settings: Neo4jSettings, auth: tuple[str, str],
    study: str,
) -> None:  # fmt: skip
    """An interrupted export resumes without reading the finished kinds again."""
    config = Neo4jSinkConfig(max_retries=0)
    done = threading.Event()

    def break_off() -> None:
        while not any(a.path.endswith("records") for a in list(simulation.answered)):
            done.wait(0.001)
        simulation.faults.shares = {"server_error": 1.0}

    breaking = threading.Thread(target=break_off)
    breaking.start()
    with pytest.raises(ExportError, match="HTTP 503"):
        export_to_neo4j(sdk, study, neo4j_settings.uri, auth, config=config)
    done.set()
    breaking.join()
    simulation.faults.shares = {}
    simulation.answered.clear()
    export_to_neo4j(sdk, study, neo4j_settings.uri, auth, config=config)
    asked = {answer.path.rpartition("/")[2] for answer in simulation.answered}
    assert not asked & {"sites", "subjects", "visits"}
    assert compare(imednet(api), neo4j_settings, study).different == 0


def test_a_broken_answer_is_read_again(
    sdk: ImednetSDK, api: str, simulation: Simulation, neo4j_settings: Neo4jSettings, auth: tuple[str, str],
    study: str,
) -> None:  # fmt: skip
    """Failed and truncated answers are requested again until the study is complete."""
    simulation.faults.shares = {"server_error": 0.2, "truncated": 0.2}
    config = Neo4jSinkConfig(max_retries=30, retry_backoff=0.01)
    export_to_neo4j(sdk, study, neo4j_settings.uri, auth, config=config)
    simulation.faults.shares = {}
    assert compare(imednet(api), neo4j_settings, study).different == 0


def test_concurrent_exports_and_a_stream_make_one_graph(
    sdk: ImednetSDK, api: str, simulation: Simulation, neo4j_settings: Neo4jSettings, auth: tuple[str, str],
    environment: dict[str, str], topics: dict[str, str], kafka_settings: Any, study: str,
    database: Neo4jDatabase, tmp_path: Path,
) -> None:  # fmt: skip
    """Two concurrent exports and a live stream leave a graph that equals the API."""
    del database  # has the constraints, without which the sink does not start
    # No deletes: a row that only the export saw would be deleted by nobody.
    edits = simulation.workloads[0]
    edits.hard_delete = lambda: None  # type: ignore[method-assign]
    edits._remove = lambda *_: None  # type: ignore[method-assign]
    simulation.edits_per_second = 50
    variables = environment | topics | source_environment(api, study, tmp_path)
    variables |= {"SINK_GROUP_ID": study}
    with (
        running("source", variables, tmp_path / "source.log") as source,
        running("sink", variables, tmp_path / "sink.log"),
    ):
        failed: list[BaseException] = []

        def export(*, idempotent: bool) -> None:
            try:
                config = Neo4jSinkConfig(idempotent=idempotent)
                export_to_neo4j(sdk, study, neo4j_settings.uri, auth, config=config)
            except BaseException as error:  # noqa: BLE001 - raised below
                failed.append(error)

        exports = [
            threading.Thread(target=export, kwargs={"idempotent": each}) for each in (True, False)
        ]
        for each in exports:
            each.start()
        for each in exports:
            each.join()
        assert not failed
        simulation.edits_per_second = 0
        done = passes(source.log)
        wanted = done() + 4
        wait_until(lambda: done() >= wanted, 90, "passes after the edits")
        wait_until(consumed_all(kafka_settings, study), 60, "the group's lag is 0")
    result = compare(imednet(api), neo4j_settings, study)
    assert result.different == 0, result.examples
    export_to_neo4j(sdk, study, neo4j_settings.uri, auth)
    assert compare(imednet(api), neo4j_settings, study).different == 0


def test_queries_written_for_the_earlier_graph_return_the_right_rows(
    sdk: ImednetSDK, api: str, simulation: Simulation, neo4j_settings: Neo4jSettings, auth: tuple[str, str],
    database: Neo4jDatabase, study: str, sink_to: Open,
) -> None:  # fmt: skip
    """Queries written for the earlier module's graph return the right rows."""
    table = simulation.studies[study].table("records")
    expected = sorted(
        (row["subjectKey"], row["recordId"], row["recordData"]["SYSBP"])
        for row in table.rows()
        if row["visitId"] and row["formKey"] == "VS"
    )
    query = (
        "MATCH (:Study {study_key: $study})-[:HAS_SUBJECT]->(s:Subject)-[:HAS_VISIT]->(:Visit)"
        "-[:HAS_RECORD]->(r:Record {form_key: 'VS'}) RETURN s.subject_key, r.record_id, r.SYSBP"
    )
    with sink_to() as sink:  # records only, as the SDK's module wrote them
        sink.write_batch(list(table.rows()), batch_id="b")
    assert len(expected) > 100
    assert sorted(map(tuple, database.read(query, study=study))) == expected
    texts = Neo4jSinkConfig(typed_values=False)  # as that module stored them
    export_to_neo4j(sdk, study, neo4j_settings.uri, auth, config=texts)
    assert sorted(map(tuple, database.read(query, study=study))) == expected
    assert compare(imednet(api), neo4j_settings, study, typed_values=False).different == 0
    export_to_neo4j(sdk, study, neo4j_settings.uri, auth)
    typed = [(subject, record, float(text)) for subject, record, text in expected]
    assert sorted(map(tuple, database.read(query, study=study))) == sorted(typed)
    assert compare(imednet(api), neo4j_settings, study).different == 0


# ------------------------------------------------------------------------------- the command


@pytest.fixture
def given(api: str, environment: dict[str, str], database: Neo4jDatabase) -> dict[str, str]:
    assert database
    return environment | {
        "IMEDNET_BASE_URL": api, "IMEDNET_API_KEY": API_KEY, "IMEDNET_SECURITY_KEY": SECURITY_KEY,
        "NEO4J_CONNECT_TIMEOUT_SECONDS": "3",
    }  # fmt: skip


def test_the_command_exports_and_says_how_many(
    given: dict[str, str], study: str, database: Neo4jDatabase, tmp_path: Path
) -> None:
    """The command exports a study and prints the number of records."""
    file = tmp_path / "password"
    file.write_text(given["NEO4J_PASSWORD"] + "\n")
    with_file = {name: value for name, value in given.items() if name != "NEO4J_PASSWORD"}
    done = run_program(f"export {study} --create --password-file {file}", with_file)
    assert done.returncode == 0, done.stderr
    assert f"{count(database, study):,} records exported" in done.stdout


def test_a_dry_run_shows_statements_and_samples_and_writes_nothing(
    given: dict[str, str], study: str, database: Neo4jDatabase
) -> None:
    """``--dry-run`` prints statements and samples and writes nothing."""
    done = run_program(f"export {study} --dry-run", given)
    assert done.returncode == 0, done.stderr
    assert "CREATE (n:Record)" in done.stdout
    assert "MERGE (n:Record" in done.stdout
    assert done.stdout.count('"record_oid"') == 3
    assert count(database, study) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"NEO4J_PASSWORD": "wr0ng"}, "Cannot connect to Neo4j"),
        ({"NEO4J_URI": f"bolt://127.0.0.1:{free_port()}"}, "does not respond"),
        ({"IMEDNET_API_KEY": "wr0ng"}, "Check IMEDNET_API_KEY"),
        ({"NEO4J_PASSWORD": ""}, "Set NEO4J_PASSWORD"),
    ],
    ids=["password", "address", "key", "no password"],
)
def test_bad_input_is_one_clear_line(
    given: dict[str, str], study: str, changed: dict[str, str], message: str
) -> None:
    """Bad input ends the command with one clear line that contains no secret."""
    done = run_program(f"export {study}", given | changed)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "wr0ng" not in done.stderr


def test_an_unknown_study_and_an_empty_one(given: dict[str, str], study: str) -> None:
    """An unknown study is an error; an empty one exports 0 records."""
    assert "not known" in run_program("export NOPE", given).stderr
    empty = build_study(study + "E", 1, 1, 1)
    for name, table in empty.tables.items():
        if name != "users":
            for each in list(table.ids):
                table.remove(each)
    with serving(Simulation({empty.key: empty})) as api:
        done = run_program(f"export {empty.key}", given | {"IMEDNET_BASE_URL": api})
    assert (done.returncode, done.stdout) == (0, f"study {empty.key}: 0 records exported\n")


def test_a_record_that_cannot_be_stored_is_named_by_the_command(
    given: dict[str, str], study: str, simulation: Simulation, database: Neo4jDatabase
) -> None:
    """The command names a record that cannot be stored by its id, not by its content."""
    table = simulation.studies[study].table("records")
    row = table.get(7)
    row["recordData"][""] = "SECRETVALUE"
    table.put(row)
    done = run_program(f"export {study}", given)
    assert done.returncode == 1
    assert "records cannot be stored: 7 (property_name)" in done.stderr
    assert "SECRETVALUE" not in done.stderr
    assert count(database, study) == len(table.ids)  # a stub for its revisions


def test_logs_hold_no_content(caplog: pytest.LogCaptureFixture, sink_to: Open, study: str) -> None:
    """No log line of an export contains record content, not even at debug level."""
    stream = io.StringIO()
    logging.getLogger().addHandler(handler := logging.StreamHandler(stream))
    caplog.set_level(logging.DEBUG)
    with sink_to() as sink:
        sink.write_batch(rows(study, 1, recordData={"A": "SECRETVALUE"}), batch_id="b")
    logging.getLogger().removeHandler(handler)
    assert "SECRETVALUE" not in caplog.text + stream.getvalue()
