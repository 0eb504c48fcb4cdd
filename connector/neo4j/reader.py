"""Reads the whole graph back, to compare it or to draw part of it."""

import itertools
from collections.abc import Sequence
from typing import Any

from neo4j.time import Date, DateTime

from connector.model.entities import NODE_KEYS
from connector.model.graph_state import GraphState, NodeKey, relationship
from connector.neo4j.database import Neo4jDatabase

_TEMPORAL = {Date, DateTime}
_ALL_KEYS = ", ".join(f".{name}" for name in sorted({*itertools.chain(*NODE_KEYS.values())}))


def read_graph(database: Neo4jDatabase, study_key: str | None = None) -> GraphState:
    """Read all nodes with the connector's labels and the relationships between them.

    ``study_key`` limits it to one study. Each label is read in its own transactions: use it on a
    graph at rest.
    """
    state = GraphState()
    for label, names in NODE_KEYS.items():
        node = f"MATCH (n:{label})" if study_key is None else _nodes_of_study(label, names)
        for (properties,) in database.read(f"{node} RETURN properties(n)", study=study_key):
            state.nodes[node_key(label, properties)] = {
                name: to_native(value) for name, value in properties.items()
            }
        start = ", ".join(f"n.{name}" for name in names)
        for values, kind, properties, end_labels, end_properties in database.read(
            f"{node} MATCH (n)-[r]->(m)"
            f" RETURN [{start}], type(r), properties(r), labels(m), m{{{_ALL_KEYS}}}",
            study=study_key,
        ):
            end_label = next((each for each in end_labels if each in NODE_KEYS), None)
            if end_label is not None:
                ends = NodeKey(label, tuple(values)), node_key(end_label, end_properties)
                state.relationships.add(relationship(ends[0], kind, ends[1], properties))
    return state


def _nodes_of_study(label: str, names: Sequence[str]) -> str:
    """Build the MATCH so that the index of the key serves it."""
    has_id = f" WHERE n.{names[1]} IS NOT NULL" if len(names) > 1 else ""
    return f"MATCH (n:{label} {{study_key: $study}}){has_id}"


def to_native(value: Any) -> Any:
    """Python's own date types instead of the driver's."""
    return value.to_native() if type(value) in _TEMPORAL else value


def node_key(label: str, properties: dict[str, Any]) -> NodeKey:
    """Return the key of a node with one of the connector's labels."""
    return NodeKey(label, tuple(properties[name] for name in NODE_KEYS[label]))
