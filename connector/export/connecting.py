"""Connect an export to Neo4j: check the address, authenticate, make the constraints."""

import re
from typing import Any

from pydantic import ValidationError

from connector.config import Neo4jSettings
from connector.errors import ConnectorError
from connector.export.errors import ExportConfigurationError
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.export_queries import ExportQueries, emptying

_USER_INFO = re.compile(r"^([\w+.-]+://)?.*@", re.DOTALL)


def redacted(uri: str) -> str:
    """The address without user and password, whatever characters they hold."""
    return _USER_INFO.sub(lambda found: f"{found[1] or ''}***@", uri)


def connected(uri: str, auth: Any, database_name: str, study_key: str) -> Neo4jDatabase:
    """An open connection to a database that has the connector's constraints. Blocks.

    Raises:
        ExportConfigurationError: the address, the credentials or the database cannot be used, or
            the SDK's own export module has written the study.
    """
    where = redacted(uri)
    if where != uri:
        raise ExportConfigurationError(
            f"Cannot connect to Neo4j at {where}: user and password belong into auth"
        )
    try:
        database = Neo4jDatabase(_settings(uri, database_name), auth=auth)
    except ConnectorError as error:
        raise ExportConfigurationError(f"Cannot connect to Neo4j at {where}: {error}") from None
    try:
        # Before the constraints are made: that graph may break them.
        _refuse_earlier_graph(database, study_key, where)
        database.make_schema(database.missing_schema())
    except ExportConfigurationError:
        database.close()
        raise
    except ConnectorError as error:
        database.close()
        raise ExportConfigurationError(
            f"Cannot make the constraints in Neo4j at {where}: {error}"
        ) from None
    return database


def _refuse_earlier_graph(database: Neo4jDatabase, study_key: str, where: str) -> None:
    if ExportQueries(database).has_earlier_graph(study_key):
        raise ExportConfigurationError(
            f"Cannot export study {study_key} to Neo4j at {where}: the SDK's own export module"
            " has written it, and its nodes have other keys, so the study would be there twice."
            " Empty the study with the following statement (in Neo4j Browser, put :auto before"
            f" it), then export again:\n  {emptying(study_key)}"
        )


def _settings(uri: str, database_name: str) -> Neo4jSettings:
    try:
        return Neo4jSettings(uri=uri, database=database_name)
    except ValidationError as error:
        # The error's own text quotes what was given.
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        said = "; ".join(
            f"the {fault['loc'][0]} {fault['msg'].removeprefix('Value error, ')}"
            for fault in faults
        )
    raise ExportConfigurationError(f"Cannot connect to Neo4j at {uri}: {said}")
