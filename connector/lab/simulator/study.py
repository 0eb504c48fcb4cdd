"""A simulated study: every resource, with referential integrity, reproducible from a seed."""

import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from connector.lab.simulator.forms import FORM_BY_KEY, FORMS, Form
from connector.lab.simulator.resources import FILTERS, IDS, SORTED_LIKE_IDS
from connector.lab.simulator.tables import Table

VISITS_PER_SUBJECT = 5
SUBJECTS_PER_SITE = 50
_BEGIN = datetime(2024, 1, 8, 6, 0, tzinfo=UTC)
_DAYS_BETWEEN_VISITS, _SLACK_DAYS = 28, 3
_SITE_FORM_SHARE = 0.004
QUERY_STATUSES = ("Monitor Query Open", "Answered", "Closed")
_STATUSES = ("Record Incomplete", "Record Complete", "Record Verified", "Record Locked")


def api_date(at: datetime) -> str:
    """Format a time as the API does: UTC, whole seconds."""
    return at.strftime("%Y-%m-%d %H:%M:%S")


@dataclass(slots=True)
class Study:
    """A study's tables, and the state needed to change them."""

    key: str
    rng: random.Random
    row: dict[str, Any]
    tables: dict[str, Table] = field(default_factory=dict)
    logins: list[str] = field(default_factory=list)
    visits_of: dict[int, list[int]] = field(default_factory=dict)
    revised: dict[int, int] = field(default_factory=dict)
    """The newest revision of each record that has several."""
    next_record_id: int = 1
    next_revision_id: int = 1
    next_query_id: int = 1

    def table(self, resource: str) -> Table:
        """Return the table of a resource."""
        return self.tables[resource]

    def new_record(
        self, form: Form, subject: dict[str, Any] | None, visit: dict[str, Any] | None, at: str
    ) -> dict[str, Any]:
        """Add a record and its first revision; return the record."""
        rng, draw = self.rng, self.rng.random
        record_id = self.next_record_id
        self.next_record_id += 1
        row: dict[str, Any] = {
            "studyKey": self.key,
            "intervalId": visit["intervalId"] if visit else None,
            "formId": form.form_id,
            "formKey": form.key,
            "siteId": subject["siteId"] if subject else 1 + record_id % len(self.table("sites")),
            "recordId": record_id,
            "recordOid": f"REC-{record_id}",
            "recordType": "SUBJECT" if subject else "SITE",
            "recordStatus": rng.choice(_STATUSES),
            "deleted": False,
            "dateCreated": at,
            "dateModified": at,
            "subjectId": subject["subjectId"] if subject else None,
            "subjectOid": subject["subjectOid"] if subject else "",
            "subjectKey": subject["subjectKey"] if subject else "",
            "visitId": visit["visitId"] if visit else None,
            "parentRecordId": 0,
            "keywords": [],
            "recordData": {
                variable.name: variable.pool[int(draw() * len(variable.pool))]
                for variable in form.variables
            },
        }
        self.table("records").put(row)
        self._add_revision(row, at, 1)
        return row

    def revise(self, record: dict[str, Any], at: str) -> None:
        """Append a revision of a record that has changed, as the API does at each change."""
        record_id = record["recordId"]
        self.revised[record_id] = self.revised.get(record_id, 1) + 1
        self._add_revision(record, at, self.revised[record_id])

    def _add_revision(self, record: dict[str, Any], at: str, number: int) -> None:
        self.table("recordRevisions").put(
            {
                "studyKey": self.key,
                "recordRevisionId": self.next_revision_id,
                "recordId": record["recordId"],
                "recordOid": record["recordOid"],
                "recordRevision": number,
                "dataRevision": number,
                "recordStatus": record["recordStatus"],
                "subjectId": record["subjectId"],
                "subjectOid": record["subjectOid"],
                "subjectKey": record["subjectKey"],
                "siteId": record["siteId"],
                "formKey": record["formKey"],
                "intervalId": record["intervalId"],
                "role": "Data Entry",
                "user": self.logins[record["recordId"] % len(self.logins)],
                "reasonForChange": "Data entry" if number == 1 else "Correction",
                "deleted": record["deleted"],
                "dateCreated": at,
            }
        )
        self.next_revision_id += 1


def build_study(key: str, subjects: int, records: int, seed: int) -> Study:
    """Build a study with this many subjects and about this many records; same seed, same study."""
    rng = random.Random(f"{seed}/{key}")
    begin = api_date(_BEGIN)
    dates = {"dateCreated": begin, "dateModified": begin}
    row: dict[str, Any] = {
        "sponsorKey": "SPONSOR", "studyKey": key, "studyId": 1 + seed % 1000,
        "studyName": f"Simulated study {key}", "studyDescription": "Made by the simulator",
        "studyType": "STUDY", **dates,
    }  # fmt: skip
    study = Study(key, rng, row)
    for resource, filters in FILTERS.items():
        study.tables[resource] = Table(
            key, IDS[resource], frozenset(filters.split()), SORTED_LIKE_IDS.get(resource, "")
        )
    _add_users(study)
    _add_forms(study, dates)
    _add_intervals(study, dates)
    _add_subjects(study, subjects, dates)
    _add_records(study, records)
    _add_annotations(study)
    return study


