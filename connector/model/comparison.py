"""Compares a node as found in the graph with the state that it should have. Pure."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from connector.model.entities import ENTITIES
from connector.model.events import EntityId, Identity
from connector.model.graph import NodeChange
from connector.model.graph_state import canonical, same
from connector.model.properties import LINKS, MODEL

_RESERVED = frozenset({"_version", "_hash", MODEL, LINKS})


class Problem(StrEnum):
    """How a node and its wanted state differ."""

    MISSING = "missing"
    """The graph does not hold the entity, or only a stub of it."""
    EXTRA = "extra"
    """The graph holds an entity that should not exist."""
    STALE = "stale"
    """The node has an older version, or an earlier graph model wrote it."""
    NEWER = "newer"
    """The node has a version that the topic does not hold, and other content."""
    DIFFERENT = "different"
    """Properties or owned parts differ although the versions are equal."""
    WRONGLY_LINKED = "wrongly linked"
    """Relationships that the entity owns are missing, extra, or lead to another node."""


class Difference(NamedTuple):
    """One problem of one entity; ``names`` of the properties, parts or relationships concerned."""

    identity: Identity
    problem: Problem
    names: tuple[str, ...] = ()


def is_written(name: str) -> bool:
    """Whether the connector writes properties of this name: users' own begin with ``x_``."""
    return name in _RESERVED or not name.startswith(("_", "x_"))


class FoundLink(NamedTuple):
    """A relationship that an entity owns, by the key of the node at its other end."""

    entity: str
    """Empty if that node is of a kind that the relationship must not lead to."""
    study_key: str | None
    id: EntityId | None
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True, repr=False)
class FoundNode:
    """A node as the graph holds it, with everything that it owns."""

    identity: Identity
    is_deleted: bool
    """Whether it has the label of deleted entities."""
    properties: Mapping[str, Any]
    """Those that the connector writes (see `is_written`)."""
    links: Sequence[Sequence[FoundLink]] = ()
    """For each of the kind's references, then for each of its reference lists."""
    parts: Sequence[Sequence[Mapping[str, Any]]] = ()
    """For each of the kind's lists of parts."""

    @property
    def version(self) -> int | None:
        """The version of the event that wrote it; None for a stub."""
        found = self.properties.get("_version")
        return found if type(found) is int else None

    @property
    def is_stub(self) -> bool:
        """Whether other entities only refer to it: it has no properties, relationships or parts."""
        keys = ENTITIES[self.identity.entity].key_properties
        return set(self.properties) <= set(keys) and not any(self.links) and not any(self.parts)

    def hash(self) -> int:
        """A hash of all that the connector wrote; the sum over all nodes is the graph's digest."""
        links = [sorted(map(_link_text, links)) for links in self.links]
        parts = [sorted(map(_text, parts)) for parts in self.parts]
        text = canonical(self.identity, self.is_deleted, self.properties, links, parts)
        return int.from_bytes(hashlib.sha256(text).digest())


def compare_node(
    wanted: NodeChange | None, found: FoundNode, *, compare_versions: bool = True
) -> Iterator[Difference]:
    """Yield how the node differs from the wanted state; None: the entity should not exist.

    A node that should not exist may be a stub, or the marker of a deleted entity. A newer node with
    the wanted content is right: an export wrote it. Without ``compare_versions`` only content
    counts: the wanted state does not come from the topic.
    """
    identity = found.identity
    if wanted is None:
        if not (found.is_stub or _is_marker(found)):
            yield Difference(identity, Problem.EXTRA)
        return
    if found.version is None:
        yield Difference(identity, Problem.MISSING)
        return
    if compare_versions and found.version < wanted.version:
        yield Difference(identity, Problem.STALE)
        return
    if compare_versions and found.version > wanted.version:
        if any(compare_node(wanted, found, compare_versions=False)):
            yield Difference(identity, Problem.NEWER)
        return
    if found.properties.get(MODEL) != wanted.value(MODEL):
        yield Difference(identity, Problem.STALE)
        return
    if names := [*_differing(wanted, found, compare_versions=compare_versions)]:
        yield Difference(identity, Problem.DIFFERENT, tuple(names))
    if types := [*_wrong_links(wanted, found)]:
        yield Difference(identity, Problem.WRONGLY_LINKED, tuple(types))


def _is_marker(found: FoundNode) -> bool:
    """Whether it is what remains of a deleted entity."""
    keys = ENTITIES[found.identity.entity].key_properties
    names = {name for name in found.properties if not name.startswith("_")}
    return found.is_deleted and names <= {*keys, "deleted"} and not any(found.links)


def _differing(wanted: NodeChange, found: FoundNode, *, compare_versions: bool) -> Iterator[str]:
    """The names of properties and parts that differ."""
    expected, actual = wanted.properties, found.properties
    for name, value in expected.items():
        other = actual.get(name)
        if not same(value, other) and (compare_versions or name != "_version"):
            yield name
    yield from (name for name in actual if name not in expected)
    if wanted.is_delete != found.is_deleted:
        yield "label Deleted"
    entity = ENTITIES[wanted.identity.entity]
    for part, expected_parts, found_parts in zip(
        entity.parts, wanted.parts, found.parts, strict=True
    ):
        if sorted(map(_text, expected_parts)) != sorted(map(_text, found_parts)):
            yield part.label


def _wrong_links(wanted: NodeChange, found: FoundNode) -> Iterator[str]:
    """The types of relationships of which the node does not have just the wanted ones."""
    entity = ENTITIES[wanted.identity.entity]
    types = [each.relationship for each in entity.owned_references]
    expected = [[_end(link.target, {})] if link.target else [] for link in wanted.links]
    expected += [[_end(*link) for link in each] for each in wanted.listed]
    for kind, ends, links in zip(types, expected, found.links, strict=True):
        if sorted(map(_link_text, ends)) != sorted(map(_link_text, links)):
            yield kind


def _end(target: Identity, properties: Mapping[str, Any]) -> FoundLink:
    return FoundLink(target.entity, target.study_key, target.id, properties)


def _link_text(link: FoundLink) -> str:
    return canonical(*link).decode()  # orjson does not sort what is within a named tuple


def _text(part: Mapping[str, Any]) -> str:
    return canonical(part).decode()
