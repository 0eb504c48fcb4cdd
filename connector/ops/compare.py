"""Is the graph what the API shows now? Entity by entity, property by property."""

from collections import Counter
from dataclasses import dataclass

from connector.clock import SystemClock
from connector.config import ImednetSettings, Neo4jSettings
from connector.imednet.reader import ImednetReader
from connector.interfaces import PageRequest
from connector.model.entities import ENTITIES, Entity
from connector.model.graph_state import GraphState, differences
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from connector.ops.expected_graph import add_row

_PAGE_SIZE = 500
_EXAMPLES_MAX = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared, and what differs (the first few, ids only)."""

    expected: Counter[str]
    found: Counter[str]
    properties: int
    deleted: int
    different: int
    examples: list[str]


def compare(imednet: ImednetSettings, neo4j: Neo4jSettings, study_key: str) -> Comparison:
    """Read both sides, which must be at rest, and compare.

    Hard-deleted entities are in the graph as marks and not in the API: they are counted and must
    be without data.
    """
    expected = _api_state(imednet, study_key)
    with Neo4jDatabase(neo4j) as database:
        found = read_graph(database, study_key).settled()
    gone = found.nodes.keys() - expected.nodes.keys()
    deleted = {key for key in gone if _is_mark(found.nodes[key])}
    # Deleted before the source saw it, and something still refers to it (a record's revisions).
    stubs = {key for key in gone if not _data(found.nodes[key])}
    live = GraphState(
        {
            key: {name: value for name, value in properties.items() if not name.startswith("_")}
            for key, properties in found.nodes.items()
            if key not in deleted | stubs
        },
        found.relationships,
    )
    lines = list(differences(expected, live))
    return Comparison(
        expected=expected.counts(),
        found=live.counts(),
        properties=sum(map(len, expected.nodes.values())),
        deleted=len(deleted),
        different=len(lines),
        examples=lines[:_EXAMPLES_MAX],
    )


def _is_mark(properties: dict[str, object]) -> bool:
    return _data(properties) == {"_version", "deleted"}


def _data(properties: dict[str, object]) -> set[str]:
    return {name for name in properties if not name.endswith(("_key", "_id"))}


def _api_state(settings: ImednetSettings, study_key: str) -> GraphState:
    state = GraphState()
    reader = ImednetReader(settings, SystemClock())
    try:
        for entity in ENTITIES.values():
            _add_all(state, reader, entity, study_key)
    finally:
        reader.close()
    return state


def _add_all(state: GraphState, reader: ImednetReader, entity: Entity, study_key: str) -> None:
    number, rows = 0, 0
    while True:
        condition = f"studyKey=={study_key}" if entity.name == "study" else None
        page = reader.read(
            PageRequest(
                study_key, entity.resource, condition, f"{entity.id_field},asc", _PAGE_SIZE, number
            )
        )
        for row in page.rows:
            add_row(state, entity.name, row)
        rows += len(page.rows)
        number += 1
        if rows >= page.total_elements:
            return
