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
    def sort_field(self) -> str:
        """The field that pages are sorted by."""
        return self.listed_by or self.id_field


def snake_case(name: str) -> str:
    """``recordId`` -> ``record_id``: the SDK's Python name for an API field."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _fields(names: str) -> tuple[str, ...]:
    return tuple(names.split())


_STUDY = Target("study")
_KEYWORDS = ReferenceList("HAS_KEYWORD", "keyword", "keywords", "keywordId")

ENTITIES: dict[str, Entity] = {
    entity.name: entity
    for entity in (
        Entity(
            name="study",
            label="Study",
            is_metadata=True,
            resource="",
            id_field="studyKey",
            id_is_number=False,
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
            name="form",
            label="Form",
            is_metadata=True,
            resource="forms",
            id_field="formId",
            reading=Reading.WINDOWED,
            fields=_fields(
                "studyKey formId formKey formName formType revision embeddedLog enforceOwnership"
                " userAgreement subjectRecordReport unscheduledVisit otherForms eproForm allowCopy"
                " disabled dateCreated dateModified"
            ),
            references=(Reference("HAS_FORM", (_STUDY,)),),
            indexed=("form_key",),
        ),
        Entity(
            name="variable",
            label="Variable",
            is_metadata=True,
            resource="variables",
            id_field="variableId",
            reading=Reading.WINDOWED,
            fields=_fields(
                "studyKey variableId variableType variableName sequence revision disabled"
                " dateCreated dateModified formId variableOid deleted formKey formName label"
                " blinded"
            ),
            references=(Reference("HAS_VARIABLE", (Target("form", "formId"), _STUDY)),),
            indexed=("variable_name",),
        ),
        Entity(
            name="interval",
            label="Interval",
            is_metadata=True,
            resource="intervals",
            id_field="intervalId",
            reading=Reading.LISTED,
            fields=_fields(
                "studyKey intervalId intervalName intervalDescription intervalSequence"
                " intervalGroupId intervalGroupName timeline definedUsingInterval"
                " windowCalculationForm windowCalculationDate actualDateForm actualDate"
                " dueDateWillBeIn negativeSlack positiveSlack eproGracePeriod forms disabled"
                " dateCreated dateModified"
            ),
            references=(Reference("HAS_INTERVAL", (_STUDY,)),),
            reference_lists=(ReferenceList("SCHEDULES", "form", "forms", "formId"),),
        ),
        Entity(
            name="role",
            label="Role",
            is_metadata=True,
            resource="",
            id_field="roleId",
            reading=Reading.EMBEDDED,
            fields=_fields("studyKey roleId"),
        ),
        Entity(
            name="user",
            label="User",
            is_metadata=True,
            resource="users",
            id_field="userId",
            id_is_number=False,
            listed_by="login",
            query_parameters=(("includeInactive", "true"),),
            personal_fields=("firstName", "lastName", "email"),
            reading=Reading.LISTED,
            fields=_fields("userId login firstName lastName email userActiveInStudy roles"),
            references=(Reference("HAS_USER", (_STUDY,)),),
            reference_lists=(ReferenceList("HAS_ROLE", "role", "roles", "roleId"),),
            indexed=("login",),
        ),
        Entity(
            name="keyword",
            label="Keyword",
            is_metadata=True,
            resource="",
            id_field="keywordId",
            reading=Reading.EMBEDDED,
            fields=_fields("studyKey keywordId"),
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
            reference_lists=(_KEYWORDS,),
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
            references=(
                Reference("HAS_VISIT", (Target("subject", "subjectId"), _STUDY)),
                Reference("IN_INTERVAL", (Target("interval", "intervalId"),), outgoing=True),
            ),
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
                # No relationship to the form: a new relationship locks its target, and with a few
                # forms for all records writers would wait for each other (measured: a first load
                # at 0.57 of its rate). Queries join on form_key.
            ),
            reference_lists=(_KEYWORDS,),
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
        Entity(
            name="query",
            label="Query",
            resource="queries",
            id_field="annotationId",
            reading=Reading.LISTED,
            fields=_fields(
                "studyKey subjectId subjectOid annotationType annotationId type description"
                " recordId variable subjectKey dateCreated dateModified queryComments"
            ),
            references=(
                Reference(
                    "HAS_QUERY",
                    (Target("record", "recordId"), Target("subject", "subjectId"), _STUDY),
                ),
            ),
            parts=(PartList("HAS_COMMENT", "QueryComment", "queryComments"),),
        ),
        Entity(
            name="coding",
            label="Coding",
            resource="codings",
            id_field="codingId",
            id_is_number=False,
            id_fallback=("recordId", "variable", "revision"),
            listed_by="recordId",
            personal_fields=("codedBy",),
            reading=Reading.LISTED,
            fields=_fields(
                "studyKey siteName siteId subjectId subjectKey formId formName formKey revision"
                " recordId variable value codingId code codedBy reason dictionaryName"
                " dictionaryVersion dateCoded"
            ),
            references=(
                Reference(
                    "HAS_CODING",
                    (Target("record", "recordId"), Target("subject", "subjectId"), _STUDY),
                ),
            ),
            indexed=("code",),
        ),
    )
}
READ_KINDS: dict[str, Entity] = {
    name: entity for name, entity in ENTITIES.items() if entity.reading is not Reading.EMBEDDED
}
"""The kinds that the API has an endpoint for, parents first."""
NODE_KEYS: dict[str, tuple[str, ...]] = {
    entity.label: entity.key_properties for entity in ENTITIES.values()
} | {
    part.label: (*entity.key_properties, "position")
    for entity in ENTITIES.values()
    for part in entity.parts
}
"""The properties that identify a node, by label: of entities and of their parts."""