def _add_users(study: Study) -> None:
    moment = [2024, 1, 8, 6, 0, 0, 123_000_000]
    for number in range(12):
        study.logins.append(login := f"user{number:02}")
        role = {
            "dateCreated": moment, "dateModified": moment, "roleId": 1 + number % 3,
            "communityId": 1, "name": ("Data Entry", "Monitor", "Data Manager")[number % 3],
            "description": "", "level": "1", "type": "STUDY", "inactive": False,
        }  # fmt: skip
        study.table("users").put(
            {
                "userId": str(uuid.UUID(int=study.rng.getrandbits(128), version=4)),
                "login": login,
                "firstName": "First",
                "lastName": f"Last{number}",
                "email": f"{login}@example.invalid",
                "userActiveInStudy": number != 11,  # noqa: PLR2004
                "roles": [role],
            }
        )


def _add_forms(study: Study, dates: dict[str, str]) -> None:
    """Add the forms and their variables."""
    variable_id = 1
    for form in FORMS:
        study.table("forms").put(
            {
                "studyKey": study.key,
                "formId": form.form_id,
                "formKey": form.key,
                "formName": form.name,
                "formType": "Subject",
                "revision": 1,
                "embeddedLog": form.is_log,
                "enforceOwnership": False,
                "userAgreement": False,
                "subjectRecordReport": True,
                "unscheduledVisit": False,
                "otherForms": False,
                "eproForm": False,
                "allowCopy": True,
                "disabled": False,
                **dates,
            }
        )
        for sequence, variable in enumerate(form.variables, 1):
            study.table("variables").put(
                {
                    "studyKey": study.key,
                    "variableId": variable_id,
                    "variableType": variable.kind.upper(),
                    "variableName": variable.name,
                    "sequence": sequence,
                    "revision": 1,
                    "disabled": False,
                    **dates,
                    "formId": form.form_id,
                    "variableOid": f"OID-{variable_id}",
                    "deleted": False,
                    "formKey": form.key,
                    "formName": form.name,
                    "label": variable.name.title(),
                    "blinded": False,
                }
            )
            variable_id += 1


def _add_intervals(study: Study, dates: dict[str, str]) -> None:
    scheduled = [
        {"formId": form.form_id, "formKey": form.key, "formName": form.name}
        for form in FORMS if not form.is_log
    ]  # fmt: skip
    for number in range(1, VISITS_PER_SUBJECT + 1):
        study.table("intervals").put(
            {
                "studyKey": study.key,
                "intervalId": number,
                "intervalName": f"Visit {number}",
                "intervalDescription": "",
                "intervalSequence": 10 * number,
                "intervalGroupId": 1,
                "intervalGroupName": "Treatment",
                "timeline": "Start Date End Date",
                "definedUsingInterval": "",
                "windowCalculationForm": "DM",
                "windowCalculationDate": "RANDDTC",
                "actualDateForm": "VS",
                "actualDate": "VSDTC",
                "dueDateWillBeIn": _DAYS_BETWEEN_VISITS * number,
                "negativeSlack": _SLACK_DAYS,
                "positiveSlack": _SLACK_DAYS,
                "eproGracePeriod": 0,
                "forms": scheduled,
                "disabled": False,
                **dates,
            }
        )


def _add_subjects(study: Study, subjects: int, dates: dict[str, str]) -> None:
    """Add sites, subjects and their visits."""
    sites = 1 + (subjects - 1) // SUBJECTS_PER_SITE
    for site_id in range(1, sites + 1):
        study.table("sites").put(
            {
                "studyKey": study.key,
                "siteId": site_id,
                "siteName": f"Site {site_id:03}",
                "siteEnrollmentStatus": "Enrollment Open",
                **dates,
            }
        )
    for subject_id in range(1, subjects + 1):
        site_id = 1 + subject_id % sites
        enrolled = api_date(_BEGIN + timedelta(minutes=3 * subject_id))
        keyword = {"keywordName": "Data Entry Error", "keywordKey": "DEE", "keywordId": 1,
                   "dateAdded": enrolled}  # fmt: skip
        study.table("subjects").put(
            {
                "studyKey": study.key,
                "subjectId": subject_id,
                "subjectOid": f"SUB-{subject_id}",
                "subjectKey": f"{site_id:03}-{subject_id:05}",
                "subjectStatus": "Enrolled",
                "siteId": site_id,
                "siteName": f"Site {site_id:03}",
                "deleted": False,
                "enrollmentStartDate": enrolled,
                "dateCreated": enrolled,
                "dateModified": enrolled,
                "keywords": [keyword] if subject_id % 9 == 0 else [],
            }
        )
        study.visits_of[subject_id] = []
        for number in range(1, VISITS_PER_SUBJECT + 1):
            _add_visit(study, subject_id, number, enrolled)


