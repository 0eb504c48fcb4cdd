"""What an export asks the graph: the states of records, and subjects by their key."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import NamedTuple

from connector.entities import ENTITIES
from connector.events import Identity
from connector.graph import REDIRECTED, key_values
from connector.neo4j.database import Neo4jDatabase

_SUBJECTS = (
    "UNWIND $rows AS row MATCH (n:Subject {study_key: row[0], subject_key: row[1]})"
    " WHERE n.subject_id IS NOT NULL RETURN row[1], collect(n.subject_id)"
)


class NodeState(NamedTuple):
    """What a node says of its own state. ``version`` is -1 for a stub."""

    version: int
    content_hash: str | None
    is_redirected: bool


class ExportQueries:
    """Of one database. Each call blocks, and raises as `connector.interfaces.GraphWriter`."""

    def __init__(self, database: Neo4jDatabase) -> None:
        self._database = database

    def states(self, identities: Iterable[Identity]) -> dict[Identity, NodeState]:
        """The state of each node that exists."""
        by_entity: dict[str, list[Identity]] = defaultdict(list)
        for identity in identities:
            by_entity[identity.entity].append(identity)
        found: dict[Identity, NodeState] = {}
        for entity, asked in by_entity.items():
            rows = [key_values(identity) for identity in asked]
            ((states,),) = self._database.read(_states(entity), rows)
            found |= {asked[index]: NodeState(*state) for index, *state in states}
        return found

    def subjects_of_keys(
        self, study_key: str, subject_keys: Collection[str]
    ) -> dict[str, Sequence[int]]:
        """The ids of the study's subjects that have each of these keys."""
        rows = [[study_key, key] for key in sorted(subject_keys)]
        found: dict[str, Sequence[int]] = dict(self._database.read(_SUBJECTS, rows))
        return found


@cache
def _states(entity_name: str) -> str:
    """Rows ``[key values...]`` to one list of ``[index, version, hash, is redirected]``."""
    entity = ENTITIES[entity_name]
    key = ", ".join(f"{name}: row[{place}]" for place, name in enumerate(entity.key_properties))
    return (
        "UNWIND range(0, size($rows) - 1) AS i WITH i, $rows[i] AS row"
        f" MATCH (n:{entity.label} {{{key}}})"
        f" RETURN collect([i, coalesce(n._version, -1), n._hash, n.{REDIRECTED} IS NOT NULL])"
    )
