"""Cypher that reads: which entities must be written, and who owns a visit. Pure text."""

from functools import cache

from connector.model.entities import ENTITIES
from connector.model.entity import Entity
from connector.model.properties import LINKS, MODEL
from connector.neo4j.patterns import node_pattern
from connector.neo4j.statement import ROWS

KEEP_PLAN = "CYPHER replan=skip"
"""Each statement has one sensible plan: index seeks on the constraints, chosen even on an empty
graph. Replanning because the graph has grown would stall events (150 ms measured)."""


@cache
def probe(entity_name: str, *, force: bool = False) -> str:
    """Build the query from rows ``[key values..., version]`` to the indexes of those to write.

    It returns a single row of two lists, absent and outdated: the driver spends longer on a result
    row than the database does. ``force`` is that of `is_outdated`.

    Reads take no lock and need none: versions only grow, so a stale change stays stale.
    """
    entity = ENTITIES[entity_name]
    version = f"row[{len(entity.key_properties)}]"
    return _probe(entity, is_outdated(entity, version, force=force))


def is_outdated(entity: Entity, version: str, *, force: bool = False) -> str:
    """Build the guard: the node has an older version, or the same from an earlier model.

    A graph written before models had revisions has none. With ``force``, the same version from any
    model is outdated, too.
    """
    if force:
        return f"coalesce(n._version, -1) <= {version}"
    return (
        f"(coalesce(n._version, -1) < {version} OR n._version = {version}"
        f" AND {_is_of_earlier_model(entity)})"
    )


def _is_of_earlier_model(entity: Entity) -> str:
    return f"coalesce(n.{MODEL}, 0) < {entity.model_revision}"


def _probe(entity: Entity, condition: str) -> str:
    return (
        f"{KEEP_PLAN} UNWIND range(0, size({ROWS}) - 1) AS i WITH i, {ROWS}[i] AS row"
        f" OPTIONAL MATCH {node_pattern('n', entity, 'row[0]', 'row[1]')}"
        f" WITH i, row, n WHERE n IS NULL OR {condition}"
        " RETURN collect(CASE WHEN n IS NULL THEN i END),"
        " collect(CASE WHEN n IS NOT NULL THEN i END)"
    )


@cache
def probe_content(entity_name: str) -> str:
    """Like `probe`, for rows ``[key values..., version, hash, links]``.

    It omits nodes that already have this content and these links.
    """
    entity = ENTITIES[entity_name]
    last = len(entity.key_properties)
    return _probe(
        entity,
        f"{is_outdated(entity, f'row[{last}]')} AND (coalesce(n._hash, '') <> row[{last + 1}]"
        f" OR coalesce(n.{LINKS}, '') <> row[{last + 2}]"
        f" OR {_is_of_earlier_model(entity)})",
    )


def holds_outdated_nodes(entity_name: str) -> str:
    """Build the query for one node that an earlier model wrote: a row if there is one.

    Without any it reads all nodes of the kind.
    """
    entity = ENTITIES[entity_name]
    return (
        f"MATCH (n:{entity.label}) WHERE n._version IS NOT NULL"
        f" AND {_is_of_earlier_model(entity)} RETURN 1 LIMIT 1"
    )


SUBJECTS_OF_VISITS = (
    f"{KEEP_PLAN} UNWIND {ROWS} AS row MATCH (n:Visit {{study_key: row[0], visit_id: row[1]}})"
    " WHERE n.subject_id > 0 RETURN n.visit_id, n.subject_id"
)
"""The subject of each visit; visits without a subject (0, blank text) are omitted."""
