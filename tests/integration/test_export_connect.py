"""Connecting an export: addresses, credentials of every form, and graphs of the earlier module."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import neo4j
import pytest
from neo4j.auth_management import AuthManagers

from connector.config import Neo4jSettings
from connector.demo.servers.local import LocalNeo4j
from connector.demo.servers.processes import free_port
from connector.export import ExportConfigurationError, Neo4jExportSink
from tests.exporting import rows

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
def test_auth_that_does_not_let_in_is_a_configuration_error_without_the_secret(
    neo4j_settings: Neo4jSettings, study: str, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ExportConfigurationError, match="Cannot connect to Neo4j") as caught:
        Neo4jExportSink(neo4j_settings.uri, wrong, study)
    assert SECRET not in str(caught.value) + repr(caught.value.__context__) + caplog.text


@pytest.fixture
def open_server(tmp_path: Path) -> Iterator[str]:
    """A server that asks for no credentials."""
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
    with Neo4jExportSink(open_server, None, study) as sink:
        assert sink.write_batch(rows(study, 1), batch_id="b") == 1
