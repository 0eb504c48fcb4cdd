"""The graph model: from an event to its node and relationships. Pure; no Cypher, no driver.

A relationship belongs to the entity whose field it comes from: only that entity's events create,
move or remove it. So the graph is a function of each entity's newest event, in whatever order the
events of different entities arrive.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from connector.errors import InvalidEventError
from connector.model.entities import ENTITIES
from connector.model.entity import Entity, PartList, Reference, ReferenceList, snake_case
from connector.model.events import (
    VERSION_MAX,
    EntityId,
    Identity,
    KnownState,
    Origin,
    RecordEvent,
    new_event,
    valid_id,
)
from connector.model.properties import (
    LINKS,
    MODEL,
    VARIABLES_FIELD,
    PropertyValue,
    checked_name,
    is_blank,
    json_text,
    layout_of,
    mixed_storables,
    storable,
    storables,
)
from connector.model.typed_values import typed_value

_LINKS_LENGTH_MAX = 100
_NO_LISTS: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {
    entity.name: (((),) * len(entity.reference_lists), ((),) * len(entity.parts))
    for entity in ENTITIES.values()
}
"""Shared by all events without elements, which are nearly all: fewer objects to collect."""
_LIST_FIELDS = {
    entity.name: (
        *(each.field for each in entity.reference_lists),
        *(each.field for each in entity.parts),
    )
    for entity in ENTITIES.values()
}


class Link(NamedTuple):
    """The desired target of one reference; None: no relationship."""

    reference: Reference
    target: Identity | None


class ListedLink(NamedTuple):
    """The desired relationship of one element of a `ReferenceList`."""

    target: Identity
    properties: dict[str, PropertyValue]


class NodeChange(NamedTuple):
    """One entity's newest state in the form of the graph.

    ``names`` and ``values`` are its properties; all nodes of a form share one tuple of names. A
    value of None means that the node does not have the property.

    ``links``, ``listed`` and ``parts`` have one element for each of the kind's ``references``,
    ``reference_lists`` and ``parts``.
    """

    identity: Identity
    version: int
    names: tuple[str, ...]
    values: list[PropertyValue]
    links: list[Link]
    content_hash: str | None = None
    is_delete: bool = False
    listed: Sequence[Sequence[ListedLink]] = ()
    parts: Sequence[Sequence[dict[str, PropertyValue]]] = ()
    temporal: Sequence[int] = ()
    """The indexes of the values that are dates and datetimes."""

    @property
    def properties(self) -> dict[str, PropertyValue]:
        """The properties that it has, by name."""
        named = zip(self.names, self.values, strict=True)
        return {name: value for name, value in named if value is not None}

    def value(self, name: str) -> PropertyValue:
        """The value of this property; None if it does not have it."""
        return self.values[self.names.index(name)] if name in self.names else None

    def with_version(self, version: int) -> "NodeChange":
        """Return the change with another version."""
        values = list(self.values)
        values[self.names.index("_version")] = version
        return self._replace(version=version, values=values)

    def relinked(self, links: list[Link]) -> "NodeChange":
        """Return the change with other links, as the node will record them."""
        values = list(self.values)
        values[self.names.index(LINKS)] = links_text(links, self.listed)
        return self._replace(links=links, values=values)


def node_change(event: RecordEvent) -> NodeChange:
    """Derive the node and relationships from an event.

    Every name and value of the result can be sent to Neo4j: the driver never has to reject one.

    Raises:
        InvalidEventError: the graph cannot hold one of its values, names or references.
    """
    entity, identity, data = ENTITIES[event.entity], event.identity, event.data
    if data is None:
        return _delete(entity, event)
    variables = _variables(data)
    layout = layout_of(entity.name, tuple(data), tuple(variables))
    values = storables(list(variables.values()))
    temporal = _type(values, layout.positions, event.types) if event.types else ()
    own = [data[field] for field in layout.fields]
    study_key = identity.study_key
    links = [
        Link(reference, _target(study_key, reference, data)) for reference in entity.references
    ]
    listed, parts = _NO_LISTS[entity.name]
    if any(map(data.get, _LIST_FIELDS[entity.name])):
        listed = [_listed(study_key, each, data) for each in entity.reference_lists]
        parts = [_parts(entity, identity, each, data) for each in entity.parts]
    own += key_values(identity)
    own += (event.version, event.content_hash, entity.model_revision, links_text(links, listed))
    values += mixed_storables(own)
    return NodeChange(
        identity, event.version, layout.names, values, links, event.content_hash, False, listed,
        parts, temporal,
    )  # fmt: skip


def _type(
    values: list[PropertyValue], positions: Mapping[str, int], types: Mapping[str, str]
) -> list[int]:
    """Replace the texts of these variables by the values that they stand for.

    Returns the indexes of dates and datetimes.
    """
    temporal = []
    for name, kind in types.items():
        index = positions.get(name, -1)
        if index < 0 or type(text := values[index]) is not str:
            continue
        value = typed_value(kind, text)
        if value is None:
            continue
        values[index] = value
        if isinstance(value, date):
            temporal.append(index)
    return temporal


def deletion(identity: Identity, version: int) -> NodeChange:
    """Derive the change that deletes this entity, without an event of the topic."""
    return node_change(new_event(identity, KnownState(version, None, None), None, Origin.SWEEP))


def _delete(entity: Entity, event: RecordEvent) -> NodeChange:
    """Build the marker that remains of a deleted entity: no older event can bring it back."""
    names = (*entity.key_properties, "_version", MODEL, "deleted")
    keys = key_values(event.identity)
    values = mixed_storables([*keys, event.version, entity.model_revision, True])
    links = [Link(reference, None) for reference in entity.references]
    return NodeChange(
        event.identity, event.version, names, values, links, None, True, *_NO_LISTS[entity.name]
    )


def key_values(identity: Identity) -> list[EntityId]:
    """The values of the key properties, in order."""
    if identity.entity == "study":
        return [identity.study_key]
    return [identity.study_key, identity.id]


def _target(study_key: str, reference: Reference, data: dict[str, Any]) -> Identity | None:
    for target in reference.targets:
        if target.field is None:
            return Identity(study_key, target.entity, study_key)
        value = data.get(target.field)
        if type(value) is int and 0 < value <= VERSION_MAX:
            return Identity(study_key, target.entity, value)
        if not is_blank(value) and (type(value) is not int or value != 0):  # 0 also means none
            raise InvalidEventError(f"{target.field} is not an id", reason="reference")
    return None


def _listed(study_key: str, reference: ReferenceList, data: dict[str, Any]) -> list[ListedLink]:
    """Derive one relationship for each element with a valid id; equal ones are one.

    Other elements make none: the whole list is a property, too, so that they are not lost, and the
    entity is worth more than one of its links.
    """
    found: dict[str, ListedLink] = {}
    for element in _elements(reference.field, data):
        target = valid_id(reference.target, element.get(reference.id_field))
        if target is None:
            continue
        properties = _element_properties(element, reference.id_field)
        identity = Identity(study_key, reference.target, target)
        found[json_text([target, properties])] = ListedLink(identity, properties)
    return [link for _, link in sorted(found.items())]


def _parts(
    entity: Entity, identity: Identity, part: PartList, data: dict[str, Any]
) -> list[dict[str, PropertyValue]]:
    """Derive the properties of each part: the owner's key, its position, and its own fields."""
    key = dict(zip(entity.key_properties, key_values(identity), strict=True))
    return [
        {**_element_properties(element), **key, "position": position}
        for position, element in enumerate(_elements(part.field, data), 1)
    ]


