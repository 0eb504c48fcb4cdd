"""Connecting an export: addresses, forms of credentials, and graphs of the SDK's own module."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import neo4j
import pytest
from imednet import ImednetSDK
from neo4j.auth_management import AuthManagers

from connector.config import Neo4jSettings
from connector.export import ExportConfigurationError, Neo4jExportSink, export_to_neo4j
from connector.lab.servers.local import LocalNeo4j
from connector.lab.servers.processes import free_port
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.statement import Statement
from connector.ops.compare import compare
from tests.exporting import Open, count, rows
from tests.programs import imednet

pytestmark = pytest.mark.servers
SECRET = "p4ss-canary"
TAKEN: dict[str, Callable[[str, str], Any]] = {
    "pair": lambda user, password: (user, password),
    "with realm": lambda user, password: (user, password, "native"),
    "list": lambda user, password: [user, password],
    "basic": neo4j.basic_auth,
    "custom": lambda user, password: neo4j.custom_auth(user, password, "native", "basic"),
    "manager": lambda user, password: AuthManagers.static((user, password)),
}


@pytest.mark.parametrize("form", TAKEN)
def test_every_form_of_auth_that_the_driver_accepts_connects(
    neo4j_settings: Neo4jSettings, auth: tuple[str, str], study: str, form: str
) -> None:
    """Every form of ``auth`` that the driver accepts connects."""
    with Neo4jExportSink(neo4j_settings.uri, TAKEN[form](*auth), study) as sink:
        assert sink.write_batch(rows(study, 1), batch_id="b") == 1
        assert auth[1] not in repr(sink)


@pytest.mark.parametrize(
    "wrong",
    [
        neo4j.bearer_auth(SECRET), neo4j.basic_auth("neo4j", SECRET), ("neo4j", SECRET, "native"),
        neo4j.custom_auth("neo4j", SECRET, "native", "basic", a="b"), None, SECRET,
        {"user": SECRET}, ("neo4j", None), (SECRET,), ("neo4j", object()),
    ],
    ids=lambda wrong: type(wrong).__name__,
)  # fmt: skip
def test_rejected_auth_is_a_configuration_error_without_the_secret(
    neo4j_settings: Neo4jSettings, study: str, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Rejected credentials raise a configuration error that does not contain them."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ExportConfigurationError, match="Cannot connect to Neo4j") as caught:
        Neo4jExportSink(neo4j_settings.uri, wrong, study)
    assert SECRET not in str(caught.value) + repr(caught.value.__context__) + caplog.text


@pytest.fixture
def open_server(tmp_path: Path) -> Iterator[str]:
    """A server without authentication."""
    server = LocalNeo4j(tmp_path, free_port(), "")
    server.start("dbms.security.auth_enabled=false\n")
    server.has_password = True
    try:
        server.wait()
        yield f"bolt://127.0.0.1:{server.port}"
    finally:
        if server.process:
            server.process.stop()


def test_no_auth_connects_to_a_server_without_authentication(open_server: str, study: str) -> None:
    """``auth=None`` connects to a server without authentication."""
    with Neo4jExportSink(open_server, None, study) as sink:
        assert sink.write_batch(rows(study, 1), batch_id="b") == 1


# --------------------------------------------------------------- graphs of the SDK's own module

EARLIER_MERGE = """
UNWIND $batch.rows AS row
MERGE (st:Study {study_key: row.study_key})
MERGE (su:Subject {subject_key: row.subject_key, study_key: row.study_key})
MERGE (v:Visit {visit_id: row.visit_id, study_key: row.study_key})
MERGE (r:Record {record_id: row.record_id, study_key: row.study_key})
SET r += row.record_data
MERGE (st)-[:HAS_SUBJECT]->(su)
MERGE (su)-[:HAS_VISIT]->(v)
MERGE (v)-[:HAS_RECORD]->(r)
"""
EARLIER_CREATE = """
UNWIND $batch.rows AS row
CREATE (r:Record {record_id: row.record_id, form_id: row.form_id, visit_id: row.visit_id,
  subject_key: row.subject_key, study_key: row.study_key})
