"""Compare the graph with the API, entity by entity and property by property."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connector.clock import SystemClock
from connector.config import ImednetSettings, Neo4jSettings
from connector.imednet.reader import ImednetReader
from connector.interfaces import PageRequest
from connector.model.entities import READ_KINDS
from connector.model.entity import Entity
from connector.model.graph_state import GraphState, differences
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from connector.ops.expected_graph import add_row, types_of, variable_types

_PAGE_SIZE = 500
_EXAMPLES_MAX = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison: counts by label, and the first few differences (ids only)."""

    expected: Counter[str]
    found: Counter[str]
    properties: int
    deleted: int
    different: int
    examples: list[str]


def compare(
    imednet: ImednetSettings, neo4j: Neo4jSettings, study_key: str, *, typed_values: bool = True
) -> Comparison:
    """Read both sides and compare them; neither may change meanwhile.

    A hard-deleted entity, absent from the API, must have no data left in the graph. Those nodes
    are counted separately.
    """
    expected = _api_state(imednet, study_key, typed_values=typed_values)
    with Neo4jDatabase(neo4j) as database:
        found = read_graph(database, study_key).settled()
    absent = found.nodes.keys() - expected.nodes.keys()
    deleted = {key for key in absent if _is_deleted(found.nodes[key])}
    # Deleted before the source saw it, but still referred to (by a record's revisions).
    stubs = {key for key in absent if not _names_of_data(found.nodes[key])}
    live = GraphState(
        {
            key: {name: value for name, value in properties.items() if not name.startswith("_")}
            for key, properties in found.nodes.items()
            if key not in deleted | stubs
        },
        found.relationships,
    )
    found_differences = list(differences(expected, live))
    return Comparison(
        expected=expected.counts(),
        found=live.counts(),
        properties=sum(map(len, expected.nodes.values())),
        deleted=len(deleted),
        different=len(found_differences),
        examples=found_differences[:_EXAMPLES_MAX],
    )


def _is_deleted(properties: dict[str, object]) -> bool:
    return _names_of_data(properties) == {"_version", "deleted"}


def _names_of_data(properties: dict[str, object]) -> set[str]:
    """Return the names of all properties except keys and ids."""
    return {name for name in properties if not name.endswith(("_key", "_id"))}


def _api_state(settings: ImednetSettings, study_key: str, *, typed_values: bool) -> GraphState:
    state = GraphState()
    reader = ImednetReader(settings, SystemClock())
    types: dict[tuple[int, str], str] = {}
    try:
        if typed_values:
            types = variable_types(_rows(reader, READ_KINDS["variable"], study_key))
        for entity in READ_KINDS.values():
            for row in _rows(reader, entity, study_key):
                add_row(state, entity.name, study_key, row, types_of(row, types))
    finally:
        reader.close()
    return state


def _rows(reader: ImednetReader, entity: Entity, study_key: str) -> Iterator[dict[str, Any]]:
    page_number, rows_read = 0, 0
    while True:
        condition = f"studyKey=={study_key}" if entity.name == "study" else None
        page = reader.read(
            PageRequest(
                study_key,
                entity.resource,
                condition,
                f"{entity.sort_field},asc",
                _PAGE_SIZE,
                page_number,
                parameters=entity.query_parameters,
            )
        )
        yield from page.rows
        rows_read += len(page.rows)
        page_number += 1
        if rows_read >= page.total_elements:
            return
