"""Cypher patterns of nodes and relationships. Pure text."""

from connector.model.entity import Entity, Reference


def node_pattern(variable: str, entity: Entity, study_key: str, own_id: str) -> str:
    """Build the pattern of the node with this key; a study's key is the first value alone."""
    pairs = zip(entity.key_properties, (study_key, own_id), strict=False)
    key = ", ".join(f"{name}: {value}" for name, value in pairs)
    return f"({variable}:{entity.label} {{{key}}})"


def relationship_pattern(other: str, reference: Reference, variable: str = "") -> str:
    """Build the pattern of the relationship between ``n`` and the node ``other``."""
    kind = reference.relationship
    if reference.outgoing:
        return f"(n)-[{variable}:{kind}]->({other})"
    return f"({other})-[{variable}:{kind}]->(n)"