SET r += row.record_data
WITH r, row
MATCH (v:Visit {visit_id: row.visit_id, study_key: row.study_key})
MERGE (v)-[:HAS_RECORD]->(r)
"""


def written_by_the_earlier_module(database: Neo4jDatabase, statement: str, study: str) -> None:
    written = [
        {
            "record_id": row["recordId"], "form_id": row["formId"], "visit_id": row["visitId"],
            "subject_key": row["subjectKey"], "study_key": study,
            "record_data": row["recordData"],
        }
        for row in rows(study, 1, 2, 3)
    ]  # fmt: skip
    database.write(Statement(statement, written), {})


def run_by_hand(uri: str, auth: tuple[str, str], statement: str) -> None:
    with neo4j.GraphDatabase.driver(uri, auth=auth) as driver, driver.session() as session:
        session.run(statement).consume()


@pytest.mark.parametrize("statement", [EARLIER_MERGE, EARLIER_CREATE], ids=["merge", "create"])
def test_a_study_of_the_earlier_module_is_refused_and_right_after_following_the_advice(
    sdk: ImednetSDK, api: str, neo4j_settings: Neo4jSettings, auth: tuple[str, str],
    database: Neo4jDatabase, study: str, statement: str,
) -> None:  # fmt: skip
    """A study of the earlier module is refused, and exports correctly once emptied as advised."""
    written_by_the_earlier_module(database, statement, study)
    with pytest.raises(ExportConfigurationError, match="own export module") as caught:
        export_to_neo4j(sdk, study, neo4j_settings.uri, auth)
    assert count(database, study) == 3
    advice = str(caught.value).splitlines()[-1].strip()
    run_by_hand(neo4j_settings.uri, auth, advice)
    assert database.read("MATCH (n {study_key: $study}) RETURN n", study=study) == []
    export_to_neo4j(sdk, study, neo4j_settings.uri, auth)
    assert compare(imednet(api), neo4j_settings, study).different == 0


def test_the_advice_empties_the_refused_study_alone_whatever_its_key(
    neo4j_settings: Neo4jSettings, auth: tuple[str, str], database: Neo4jDatabase, study: str,
    sink_to: Open,
) -> None:  # fmt: skip
    """The advised statement empties only the refused study, whatever its key."""
    odd = f"{study} o'clock \\ `\""
    with sink_to() as sink:
        sink.write_batch(rows(study, 1), batch_id="b")
    written_by_the_earlier_module(database, EARLIER_MERGE, odd)
    with pytest.raises(ExportConfigurationError) as caught:
        Neo4jExportSink(neo4j_settings.uri, auth, odd)
    run_by_hand(neo4j_settings.uri, auth, str(caught.value).splitlines()[-1])
    Neo4jExportSink(neo4j_settings.uri, auth, odd).close()
    assert (count(database, odd), count(database, study)) == (0, 1)


def test_stubs_of_the_connector_and_properties_of_the_graphs_users_are_not_refused(
    database: Neo4jDatabase, study: str, sink_to: Open
) -> None:
    """Stubs and users' properties are not mistaken for the earlier module's graph."""
    with sink_to() as sink:
        sink.write_batch(
            rows(study, 1, parentRecordId=2, visitId=0, subjectId=0, subjectKey=""), batch_id="b"
        )
    stub = "UNWIND $batch.rows AS row MERGE (n:Subject {study_key: row, subject_id: 1})"
    database.write(Statement(stub, [study]), {})
    noted = "UNWIND $batch.rows AS row MATCH (n:Record {study_key: row, record_id: 2}) SET n.x_note = 'a'"
    database.write(Statement(noted, [study]), {})
    with sink_to() as sink:
        assert sink.write_batch(rows(study, 1, 2), batch_id="b") == 2
