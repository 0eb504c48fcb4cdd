"""An export's queries: who wrote the graph, states, definitions, and subjects by key."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import NamedTuple

from connector.model.entities import DEFINING_KINDS, ENTITIES
from connector.model.entity import Entity, snake_case
from connector.model.events import Identity
from connector.model.graph import key_values
from connector.model.properties import LINKS, MODEL
from connector.model.typed_values import Definition, Definitions, definition_of
from connector.neo4j.cypher import DELETED_LABEL
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.schema import STUDY_LABELS
from connector.neo4j.statement import ROWS

_SUBJECTS = (
    f"UNWIND {ROWS} AS row MATCH (n:Subject {{study_key: row[0], subject_key: row[1]}})"
    " WHERE n.subject_id IS NOT NULL RETURN row[1], collect(n.subject_id)"
)
_EARLIER_SUBJECT = (
    "MATCH (n:Subject {study_key: $study_key})"
    " WHERE n.subject_key IS NOT NULL AND n.subject_id IS NULL RETURN 1 LIMIT 1"
)
# Property names are checked only if _version is missing: otherwise it takes 5 times as long
# (1 microsecond per record, 5.26.30).
_EARLIER_RECORD = (
    "MATCH (n:Record {study_key: $study_key}) WHERE n.record_id IS NOT NULL"
    " AND CASE WHEN n._version IS NOT NULL THEN false"
    " ELSE any(name IN keys(n) WHERE NOT name IN ['study_key', 'record_id']"
    " AND NOT name STARTS WITH 'x_') END RETURN 1 LIMIT 1"
)


class NodeState(NamedTuple):
    """The state that a node's own properties record. ``version`` is -1 for a stub."""

    version: int
    content_hash: str | None
    links: str = ""
    """The relationships that it owns, as `connector.model.graph.links_text`."""
    model: int = 0
    """The model revision that wrote it."""


class ExportQueries:
    """Export queries on one database. Calls block and raise as `GraphWriter` does."""

    def __init__(self, database: Neo4jDatabase) -> None:
        self._database = database

    def has_earlier_graph(self, study_key: str) -> bool:
        """Whether the SDK's own export module wrote this study.

        Its subjects have a key and no id, and its records have data and no ``_version``. A stub of
        this connector has only key properties and user properties (``x_``).
        """
        return any(
            self._database.read(query, study_key=study_key)
            for query in (_EARLIER_SUBJECT, _EARLIER_RECORD)
        )

    def definitions(self, study_key: str) -> Definitions:
        """The definitions of the study's variables, as far as the graph has them."""
        found: list[Definition] = []
        for entity in DEFINING_KINDS:
            names = [snake_case(field) for field in entity.definition_fields]
            query = (
                f"MATCH (n:{entity.label} {{study_key: $study_key}})"
                f" WHERE n.{entity.key_properties[-1]} IS NOT NULL"
                f" RETURN {', '.join(f'n.{name}' for name in names)}"
            )
            for values in self._database.read(query, study_key=study_key):
                row = dict(zip(entity.definition_fields, values, strict=True))
                if (definition := definition_of(entity, row)) is not None:
                    found.append(definition)
        return Definitions(found)

    def states(self, identities: Iterable[Identity]) -> dict[Identity, NodeState]:
        """The state of each node that exists."""
        by_entity: dict[str, list[Identity]] = defaultdict(list)
        for identity in identities:
            by_entity[identity.entity].append(identity)
        found: dict[Identity, NodeState] = {}
        for entity, wanted in by_entity.items():
            rows = [key_values(identity) for identity in wanted]
            ((states,),) = self._database.read(_states(entity), rows)
            found |= {wanted[index]: NodeState(*state) for index, *state in states}
        return found

    def subjects_of_keys(
        self, study_key: str, subject_keys: Collection[str]
    ) -> dict[str, Sequence[int]]:
        """The ids of the study's subjects that have these keys, by key."""
        rows = [[study_key, key] for key in sorted(subject_keys)]
        found: dict[str, Sequence[int]] = dict(self._database.read(_SUBJECTS, rows))
        return found

    def unlisted(
        self, entity: Entity, study_key: str, low: int, high: int, listed: Sequence[int], limit: int
    ) -> list[int]:
        """At most ``limit`` ids of live nodes above ``low``, up to ``high``, not in ``listed``."""
        span = {"study_key": study_key, "low": low, "high": high, "limit": limit}
        ((ids,),) = self._database.read(_unlisted(entity.name), listed, **span)
        found: list[int] = ids
        return found


def emptying(study_key: str) -> str:
    """The statement that empties a study of any size: it commits after every 1000 nodes."""
    literal = study_key.replace("\\", "\\\\").replace("'", "\\'")
    return (
        f"MATCH (n:{STUDY_LABELS} {{study_key: '{literal}'}})"
        " CALL (n) { DETACH DELETE n } IN TRANSACTIONS"
    )


@cache
def _states(entity_name: str) -> str:
    """Query: rows ``[key values...]`` to one list of ``[index, version, hash, links, model]``."""
    entity = ENTITIES[entity_name]
    key = ", ".join(f"{name}: row[{index}]" for index, name in enumerate(entity.key_properties))
    return (
        f"UNWIND range(0, size({ROWS}) - 1) AS i WITH i, {ROWS}[i] AS row"
        f" MATCH (n:{entity.label} {{{key}}})"
        f" RETURN collect([i, coalesce(n._version, -1), n._hash, coalesce(n.{LINKS}, ''),"
        f" coalesce(n.{MODEL}, 0)])"
    )


@cache
def _unlisted(entity_name: str) -> str:
    """Uses the index of the key: the cost grows with the range, not with the study."""
    entity = ENTITIES[entity_name]
    own_id = f"n.{entity.key_properties[-1]}"
    return (
        f"MATCH (n:{entity.label} {{study_key: $study_key}})"
        f" WHERE {own_id} > $low AND {own_id} <= $high AND NOT {own_id} IN {ROWS}"
        f" AND n._version IS NOT NULL AND NOT n:{DELETED_LABEL}"
        f" WITH {own_id} AS id LIMIT $limit RETURN collect(id)"
    )
