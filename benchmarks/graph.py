"""The database as the benchmark uses it: clear it, query it, and measure its upper bound."""

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import neo4j

from benchmarks.work import Work
from connector.model.graph import node_change
from connector.neo4j.schema import schema

UPPER_BOUND_SESSIONS = 4


class Graph:
    """The benchmark's own connection to the database."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._driver = neo4j.GraphDatabase.driver(
            environment["NEO4J_URI"],
            auth=(environment["NEO4J_USERNAME"], environment["NEO4J_PASSWORD"]),
            notifications_min_severity="OFF",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.close()

    def run(self, cypher: str, **parameters: Any) -> list[list[Any]]:
        """Run a query and return its rows."""
        with self._driver.session(database="neo4j") as session:
            return session.run(cypher, parameters).values()

    def create_schema(self) -> None:
        """Create what `imednet-connector setup` creates, for all contenders alike."""
        for item in schema():
            self.run(item.cypher)
        self.run("CALL db.awaitIndexes(300)")

    def clear(self) -> None:
        """Delete all nodes."""
        self.run("MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS")

    def holds(self, study: str, last: Sequence[tuple[int, int]]) -> bool:
        """Return whether these records have these versions or newer ones."""
        rows = [[number, version] for number, version in last]
        cypher = (
            "UNWIND $rows AS row MATCH (n:Record {study_key: $study, record_id: row[0]})"
            " WHERE n._version >= row[1] RETURN count(n)"
        )
        return bool(self.run(cypher, rows=rows, study=study)[0][0] == len(rows))

    def counts(self) -> dict[str, int]:
        """Return the numbers of records, visits and relationships."""
        rows = self.run(
            "MATCH (n:Record) WITH count(n) AS records MATCH (v:Visit) WITH records, count(v) AS"
            " visits MATCH ()-[r:HAS_RECORD]->() RETURN records, visits, count(r)"
        )
        return dict(zip(("records", "visits", "relationships"), rows[0], strict=True))

    def upper_bound(self, work: Work, batch: int) -> float:
        """Measure rows/s of a plain CREATE of a label without constraints, over four sessions."""
        rows = [node_change(event).properties for event in work.events]
        parts: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        for start in range(0, len(rows), batch):
            parts.put(rows[start : start + batch])

        def session() -> None:
            while True:
                try:
                    part = parts.get_nowait()
                except queue.Empty:
                    return
                self.run("UNWIND $rows AS row CREATE (n:Ceiling) SET n = row", rows=part)

        threads = [threading.Thread(target=session) for _ in range(UPPER_BOUND_SESSIONS)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(rows) / (time.monotonic() - started)
