"""Positions of interrupted exports, kept in the graph that they fill: one node per study."""

from typing import NamedTuple

from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.schema import EXPORT_POSITION_LABEL
from connector.neo4j.statement import ROWS, Statement

_KEEP = (
    f"UNWIND {ROWS} AS row MERGE (n:{EXPORT_POSITION_LABEL} {{study_key: row.study_key}})"
    " SET n.cursor = row.cursor, n.progress = row.progress, n.written_ms = row.written_ms"
)
_FORGET = (
    f"UNWIND {ROWS} AS row MATCH (n:{EXPORT_POSITION_LABEL} {{study_key: row.study_key}}) DELETE n"
)
_READ = (
    f"MATCH (n:{EXPORT_POSITION_LABEL} {{study_key: $study_key}})"
    " RETURN n.cursor, n.progress, n.written_ms"
)


class StoredPosition(NamedTuple):
    """An export's stored position. Only the export interprets ``cursor`` and ``progress``."""

    cursor: str
    progress: str | None
    """None: an earlier version of this program wrote the position."""
    written_ms: int | None
    """The exporting machine's clock. None: as for ``progress``."""


class ExportPositions:
    """Export positions in one database. Calls block and raise as `GraphWriter` does."""

    def __init__(self, database: Neo4jDatabase) -> None:
        self._database = database

    def read(self, study_key: str) -> StoredPosition | None:
        """The stored position; None: no export is in progress."""
        rows = self._database.read(_READ, study_key=study_key)
        return StoredPosition(*rows[0]) if rows else None

    def keep(self, study_key: str, position: StoredPosition) -> None:
        """Store the position of this study's export."""
        rows = [{"study_key": study_key, **position._asdict()}]
        self._database.write(Statement(_KEEP, rows), {"export": study_key})

    def forget(self, study_key: str) -> None:
        """Delete the position: the export is complete."""
        self._database.write(Statement(_FORGET, [{"study_key": study_key}]), {"export": study_key})