def _add_visit(study: Study, subject_id: int, number: int, at: str) -> None:
    visit_id = (subject_id - 1) * VISITS_PER_SUBJECT + number
    subject = study.table("subjects").get(subject_id)
    due = datetime.fromisoformat(at).date() + timedelta(days=_DAYS_BETWEEN_VISITS * number)
    study.table("visits").put(
        {
            "visitId": visit_id,
            "studyKey": study.key,
            "intervalId": number,
            "intervalName": f"Visit {number}",
            "subjectId": subject_id,
            "subjectKey": subject["subjectKey"],
            "startDate": (due - timedelta(days=_SLACK_DAYS)).isoformat(),
            "endDate": (due + timedelta(days=_SLACK_DAYS)).isoformat(),
            "dueDate": None,
            "visitDate": f"2024-{1 + number:02}-15",
            "visitDateForm": "VS",
            "visitDateQuestion": "VSDTC",
            "deleted": False,
            "dateCreated": at,
            "dateModified": at,
        }
    )
    study.visits_of[subject_id].append(visit_id)


def _add_records(study: Study, records: int) -> None:
    """Add records per subject: demographics once, vitals and labs per visit, then log lines.

    A few become records of the site instead.
    """
    subjects = list(study.table("subjects").rows())
    visits = {row["visitId"]: row for row in study.table("visits").rows()}
    per_subject = max(1, round(records / len(subjects)))
    at = _BEGIN + timedelta(days=20)
    for subject in subjects:
        plan: list[tuple[str, dict[str, Any] | None]] = []
        for number, visit_id in enumerate(study.visits_of[subject["subjectId"]]):
            plan += [("DM", visits[visit_id])] if number == 0 else []
            plan += [("VS", visits[visit_id]), ("LB", visits[visit_id])]
        plan += [
            (("AE", "CM")[index % 2], None) for index in range(max(0, per_subject - len(plan)))
        ]
        for key, visit in plan[:per_subject]:
            at += timedelta(seconds=study.rng.random() < 0.5)  # noqa: PLR2004 - half of the dates are equal
            owner = None if study.rng.random() < _SITE_FORM_SHARE else subject
            form = FORM_BY_KEY[key]
            study.new_record(form, owner, visit if owner else None, api_date(at))
    _add_parents(study)


def _add_parents(study: Study) -> None:
    """Make every seventh record, if an adverse event, a child of the record before it."""
    table = study.table("records")
    for record_id in table.ids[6::7]:
        row = table.get(record_id)
        if row["formKey"] == "AE":
            table.put({**row, "parentRecordId": record_id - 1})


def _add_annotations(study: Study) -> None:
    """Add a query to every 50th record and a coding to every 10th."""
    for record_id in study.table("records").ids:
        if record_id % 50 == 0:
            record = study.table("records").get(record_id)
            add_query(study, record, record["dateCreated"])
        if record_id % 10 == 0:
            record = study.table("records").get(record_id)
            add_coding(study, record, record["dateCreated"], "24.0")


def add_query(study: Study, record: dict[str, Any], at: str) -> None:
    """Open a query on a record's first variable."""
    comment = {
        "sequence": 1, "annotationStatus": QUERY_STATUSES[0], "user": study.logins[1],
        "comment": "Please check.", "closed": False, "date": at,
    }  # fmt: skip
    study.table("queries").put(
        {
            "studyKey": study.key,
            "subjectId": record["subjectId"],
            "subjectOid": record["subjectOid"],
            "annotationType": "subject",
            "annotationId": study.next_query_id,
            "type": None,
            "description": "Monitor Query",
            "recordId": record["recordId"],
            "variable": next(iter(record["recordData"])),
            "subjectKey": record["subjectKey"],
            "dateCreated": at,
            "dateModified": at,
            "queryComments": [comment],
        }
    )
    study.next_query_id += 1


def add_coding(study: Study, record: dict[str, Any], at: str, dictionary: str) -> None:
    """Code a record's first variable, or replace its coding."""
    variable, value = next(iter(record["recordData"].items()))
    study.table("codings").put(
        {
            "studyKey": study.key,
            "siteName": f"Site {record['siteId']:03}",
            "siteId": record["siteId"],
            "subjectId": record["subjectId"],
            "subjectKey": record["subjectKey"],
            "formId": record["formId"],
            "formName": FORM_BY_KEY[record["formKey"]].name,
            "formKey": record["formKey"],
            "revision": 1,
            "recordId": record["recordId"],
            "variable": variable,
            "value": value,
            "codingId": f"C{record['recordId']:07}",
            "code": "10019211",
            "codedBy": "First Last0",
            "reason": "Initial coding",
            "dictionaryName": "MedDRA",
            "dictionaryVersion": dictionary,
            "dateCoded": at,
        }
    )
