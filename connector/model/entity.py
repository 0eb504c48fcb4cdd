"""What the table of kinds says about a kind: how it is read, and its form in the graph."""

import re
from dataclasses import dataclass
from enum import Enum
from functools import cached_property


class Reading(Enum):
    """How the API lets a kind be read."""

    WINDOWED = "windowed"
    """Id and ``dateModified`` are documented filters: read by keyset pages, then by windows."""
    APPENDED = "appended"
    """Rows never change: read by keyset pages, then from the newest id on."""
    LISTED = "listed"
    """Neither: the whole list is read page by page and compared with the known states."""
    EMBEDDED = "embedded"
    """No endpoint: only ids within other kinds' rows. Its nodes have no more than their key."""


@dataclass(frozen=True, slots=True)
class Target:
    """The kind that a field of another entity refers to; without a field, the event's study."""

    entity: str
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A relationship owned by the referring entity: it goes to the first target that the row gives.

    ``outgoing`` is from the owner's view: ``(owner)-[:AT_SITE]->(target)`` is outgoing,
    ``(target)-[:HAS_RECORD]->(owner)`` is not.
    """

    relationship: str
    targets: tuple[Target, ...]
    outgoing: bool = False


@dataclass(frozen=True, slots=True)
class ReferenceList:
    """Relationships owned by the referring entity: one for each element of a list field.

    ``(owner)-[relationship]->(target)``, with the element's other fields as properties.
    """

    relationship: str
    target: str
    """The kind that the elements refer to."""
    field: str
    id_field: str
    """The element's field with the target's id."""


@dataclass(frozen=True, slots=True)
class PartList:
    """Nodes that belong to one entity: one for each element of a list field.

    ``(owner)-[relationship]->(part)``. The owner's next event replaces all of them.
    """

    relationship: str
    label: str
    field: str


@dataclass(frozen=True)
class Entity:
    """One kind: its names in the API, how it is read, and its form in the graph."""

    name: str
    label: str
    resource: str
    """Path below the study; empty for the list of studies itself."""
    id_field: str
    reading: Reading
    fields: tuple[str, ...]
    """Documented fields. A form variable with the name of a field is stored with a prefix."""
    references: tuple[Reference, ...] = ()
    reference_lists: tuple[ReferenceList, ...] = ()
    parts: tuple[PartList, ...] = ()
    model_revision: int = 1
    """Raised whenever this row changes the graph of an unchanged event. A replay then updates the
    nodes that an earlier revision wrote."""
    id_is_number: bool = True
    """Whether ids are positive integers. Otherwise they are text."""
    id_fallback: tuple[str, ...] = ()
    """Fields that together identify a row whose id field is blank."""
    listed_by: str = ""
    """The sort field of a list, if the API does not document sorting it by id."""
    query_parameters: tuple[tuple[str, str], ...] = ()
    """Sent with each request for this kind."""
    personal_fields: tuple[str, ...] = ()
    """Fields with personal data of users: ``SOURCE_OMIT_PERSONAL_DATA`` leaves them out."""
    definition_fields: tuple[str, ...] = ()
    """If each row defines a variable of a form: the fields with the form's id, the variable's name
    and its type."""
    indexed: tuple[str, ...] = ()
    """Further properties by which users look entities up."""
    is_metadata: bool = False
    """Changed rarely, and only by those who build the study."""

    @cached_property
    def key_properties(self) -> tuple[str, ...]:
        """The node key in the graph: ``study_key`` and, except for studies, its own id."""
        own = snake_case(self.id_field)
        return (own,) if own == "study_key" else ("study_key", own)

    @cached_property
    def owned_references(self) -> tuple[Reference, ...]:
        """The relationships that the kind's own events create: references, then those of lists."""
        lists = (
            Reference(each.relationship, (Target(each.target),), outgoing=True)
            for each in self.reference_lists
        )
        return (*self.references, *lists)

    @property
    def plural(self) -> str:
        """The name of a list of this kind."""
        return self.resource or re.sub("y$", "ie", self.name) + "s"

    @property
    def sort_field(self) -> str:
        """The field that pages are sorted by."""
        return self.listed_by or self.id_field


def snake_case(name: str) -> str:
    """``recordId`` -> ``record_id``: the SDK's Python name for an API field."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
