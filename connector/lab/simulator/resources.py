"""The API's resources: the id field and the documented filter attributes of each."""

# Only documented filter attributes are accepted, so that nothing works here by luck and fails on
# the real API. studyKey is accepted for every resource, because the SDK always sends it.
FILTERS = {
    "sites": "siteId siteName siteEnrollmentStatus dateCreated dateModified",
    "subjects": "subjectId subjectStatus siteName deleted enrollmentStartDate",
    "visits": "subjectKey visitDate deleted intervalId intervalName dateCreated dateModified",
    "intervals": "intervalId intervalGroupName disabled dateCreated",
    "forms": "formId formKey formName formType dateCreated dateModified",
    "variables": "variableId variableType variableName dateCreated dateModified formId formKey"
    " formName label",
    "records": "intervalId formId formKey siteId recordId parentRecordId recordType recordStatus"
    " subjectKey dateCreated dateModified",
    "recordRevisions": "recordRevisionId recordId recordOid recordRevision dataRevision"
    " recordStatus user reasonForChange dateCreated subjectKey",
    "queries": "variable annotationType description dateCreated",
    "codings": "siteId subjectId formId recordId revision variable value code codedBy reason"
    " dictionaryName dictionaryVersion dateCoded",
    "users": "",
}
IDS = {
    "sites": "siteId", "subjects": "subjectId", "visits": "visitId", "intervals": "intervalId",
    "forms": "formId", "variables": "variableId", "records": "recordId",
    "recordRevisions": "recordRevisionId", "queries": "annotationId", "codings": "codingId",
    "users": "login",
}  # fmt: skip
SORTED_LIKE_IDS = {"codings": "recordId"}
"""A field whose order is that of the ids, which saves sorting the table by it."""
STUDY_FILTERS = frozenset(["studyKey", "studyType", "studyName", "dateCreated", "dateModified"])
