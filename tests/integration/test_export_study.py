"""Exports of a whole study: resumed, incomplete, and after rows have vanished."""

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from imednet import ImednetSDK
from imednet.models.records import Record
from structlog.testing import capture_logs

from connector.config import Neo4jSettings
from connector.errors import ResourceDeniedError, RetryableError
from connector.export import (
    ExportBatchError,
    ExportError,
    ExportIncompleteError,
    Neo4jSinkConfig,
    export_to_neo4j,
)
from connector.export.study import StudyExport
from connector.interfaces import Page, PageRequest
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.study import build_study
from connector.model.entities import ENTITIES, READ_KINDS
from connector.model.graph import node_change
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from connector.neo4j.statement import Statement
from connector.neo4j.writer import Neo4jGraphWriter
from connector.ops.compare import compare
from tests.builders import upsert
from tests.exporting import QUICK, Open, count, rows
from tests.fakes.clock import FakeClock
from tests.fakes.simulated_api import SimulatedApi
from tests.programs import imednet, run_program

pytestmark = pytest.mark.servers


class World:
    """A simulated study with three pages of records, read in memory on a fake clock."""

    def __init__(self, study: str, sink_to: Open) -> None:
        self.clock = FakeClock()
        self.study = build_study(study, 20, 1200, 7)
        sites = self.study.table("sites")
        for number in range(1, 20):
            sites.put(sites.get(sites.ids[0]) | {"siteId": sites.ids[-1] + number})
        self.api = SimulatedApi(self.study, self.clock)
        self._sink_to = sink_to

    def export(self, *kinds: str, **config: Any) -> int:
        self.api.requests.clear()
        with self._sink_to(**{"max_retries": 0, **config}) as sink:
            self.last = StudyExport(
                self.api, sink, clock=self.clock, **({"kinds": kinds} if kinds else {})
            )
            return self.last.run()

    def asked(self) -> list[str]:
        return [request.resource for request in self.api.requests]

    @property
    def records(self) -> int:
        return len(self.study.table("records").ids)

    def interrupt_after(self, resource: str, pages: int) -> None:
        """Run an export that fails after this many pages of the resource."""

        def before() -> None:
            if self.asked().count(resource) >= pages:
                raise RetryableError("the API is down")

        self.api.before = before
        with pytest.raises(ExportError, match="the API is down"):
            self.export()
        self.api.before = lambda: None


@pytest.fixture
def world(study: str, sink_to: Open) -> World:
    return World(study, sink_to)


# ------------------------------------------------------------------------------------ resuming


