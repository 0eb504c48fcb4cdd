"""The kinds of entity in a study: one row each, from the API to the graph.

To add a kind, add a row to ``ENTITIES``: the source reads it, the sink writes it, and constraints,
documentation and diagram follow. Fields and documented filter attributes are those of the API's
reference; rows are ordered parents first.
"""

from connector.model.entity import Entity, PartList, Reading, Reference, ReferenceList, Target


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
            definition_fields=("formId", "variableName", "variableType"),
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
            id_is_number=False,  # not documented; the SDK's model has text
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
DEFINING_KINDS: list[Entity] = [each for each in READ_KINDS.values() if each.definition_fields]
"""The kinds whose rows define form variables."""
NODE_KEYS: dict[str, tuple[str, ...]] = {
    entity.label: entity.key_properties for entity in ENTITIES.values()
} | {
    part.label: (*entity.key_properties, "position")
    for entity in ENTITIES.values()
    for part in entity.parts
}
"""The properties that identify a node, by label: of entities and of their parts."""
