"""Where interrupted exports are, kept in the graph that they fill: one node a study."""

from connector.neo4j.cypher import Statement
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.schema import EXPORT_PLACE_LABEL as _LABEL

_KEEP = (
    f"UNWIND $rows AS row MERGE (n:{_LABEL} {{study_key: row.study_key}}) SET n.cursor = row.cursor"
)
_FORGET = f"UNWIND $rows AS row MATCH (n:{_LABEL} {{study_key: row.study_key}}) DELETE n"
_READ = f"MATCH (n:{_LABEL} {{study_key: $study_key}}) RETURN n.cursor"


class ExportPlaces:
    """Of one database. Each call blocks, and raises as `connector.interfaces.GraphWriter`."""

    def __init__(self, database: Neo4jDatabase) -> None:
        self._database = database

    def read(self, study_key: str) -> str | None:
        """What was kept; None: no export is under way."""
        rows = self._database.read(_READ, study_key=study_key)
        return rows[0][0] if rows else None

    def keep(self, study_key: str, cursor: str) -> None:
        """This is how far it is."""
        rows = [{"study_key": study_key, "cursor": cursor}]
        self._database.write(Statement(_KEEP, rows), {"export": study_key})

    def forget(self, study_key: str) -> None:
        """It is through."""
        self._database.write(Statement(_FORGET, [{"study_key": study_key}]), {"export": study_key})