def _elements(field: str, data: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects in a list field; a single object counts as a list of one."""
    elements = data.get(field)
    if isinstance(elements, dict):
        elements = [elements]
    if not isinstance(elements, list):
        return []
    return [each for each in elements if isinstance(each, dict) and each]


def _element_properties(element: dict[str, Any], omitted: str = "") -> dict[str, PropertyValue]:
    return {
        checked_name(snake_case(name)): storable(value)
        for name, value in element.items()
        if value is not None and name != omitted
    }


def links_text(links: Sequence[Link], listed: Sequence[Sequence[ListedLink]]) -> str | None:
    """Return how a node records its relationships: equal texts mean equal relationships.

    None if it has none. A long text is replaced by its hash.
    """
    text = "|".join([f"{target.entity} {target.id}" if target else "" for _, target in links])
    if any(listed):
        text += json_text([[[*link.target, link.properties] for link in each] for each in listed])
    if len(text) > _LINKS_LENGTH_MAX:
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return text if text.strip("|") else None


def _variables(data: dict[str, Any]) -> dict[str, Any]:
    variables = data.get(VARIABLES_FIELD)
    if isinstance(variables, dict):
        return variables
    if is_blank(variables):
        return {}
    raise InvalidEventError("recordData is not an object", reason="record_data")
