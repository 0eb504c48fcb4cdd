"""The kinds of entity in a study: one row each, from the API to the graph.

To add a kind, add a row to ``ENTITIES``: the source reads it, the sink writes it, and constraints,
documentation and diagram follow. Fields and documented filter attributes are those of the API's
reference; rows are ordered parents first.
"""

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
    """Neither: the whole list is read in id order and compared with the known states."""


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
    indexed: tuple[str, ...] = ()
    """Further properties by which users look entities up."""
    is_metadata: bool = False
    """Changed rarely, and only by those who build the study."""

    @cached_property
    def key_properties(self) -> tuple[str, ...]:
        """The node key in the graph: ``study_key`` and, except for studies, the numeric id."""
        own = snake_case(self.id_field)
        return (own,) if own == "study_key" else ("study_key", own)

    @property
    def plural(self) -> str:
        """The name of a list of this kind."""
        return self.resource or "studies"

    @property
    def id_is_number(self) -> bool:
        """Whether ids are positive integers (otherwise non-empty strings)."""
        return self.name != "study"


def snake_case(name: str) -> str:
    """``recordId`` -> ``record_id``: the SDK's Python name for an API field."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _fields(names: str) -> tuple[str, ...]:
    return tuple(names.split())


_STUDY = Target("study")

ENTITIES: dict[str, Entity] = {
    entity.name: entity
    for entity in (
        Entity(
            name="study",
            label="Study",
            is_metadata=True,
            resource="",
            id_field="studyKey",
            reading=Reading.LISTED,
            fields=_fields(
                "sponsorKey studyKey studyId studyName studyDescription studyType dateCreated"
                " dateModified"
            ),
        ),
        Entity(
            name="site",
            label="Site",
            is_metadata=True,
            resource="sites",
            id_field="siteId",
            reading=Reading.WINDOWED,
            fields=_fields(
                "studyKey siteId siteName siteEnrollmentStatus dateCreated dateModified"
            ),
            references=(Reference("HAS_SITE", (_STUDY,)),),
        ),
        Entity(
            name="subject",
            label="Subject",
            resource="subjects",
            id_field="subjectId",
            reading=Reading.LISTED,
            fields=_fields(
                "studyKey subjectId subjectOid subjectKey subjectStatus siteId siteName deleted"
                " enrollmentStartDate dateCreated dateModified keywords"
            ),
            references=(
                Reference("HAS_SUBJECT", (_STUDY,)),
                Reference("AT_SITE", (Target("site", "siteId"),), outgoing=True),
            ),
            indexed=("subject_key",),
        ),
        Entity(
            name="visit",
            label="Visit",
            resource="visits",
            id_field="visitId",
            reading=Reading.LISTED,
            fields=_fields(
                "visitId studyKey intervalId intervalName subjectId subjectKey startDate endDate"
                " dueDate visitDate visitDateForm visitDateQuestion deleted dateCreated"
                " dateModified"
            ),
            references=(Reference("HAS_VISIT", (Target("subject", "subjectId"), _STUDY)),),
        ),
        Entity(
            name="record",
            label="Record",
            resource="records",
            id_field="recordId",
            reading=Reading.WINDOWED,
            fields=_fields(
                "studyKey intervalId formId formKey siteId recordId recordOid recordType"
                " recordStatus deleted dateCreated dateModified subjectId subjectOid subjectKey"
                " visitId parentRecordId keywords recordData"
            ),
            references=(
                Reference(
                    "HAS_RECORD",
                    (
                        Target("visit", "visitId"),
                        Target("subject", "subjectId"),
                        Target("site", "siteId"),
                        _STUDY,
                    ),
                ),
                Reference("CHILD_OF", (Target("record", "parentRecordId"),), outgoing=True),
            ),
            indexed=("form_key", "subject_key"),
        ),
        Entity(
            name="record_revision",
            label="RecordRevision",
            resource="recordRevisions",
            id_field="recordRevisionId",
            reading=Reading.APPENDED,
            fields=_fields(
                "studyKey recordRevisionId recordId recordOid recordRevision dataRevision"
                " recordStatus subjectId subjectOid subjectKey siteId formKey intervalId role user"
                " reasonForChange deleted dateCreated"
            ),
            references=(
                Reference(
                    "HAS_REVISION",
                    (Target("record", "recordId"), Target("subject", "subjectId"), _STUDY),
                ),
            ),
        ),
    )
}
