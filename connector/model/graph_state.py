"""A whole graph as a value: the differences between two graphs, and a digest to compare them."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from connector.model.events import EntityId

_STATE_NAMES = ("_version", "_hash")


class NodeKey(NamedTuple):
    """A node's label and key values (study, and id unless it is a study)."""

    label: str
    values: tuple[EntityId, ...]


class Relationship(NamedTuple):
    """A relationship: its type, its two ends, and its properties as canonical JSON."""

    start: NodeKey
    kind: str
    end: NodeKey
    properties: str = ""


def relationship(
    start: NodeKey, kind: str, end: NodeKey, properties: Mapping[str, Any] | None = None
) -> Relationship:
    """Return a relationship with these properties."""
    text = orjson.dumps(properties, option=orjson.OPT_SORT_KEYS).decode() if properties else ""
    return Relationship(start, kind, end, text)


@dataclass(slots=True)
class GraphState:
    """Nodes with their properties, and relationships.

    A node without ``_version`` is a stub or a part: another node refers to an entity that has not
    arrived, or owns the part. Without a relationship it holds no information and is not part of the
    state. Nor are
    user properties (``x_``) and reserved ones (``_``), except ``_version`` and ``_hash``, which
    identify the entity's state.
    """

    nodes: dict[NodeKey, dict[str, Any]] = field(default_factory=dict)
    relationships: set[Relationship] = field(default_factory=set)

    def settled(self) -> "GraphState":
        """The part of the graph that counts as its state (see the class)."""
        referenced = {key for each in self.relationships for key in (each.start, each.end)}
        nodes = {
            key: {name: value for name, value in properties.items() if _is_state(name)}
            for key, properties in self.nodes.items()
            if "_version" in properties or key in referenced
        }
        return GraphState(nodes, self.relationships)

    def digest(self) -> str:
        """A hash that is equal for equal states, independent of any order."""
        settled = self.settled()
        lines = [
            canonical(key.label, key.values, properties)
            for key, properties in settled.nodes.items()
        ] + [
            canonical(
                each.kind,
                (each.start.label, *each.start.values),
                (each.end.label, *each.end.values),
                *filter(None, [each.properties]),
            )
            for each in settled.relationships
        ]
        lines.sort()
        return hashlib.sha256(b"\n".join(lines)).hexdigest()

    def counts(self) -> Counter[str]:
        """The number of nodes per label and of relationships per type."""
        return Counter(key.label for key in self.nodes) + Counter(
            each.kind for each in self.relationships
        )


def differences(expected: GraphState, actual: GraphState) -> Iterator[str]:
    """Yield a line for each difference: names, keys and ids only, no values."""
    for key in sorted(expected.nodes.keys() | actual.nodes.keys(), key=str):
        wanted, found = expected.nodes.get(key), actual.nodes.get(key)
        if wanted is None or found is None:
            yield f"{key.label} {key.values}: {'missing' if found is None else 'unexpected'}"
        else:
            names = sorted(
                name
                for name in wanted.keys() | found.keys()
                if name not in wanted or name not in found or not same(wanted[name], found[name])
            )
            if names:
                yield f"{key.label} {key.values}: differs in {', '.join(names)}"
    for each in sorted(expected.relationships ^ actual.relationships, key=str):
        problem = "missing" if each in expected.relationships else "unexpected"
        start, kind, end, _ = each
        yield f"{start.label} {start.values} -{kind}-> {end.label} {end.values}: {problem}"


def same(one: object, other: object) -> bool:
    """Whether both are equal in value and type: 1, 1.0 and True are three values in the graph."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def _is_state(name: str) -> bool:
    return name in _STATE_NAMES or not name.startswith(("_", "x_"))


def canonical(*parts: object) -> bytes:
    """These values as JSON that is equal only for equal values."""
    # Dates get their type's name, so that they differ from texts.
    return orjson.dumps(parts, _named, orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME)


def _named(value: object) -> list[str]:
    return [type(value).__name__, str(value)]
