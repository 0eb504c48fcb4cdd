"""Reads the whole graph back, to compare it or to draw part of it."""

from typing import Any

from connector.model.entities import ENTITIES
from connector.model.graph_state import GraphState, NodeKey, Relationship
from connector.neo4j.database import Neo4jDatabase

_BY_LABEL = {entity.label: entity for entity in ENTITIES.values()}


def read_graph(database: Neo4jDatabase, study_key: str | None = None) -> GraphState:
    """Read all nodes with the connector's labels and the relationships between them.

    ``study_key`` limits it to one study. Each label is read in its own transactions: use it on a
    graph at rest.
    """
    state = GraphState()
    condition = "WHERE $study IS NULL OR n.study_key = $study"
    for label in _BY_LABEL:
        for (properties,) in database.read(
            f"MATCH (n:{label}) {condition} RETURN properties(n)", study=study_key
        ):
            state.nodes[node_key(label, properties)] = properties
        for kind, start, end_labels, end_properties in database.read(
            f"MATCH (n:{label})-[r]->(m) {condition} RETURN type(r), properties(n), labels(m),"
            " properties(m)",
            study=study_key,
        ):
            end_label = next((each for each in end_labels if each in _BY_LABEL), None)
            if end_label is not None:
                end_key = node_key(end_label, end_properties)
                state.relationships.add(Relationship(node_key(label, start), kind, end_key))
    return state


def node_key(label: str, properties: dict[str, Any]) -> NodeKey:
    """Return the key of a node with one of the connector's labels."""
    return NodeKey(label, tuple(properties[name] for name in _BY_LABEL[label].key_properties))
