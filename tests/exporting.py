"""Helpers for export tests: records to write, and reading them back from the graph."""

from collections.abc import Callable
from typing import Any

from connector.export import Neo4jExportSink
from connector.neo4j.database import Neo4jDatabase
from tests.builders import record_row

QUICK: dict[str, Any] = {"max_retries": 3, "retry_backoff": 0.05}
Open = Callable[..., Neo4jExportSink]


def rows(study: str, *ids: int, **changed: Any) -> list[dict[str, Any]]:
    return [record_row(each, studyKey=study, **changed) for each in ids]


def count(database: Neo4jDatabase, study: str, label: str = "Record") -> int:
    found: int = database.read(
        f"MATCH (n:{label} {{study_key: $study}}) RETURN count(n)", study=study
    )[0][0]
    return found


def node(database: Neo4jDatabase, study: str, record_id: int) -> dict[str, Any]:
    (found,) = database.read(
        "MATCH (n:Record {study_key: $study, record_id: $id}) RETURN properties(n)",
        study=study, id=record_id,
    )  # fmt: skip
    properties: dict[str, Any] = found[0]
    return properties
