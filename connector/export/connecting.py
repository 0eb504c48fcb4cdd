"""Connects an export to Neo4j: checks the address, authenticates, creates the constraints."""

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
    """The address without user and password, whatever characters they contain."""
    return _USER_INFO.sub(lambda found: f"{found[1] or ''}***@", uri)


def connected(uri: str, auth: Any, database_name: str, study_key: str) -> Neo4jDatabase:
    """Connect to a database, and create the connector's constraints if they are missing. Blocks.

    Raises:
        ExportConfigurationError: the address, the credentials or the database cannot be used, or
            the SDK's own export module wrote the study.
    """
    address = redacted(uri)
    if address != uri:
        raise ExportConfigurationError(
            f"Cannot connect to Neo4j at {address}: move user and password from the address to auth"
        )
    try:
        database = Neo4jDatabase(_settings(uri, database_name), auth=auth)
    except ConnectorError as error:
        raise ExportConfigurationError(f"Cannot connect to Neo4j at {address}: {error}") from None
    try:
        # Before the constraints are created: such a graph may violate them.
        _refuse_earlier_graph(database, study_key, address)
        database.create_schema(database.missing_schema())
    except ExportConfigurationError:
        database.close()
        raise
    except ConnectorError as error:
        database.close()
        raise ExportConfigurationError(
            f"Cannot create the constraints in Neo4j at {address}: {error}"
        ) from None
    return database


def _refuse_earlier_graph(database: Neo4jDatabase, study_key: str, address: str) -> None:
    if ExportQueries(database).has_earlier_graph(study_key):
        raise ExportConfigurationError(
            f"Cannot export study {study_key} to Neo4j at {address}: it was written by the SDK's"
            " own export module, whose nodes have other keys, so the graph would contain it twice."
            " Empty the study with the following statement (in Neo4j Browser, put :auto before"
            f" it), then export again:\n  {emptying(study_key)}"
        )


def _settings(uri: str, database_name: str) -> Neo4jSettings:
    try:
        return Neo4jSettings(uri=uri, database=database_name)
    except ValidationError as error:
        # The error's own text quotes the values.
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        problems = "; ".join(
            f"the {fault['loc'][0]} {fault['msg'].removeprefix('Value error, ')}"
            for fault in faults
        )
    raise ExportConfigurationError(f"Cannot connect to Neo4j at {uri}: {problems}")
