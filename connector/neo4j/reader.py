"""Reads the whole graph back, to compare it or to draw part of it."""

from typing import Any

from neo4j.time import Date, DateTime

from connector.model.entities import NODE_KEYS
from connector.model.graph_state import GraphState, NodeKey, relationship
from connector.neo4j.database import Neo4jDatabase

_TEMPORAL = {Date, DateTime}


def read_graph(database: Neo4jDatabase, study_key: str | None = None) -> GraphState:
    """Read all nodes with the connector's labels and the relationships between them.

    ``study_key`` limits it to one study. Each label is read in its own transactions: use it on a
    graph at rest.
    """
    state = GraphState()
    condition = "WHERE $study IS NULL OR n.study_key = $study"
    for label in NODE_KEYS:
        for (properties,) in database.read(
            f"MATCH (n:{label}) {condition} RETURN properties(n)", study=study_key
        ):
            state.nodes[node_key(label, properties)] = {
                name: to_native(value) for name, value in properties.items()
            }
        for kind, properties, start, end_labels, end_properties in database.read(
            f"MATCH (n:{label})-[r]->(m) {condition} RETURN type(r), properties(r), properties(n),"
            " labels(m), properties(m)",
            study=study_key,
        ):
            end_label = next((each for each in end_labels if each in NODE_KEYS), None)
            if end_label is not None:
                ends = node_key(label, start), node_key(end_label, end_properties)
                state.relationships.add(relationship(ends[0], kind, ends[1], properties))
    return state


def to_native(value: Any) -> Any:
    """Python's own date types instead of the driver's."""
    return value.to_native() if type(value) in _TEMPORAL else value


def node_key(label: str, properties: dict[str, Any]) -> NodeKey:
    """Return the key of a node with one of the connector's labels."""
    return NodeKey(label, tuple(properties[name] for name in NODE_KEYS[label]))