def test_a_resumed_export_reads_the_rest_alone_and_counts_the_whole(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """A resumed export reads only the rest and counts the whole."""
    world.interrupt_after("records", 2)
    world.clock.advance(3599)
    assert world.export() == world.records == count(database, study)
    rest = {"records", "recordRevisions", "queries", "codings"}
    assert set(world.asked()) == rest
    assert world.asked().count("records") < 3
    assert world.last.counts["visit"] == len(world.study.table("visits").ids)


def test_an_export_that_was_interrupted_an_hour_ago_starts_over_and_logs_it(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """An export that was interrupted an hour ago starts over and logs that."""
    world.interrupt_after("recordRevisions", 1)
    table = world.study.table("records")
    row = table.get(table.ids[0])
    table.put(row | {"recordStatus": "of today"})
    world.clock.advance(3600)
    with capture_logs() as logs:
        assert world.export() == world.records
    assert {"", "sites", "subjects", "visits", "records"} <= set(world.asked())
    assert [each for each in logs if "started over" in each["event"]]
    assert database.read(
        "MATCH (n:Record {study_key: $study, record_status: 'of today'}) RETURN count(n)",
        study=study,
    ) == [[1]]


def test_an_export_leaves_out_personal_data_if_told_to(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """Names and addresses of users are left out; an export with them adds them."""
    find = "MATCH (n:User {study_key: $study}) RETURN n.login IS NOT NULL, n.first_name, n.email"
    world.export("user", omit_personal_data=True)
    found = database.read(find, study=study)
    assert found
    assert {tuple(each) for each in found} == {(True, None, None)}
    world.clock.advance(60)
    world.export("user")
    assert all(name and email for _, name, email in database.read(find, study=study))


def test_a_resume_position_of_an_earlier_version_is_not_used(
    world: World, database: Neo4jDatabase
) -> None:
    """A resume position without a timestamp, as an earlier version wrote it, is not used."""
    world.interrupt_after("recordRevisions", 1)
    forget = "UNWIND $batch.rows AS row MATCH (n:_ImednetExport {study_key: row}) REMOVE n.written_ms, n.progress"
    database.write(Statement(forget, [world.study.key]), {})
    assert world.export() == world.records
    assert "visits" in world.asked()


def test_a_resumed_export_names_the_records_that_the_interrupted_one_could_not_store(
    world: World,
) -> None:
    """A resumed export also names the records that the interrupted one could not store."""
    table = world.study.table("records")
    table.put(table.get(table.ids[0]) | {"recordData": {"": "SECRETVALUE"}})
    world.interrupt_after("recordRevisions", 1)
    with pytest.raises(ExportBatchError, match=rf"{table.ids[0]} \(property_name\)"):
        world.export()


# ------------------------------------------------------------------------------ forbidden kinds


def forbidding(world: World, *resources: str) -> None:
    read = world.api.read

    def refused(request: PageRequest) -> Page:
        if request.resource in resources:
            raise ResourceDeniedError(f"study S, {request.resource}: HTTP 403: not for you")
        return read(request)

    world.api.read = refused  # type: ignore[method-assign]


def test_a_forbidden_kind_is_named_at_the_end_and_all_others_are_exported(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """A kind that the API forbids is named at the end, and all others are exported."""
    forbidding(world, "visits", "recordRevisions")
    with pytest.raises(ExportIncompleteError) as caught:
        world.export()
    assert set(caught.value.failed) == {"visit", "record_revision"}
    assert caught.value.exported["record"] == world.records == count(database, study)
    assert "visits not exported: study S, visits: HTTP 403: not for you" in str(caught.value)
    assert f"records ({world.records:,})" in str(caught.value)
    assert database.read("MATCH (n:_ImednetExport {study_key: $s}) RETURN n", s=study) == []


# ---------------------------------------------------------------------------------- typed values


def numbers_and_texts(database: Neo4jDatabase, study: str) -> tuple[int, int]:
    """The records whose systolic pressure is a number, and those whose it is a text."""
    query = (
        "MATCH (n:Record {study_key: $study}) WHERE n.SYSBP IS NOT NULL"
        " RETURN n.SYSBP IS :: STRING, count(n)"
    )
    found = dict(database.read(query, study=study))
    return found.get(False, 0), found.get(True, 0)


def edit_all(world: World) -> None:
    table = world.study.table("records")
    for each in table.ids:
        table.put(table.get(each) | {"recordStatus": f"at {world.clock.now_ms()}"})


@pytest.mark.parametrize("kinds", [(), ("record",)])
@pytest.mark.parametrize("answer", ["denied", "empty"])
def test_without_the_apis_definitions_an_export_types_as_the_graph_does(
    world: World, database: Neo4jDatabase, study: str, kinds: tuple[str, ...], answer: str
) -> None:
    """If the API denies the variables or lists none, no typed value becomes a text."""
    world.export()
    before = numbers_and_texts(database, study)
    assert before[0] >= 100
    world.clock.advance(60)
    edit_all(world)
    if answer == "denied":
        forbidding(world, "variables")
    else:
        variables = world.study.table("variables")
        for each in list(variables.ids):
            variables.remove(each)
    with pytest.raises(ExportIncompleteError) as caught:
        world.export(*kinds)
    assert "variable" in caught.value.failed
    assert numbers_and_texts(database, study) == before
    assert caught.value.exported["record"] == world.records


def test_an_export_types_by_definitions_that_changed_while_it_ran(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """A stream has written a newer definition and the records that it affects: they stay so."""
    world.export()
    assert numbers_and_texts(database, study)[0] >= 100
    variables = world.study.table("variables")
    row = next(row for row in variables.rows() if row["variableName"] == "SYSBP")

    def stream_changes_definition() -> None:
        world.api.before = lambda: None
        change = node_change(
            upsert(row | {"variableType": "TEXT"}, world.clock.now_ms() + 1000, "variable", study)
        )
        Neo4jGraphWriter(database, {}).write([change])

    def before() -> None:
        if world.asked()[-1:] == ["visits"]:
            stream_changes_definition()

    world.api.before = before
    world.clock.advance(60)
    edit_all(world)
    world.export()
    assert numbers_and_texts(database, study)[0] == 0


def test_records_handed_over_are_typed_as_the_graph_types_them(
    world: World, database: Neo4jDatabase, study: str, sink_to: Open
) -> None:
    """`write_batch` beside a stream leaves typed values typed."""
    world.export()
    before = numbers_and_texts(database, study)
    world.clock.advance(60)
    edit_all(world)
    rows_now = list(world.study.table("records").rows())
    with sink_to() as sink:
        count_written = sink.write_batch(rows_now, batch_id="b", read_at_ms=world.clock.now_ms())
    assert count_written == len(rows_now)
    assert numbers_and_texts(database, study) == before


def test_a_forbidden_study_is_an_immediate_error(world: World) -> None:
    """If the API forbids the study itself, the export fails at once."""
    forbidding(world, "")
    with pytest.raises(ExportError, match="HTTP 403") as caught:
        world.export()
    assert not isinstance(caught.value, ExportIncompleteError)
    assert world.asked() == []


@pytest.fixture
def given(api: str, environment: dict[str, str]) -> dict[str, str]:
    from connector.lab.simulator.api import API_KEY, SECURITY_KEY

    return environment | {
        "IMEDNET_BASE_URL": api, "IMEDNET_API_KEY": API_KEY, "IMEDNET_SECURITY_KEY": SECURITY_KEY,
    }  # fmt: skip


def test_the_command_says_for_each_kind_what_became_of_it(
    given: dict[str, str], simulation: Simulation, database: Neo4jDatabase, study: str
) -> None:
    """If a kind fails, the command prints the outcome of each kind."""
    del simulation.studies[study].tables["visits"]  # HTTP 404
    done = run_program(f"export {study}", given)
    assert done.returncode == 1
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert lines["records"].endswith(f"{count(database, study):,} exported")
    assert "not exported: Cannot read visits" in lines["visits"]
    assert "HTTP 404" in lines["visits"]
    assert "exported in part: visits not exported" in done.stderr.splitlines()[-1]


def test_the_command_exports_only_the_kinds_that_are_asked_for_and_the_study(
    given: dict[str, str], simulation: Simulation, database: Neo4jDatabase, study: str
) -> None:
    """``--kinds`` exports only the named kinds, and the study."""
    done = run_program(f"export {study} --kinds visit,site", given)
    assert done.returncode == 0, done.stderr
    asked = {answer.path.rpartition("/")[2] for answer in simulation.answered}
    assert asked == {"studies", "sites", "visits"}
    visits = len(simulation.studies[study].tables["visits"].ids)
    assert f"{visits:,} visits exported" in done.stdout
    assert count(database, study, "Visit") == visits


@pytest.mark.parametrize("kinds", ["record,vists", ","])
def test_an_unknown_kind_is_one_clear_line_that_lists_the_kinds(
    given: dict[str, str], study: str, kinds: str
) -> None:
    """An unknown kind is refused in one line that lists the valid kinds."""
    done = run_program(f"export {study} --kinds {kinds}", given)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert ", ".join(READ_KINDS) in line


# ------------------------------------------------------------------------------- vanished rows


def live(database: Neo4jDatabase, study: str, label: str = "Record") -> int:
    found: int = database.read(
        f"MATCH (n:{label} {{study_key: $study}}) WHERE n._version IS NOT NULL AND NOT n:Deleted"
        " RETURN count(n)",
        study=study,
    )[0][0]
    return found


def vanish(world: World, resource: str, number: int) -> None:
    table = world.study.table(resource)
    for each in list(table.ids)[3 : 3 + number]:
        table.remove(each)


def export_later(world: World, **config: Any) -> int:
    world.clock.advance(60)
    return world.export(**config)


@pytest.mark.parametrize("resource", ["records", "visits", "subjects", "sites", "recordRevisions"])
def test_what_the_api_has_lost_is_deleted_by_the_next_complete_export(
    world: World, database: Neo4jDatabase, study: str, resource: str
) -> None:
    """Rows that vanished from the API are deleted by the next complete export."""
    label = next(each.label for each in ENTITIES.values() if each.resource == resource)
    world.export()
    vanish(world, resource, 5)
    wanted = len(world.study.table(resource).ids)
    assert export_later(world, max_delete_ratio=1.0) == world.records
    assert live(database, study, label) == wanted
    assert database.read(
        f"MATCH (n:{label}:Deleted {{study_key: $study}}) RETURN count(n), collect(n.deleted)",
        study=study,
    ) == [[5, [True] * 5]]
    before = read_graph(database, study).digest()
    export_later(world)
    assert read_graph(database, study).digest() == before


def test_the_graph_equals_the_api_after_rows_of_every_kind_have_vanished(
    sdk: ImednetSDK, api: str, simulation: Simulation, neo4j_settings: Neo4jSettings,
    auth: tuple[str, str], study: str,
) -> None:  # fmt: skip
    """After rows of several kinds have vanished, an export makes the graph equal the API."""
    config = Neo4jSinkConfig(max_delete_ratio=1.0)
    export_to_neo4j(sdk, study, neo4j_settings.uri, auth, config=config)
    for resource, number in (
        ("records", 30),
        ("visits", 5),
        ("subjects", 3),
        ("recordRevisions", 7),
    ):
        table = simulation.studies[study].table(resource)
        for each in list(table.ids)[10 : 10 + number]:
            table.remove(each)
    time.sleep(1.1)  # the API's clock has whole seconds
    export_to_neo4j(sdk, study, neo4j_settings.uri, auth, config=config)
    result = compare(imednet(api), neo4j_settings, study)
    assert (result.different, result.examples) == (0, [])
    assert result.deleted == 45


def test_a_row_that_comes_back_is_live_again(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """A vanished row that comes back is live again."""
    world.export()
    table = world.study.table("records")
    row = table.get(table.ids[3])
    vanish(world, "records", 1)
    export_later(world)
    assert live(database, study) == world.records
    table.put(row)
    export_later(world)
    assert live(database, study) == world.records == len(table.ids)


def test_a_share_of_deletes_that_is_not_credible_deletes_nothing_and_is_reported(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """An implausible share of deletes deletes nothing, and the error names the setting."""
    world.export()
    before = live(database, study)
    vanish(world, "records", 300)
    with pytest.raises(ExportIncompleteError, match="SOURCE_MAX_DELETE_RATIO") as caught:
        export_later(world)
    assert set(caught.value.failed) == {"record"}
    assert "300 rows" in caught.value.failed["record"]
    assert live(database, study) == before
    assert export_later(world, max_delete_ratio=1.0) == world.records == live(database, study)


def test_an_api_that_lists_nothing_deletes_nothing_and_the_advice_works(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """If the API lists no row of a kind, nothing is deleted; following the advice clears it."""
    world.export()
    before = live(database, study, "Site")
    table = world.study.table("sites")
    for each in list(table.ids):
        table.remove(each)
    with pytest.raises(ExportIncompleteError) as caught:
        export_later(world, max_delete_ratio=0.99)
    assert live(database, study, "Site") == before
    advice = caught.value.failed["site"].partition("again: ")[2]
    database.write(Statement(advice, []), {})
    assert export_later(world) == world.records
    assert live(database, study, "Site") == 0


def test_rows_that_the_api_counts_and_withholds_are_not_deleted(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """Rows that the API counts but does not list are not deleted."""
    world.export()
    before = live(database, study)
    read = world.api.read

    hidden = world.study.table("records").ids[5]

    def withheld(request: PageRequest) -> Page:
        page = read(request)
        return replace(page, rows=[row for row in page.rows if row.get("recordId") != hidden])

    world.api.read = withheld  # type: ignore[method-assign]
    with pytest.raises(ExportIncompleteError) as caught:
        export_later(world, max_delete_ratio=1.0, max_retries=9)
    assert "fewer rows than it announced" in caught.value.failed["record"]
    assert live(database, study) == before
    world.api.read = read  # type: ignore[method-assign]
    assert export_later(world) == world.records


def test_a_first_export_that_lacks_rows_says_so(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """An export that the API cuts short is no success, even if there is nothing to delete."""
    read, hidden = world.api.read, world.study.table("records").ids[-30:]

    def withheld(request: PageRequest) -> Page:
        page = read(request)
        return replace(page, rows=[row for row in page.rows if row.get("recordId") not in hidden])

    world.api.read = withheld  # type: ignore[method-assign]
    with pytest.raises(ExportIncompleteError) as caught:
        world.export(max_retries=9)
    assert "not all: the API listed fewer rows" in caught.value.failed["record"]
    assert live(database, study) >= world.records - len(hidden)
    world.api.read = read  # type: ignore[method-assign]
    assert export_later(world) == world.records


def test_an_answer_that_lists_no_rows_is_asked_for_again(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """A kind without rows counts only if the API says so twice."""
    read = world.api.read
    emptied: list[str] = []

    def empty_at_first(request: PageRequest) -> Page:
        page = read(request)
        if request.resource in {"sites", "visits"} and request.resource not in emptied:
            emptied.append(request.resource)
            return replace(page, rows=[], total_elements=0)
        return page

    world.api.read = empty_at_first  # type: ignore[method-assign]
    assert world.export(max_retries=1) == world.records
    assert emptied == ["sites", "visits"]
    assert live(database, study, "Site") == len(world.study.table("sites").ids)
    assert live(database, study, "Visit") == len(world.study.table("visits").ids)


def test_a_resumed_export_leaves_a_kind_that_was_empty_to_the_next_one(world: World) -> None:
    """Rows that have appeared since are not its task, and no reason to fail."""
    table = world.study.table("sites")
    rows = [table.get(each) for each in list(table.ids)]
    for each in list(table.ids):
        table.remove(each)
    world.interrupt_after("records", 2)
    for row in rows:
        table.put(row)
    assert world.export() == world.records


def test_what_a_second_look_finds_is_not_deleted(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """A row that the second look finds is not deleted.

    One answer of the pass lacked rows that exist.
    """
    world.export()
    table = world.study.table("records")
    hidden = [table.get(each) for each in table.ids[5:8]]

    def hide() -> None:
        asked = world.asked().count("records")
        if world.asked()[-1:] == ["visits"] and hidden[0]["recordId"] in table.bodies:
            for row in hidden:
                table.remove(row["recordId"])
        if asked == 2:
            for row in hidden:
                table.put(row)

    world.clock.advance(60)
    world.api.before = hide
    world.export()
    assert hidden[0]["recordId"] in table.bodies
    assert live(database, study) == world.records
    assert database.read("MATCH (n:Deleted {study_key: $s}) RETURN n", s=study) == []


def test_a_node_of_which_a_stream_has_a_newer_version_stays(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """A vanished row is kept if a stream has written a newer version of it."""
    world.export()
    vanished = world.study.table("records").ids[3]
    vanish(world, "records", 1)
    newer = "UNWIND $batch.rows AS row MATCH (n:Record {study_key: row[0], record_id: row[1]}) SET n._version = row[2]"
    at_ms = world.clock.now_ms() + 3_600_000
    database.write(Statement(newer, [[study, vanished, at_ms]]), {})
    export_later(world)
    assert live(database, study) == world.records + 1


def test_a_resumed_pass_and_records_alone_delete_nothing(
    world: World, database: Neo4jDatabase, study: str, sink_to: Open
) -> None:
    """Neither a resumed pass nor ``write_batch`` deletes anything."""
    world.export()
    before = live(database, study)
    vanish(world, "records", 1)
    world.clock.advance(60)
    world.interrupt_after("records", 2)
    world.export()
    assert live(database, study) == before
    with sink_to() as sink:
        sink.write_batch(list(world.study.table("records").rows()), batch_id="b")
    assert live(database, study) == before
    export_later(world)
    assert live(database, study) == before - 1


def test_a_second_look_that_keeps_failing_is_abandoned_without_deletes(
    world: World, database: Neo4jDatabase, study: str
) -> None:
    """A second look that fails is retried and then abandoned without deletes."""
    world.export()
    before = live(database, study)
    vanish(world, "records", 1)
    world.clock.advance(60)

    def before_read() -> None:
        if world.asked().count("records") >= 3 and "recordRevisions" not in world.asked():
            failures.append(1)
            raise RetryableError("the API is down")

    failures: list[int] = []
    world.api.before = before_read
    with pytest.raises(ExportError, match="the API is down"):
        world.export(max_retries=2, retry_backoff=0.0)
    assert len(failures) == 3
    assert live(database, study) == before


# --------------------------------------------------------------------------------- test doubles


class Records:
    def __init__(self, records: list[Any]) -> None:
        self._records = records

    def list(self, study_key: str) -> list[Any]:
        return [each for each in self._records if each["studyKey"] == study_key]


def test_a_double_with_a_list_of_records_alone_is_enough(
    neo4j_settings: Neo4jSettings, auth: tuple[str, str], database: Neo4jDatabase, study: str
) -> None:
    """A test double that only has ``records.list`` can be exported."""
    sdk = SimpleNamespace(records=Records(rows(study, *range(1, 26)) + rows("OTHER", 99)))
    config = Neo4jSinkConfig(batch_size=10, **QUICK)
    assert export_to_neo4j(sdk, study, neo4j_settings.uri, auth, config=config) == 25
    assert count(database, study) == 25
    double = MagicMock()
    double.records.list.return_value = [Record.from_json(row) for row in rows(study, 26, 27)]
    assert export_to_neo4j(double, study, neo4j_settings.uri, auth, config=config) == 2
    double.records.list.assert_called_once_with(study_key=study)


def test_batches_of_a_double_are_numbered_and_one_that_is_refused_stops_no_other(
    neo4j_settings: Neo4jSettings, auth: tuple[str, str], database: Neo4jDatabase, study: str
) -> None:
    """Batches of a test double are numbered, and a refused one stops no other."""
    batch = rows(study, *range(1, 31))
    batch[11]["recordData"] = {"": "SECRETVALUE"}
    sdk = SimpleNamespace(records=Records(batch))
    config = Neo4jSinkConfig(batch_size=10, **QUICK)
    with pytest.raises(ExportBatchError, match=r"12 \(property_name\)") as caught:
        export_to_neo4j(sdk, study, neo4j_settings.uri, auth, config=config)
    assert caught.value.batch_id == f"{study}/records/1"
    assert count(database, study) == 29
