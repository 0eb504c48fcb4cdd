"""The cookbook's questions against answers computed from the API's rows, and its rules."""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

import pytest

from connector.cookbook.recipes import recipes
from connector.lab.simulator.study import Study, build_study
from connector.lab.simulator.workload import Workload
from connector.model.entities import READ_KINDS
from connector.model.graph import node_change
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.statement import Statement
from connector.neo4j.writer import Neo4jGraphWriter
from tests.builders import upsert
from tests.programs import run_program

pytestmark = pytest.mark.servers
Row = dict[str, Any]
Answer = list[tuple[Any, ...]]
VERSION = 1_700_000_000_000
QUESTIONS = [name for name, recipe in recipes().items() if not recipe.is_rule]
RULES = [name for name, recipe in recipes().items() if recipe.is_rule]


def write_study(database: Neo4jDatabase, study: Study) -> None:
    """Write all rows of the study to the graph, as a sink does."""
    changes = [
        node_change(upsert(row, VERSION, entity.name, study.key))
        for entity in READ_KINDS.values()
        for row in (study.table(entity.resource).rows() if entity.resource else [study.row])
    ]
    Neo4jGraphWriter(database, {}).write(changes, {change.identity for change in changes})


# ------------------------------------------------------------------------------- the questions


class Tables:
    """The rows of a study, and what several answers need of them."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.sites = {row["siteId"]: row["siteName"] for row in self.rows("sites")}
        self.subjects = {row["subjectId"]: row for row in self.rows("subjects")}
        self.records = {row["recordId"]: row for row in self.rows("records")}
        self.visits = {row["visitId"]: row for row in self.rows("visits")}
        self.intervals = {row["intervalId"]: row for row in self.rows("intervals")}

    def rows(self, resource: str) -> Iterator[Row]:
        return self.study.table(resource).rows()

    def live_records(self, form: str | None = None) -> list[Row]:
        rows = (row for row in self.records.values() if not row["deleted"])
        return [row for row in rows if form in (None, row["formKey"])]

    def site_of(self, subject_id: int | None) -> str | None:
        return self.sites[self.subjects[subject_id]["siteId"]] if subject_id else None

    def open_queries(self) -> list[Row]:
        return [row for row in self.rows("queries") if not row["queryComments"][-1]["closed"]]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def open_queries(t: Tables) -> Answer:
    days = defaultdict(list)
    for row in t.open_queries():
        age = datetime.now(UTC) - at(row["dateCreated"])
        days[t.site_of(row["subjectId"])].append(age.days)
    return [(site, len(each), max(each)) for site, each in days.items()]


def days_to_close(t: Tables) -> Answer:
    days = defaultdict(list)
    for row in t.rows("queries"):
        last = row["queryComments"][-1]
        if last["closed"]:
            took = at(last["date"]) - at(row["dateCreated"])
            days[t.site_of(row["subjectId"])].append(took.days)
    return [(site, len(each), float(median(each)), max(each)) for site, each in days.items()]


def reopened(t: Tables) -> Answer:
    found = []
    for row in t.rows("queries"):
        closed = "".join("c" if each["closed"] else "o" for each in row["queryComments"])
        if count := closed.count("co"):
            found.append((row["annotationId"], row["recordId"], row["variable"], count))
    return found


def took_place(t: Tables) -> list[Row]:
    with_records = {row["visitId"] for row in t.records.values()}
    return [
        row
        for row in t.visits.values()
        if not row["deleted"] and (row["visitDate"] or row["visitId"] in with_records)
    ]


def missing_visits(t: Tables) -> Answer:
    had = defaultdict(set)
    for row in took_place(t):
        had[row["subjectId"]].add(row["intervalId"])
    latest = {
        subject: max(t.intervals[each]["intervalSequence"] for each in ids)
        for subject, ids in had.items()
    }
    return [
        (t.subjects[subject]["subjectKey"], interval["intervalName"])
        for subject, ids in had.items()
        for interval in t.intervals.values()
        if interval["intervalSequence"] < latest[subject] and interval["intervalId"] not in ids
        and not interval["disabled"]
    ]  # fmt: skip


def missing_forms(t: Tables) -> Answer:
    had = {(row["visitId"], row["formId"]) for row in t.live_records()}
    return [
        (visit["subjectKey"], visit["visitId"], visit["intervalName"], form["formKey"])
        for visit in took_place(t)
        for form in t.intervals[visit["intervalId"]]["forms"]
        if (visit["visitId"], form["formId"]) not in had
    ]


def outside_window(t: Tables) -> Answer:
    found = []
    for visit in t.visits.values():
        interval = t.intervals[visit["intervalId"]]
        opens, closes, due = (visit[name] for name in ("startDate", "endDate", "dueDate"))
        if visit["deleted"] or not visit["visitDate"] or not (opens or due):
            continue
        visited = date.fromisoformat(visit["visitDate"])
        if opens is None:
            day = date.fromisoformat(due)
            opens = (day - timedelta(interval["negativeSlack"])).isoformat()
            closes = (day + timedelta(interval["positiveSlack"])).isoformat()
        before = (visited - date.fromisoformat(opens)).days
        after = (visited - date.fromisoformat(closes)).days
        if before < 0 or after > 0:
            off = after if after > 0 else before
            found.append((visit["subjectKey"], visit["visitId"], visit["intervalName"], opens,
                          closes, visit["visitDate"], off))  # fmt: skip
    return found


def visit_to_entry(t: Tables) -> Answer:
    days = defaultdict(list)
    for row in t.records.values():
        if row["visitId"] and not row["deleted"] and not t.visits[row["visitId"]]["deleted"]:
            visited = date.fromisoformat(t.visits[row["visitId"]]["visitDate"])
            entered = at(row["dateCreated"]).date()
            days[t.sites[row["siteId"]]].append((entered - visited).days)
    return [(site, len(each), float(median(each)), max(each)) for site, each in days.items()]


def revisions_of(t: Tables) -> dict[int, list[Row]]:
    found = defaultdict(list)
    for row in t.rows("recordRevisions"):
        found[row["recordId"]].append(row)
    return found


def after_completion(t: Tables) -> Answer:
    found = []
    for record_id, revisions in revisions_of(t).items():
        done = [row for row in revisions if "Incomplete" not in row["recordStatus"]]
        if done and (changes := revisions[-1]["dataRevision"] - done[0]["dataRevision"]):
            first = done[0]
            found.append((record_id, first["formKey"], first["recordStatus"], first["dateCreated"],
                          changes))  # fmt: skip
    return found


def without_reason(t: Tables) -> Answer:
    return [
        (row["recordId"], row["recordRevision"], row["user"], row["dateCreated"])
        for revisions in revisions_of(t).values()
        for before, row in pairwise(revisions)
        if row["dataRevision"] > before["dataRevision"] and not row["reasonForChange"].strip()
    ]


def odd_hours(t: Tables) -> Answer:
    changes, at_night = Counter[str](), Counter[str]()
    for row in t.rows("recordRevisions"):
        changes[row["user"]] += 1
        hour = at(row["dateCreated"]).hour
        at_night[row["user"]] += hour >= 22 or hour < 6
    return [(user, at_night[user], changes[user]) for user in changes if at_night[user]]


def most_changed(t: Tables) -> Answer:
    found = [
        (record_id, rows[0]["formKey"], len(rows),
         len({row["user"] for row in rows}))
        for record_id, rows in revisions_of(t).items() if len(rows) > 1
    ]  # fmt: skip
    return sorted(found, key=lambda row: (-row[2], row[0]))[:50]


def drift(t: Tables) -> Answer:
    versions: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in t.rows("codings"):
        is_deleted = t.records.get(row["recordId"], {}).get("deleted")
        if row["dictionaryVersion"].strip() and not is_deleted:
            key = row["dictionaryName"], str(row["value"]).lower()
            versions[key][row["dictionaryVersion"]] += 1
    return [(*key, sorted(each), each.total()) for key, each in versions.items() if len(each) > 1]


def days_of(text: str) -> tuple[date, date]:
    """The first and the last day that a date, which may be partial, can stand for."""
    year, *rest = (int(part) for part in text.split("-") if part != "UN")
    first = date(year, rest[0] if rest else 1, rest[1] if len(rest) > 1 else 1)
    if len(rest) > 1:
        return first, first
    month = rest[0] if rest else 12
    return first, date(year + month // 12, month % 12 + 1, 1) - timedelta(1)


def data_of(row: Row) -> Row:
    return {name.upper(): value for name, value in row["recordData"].items()}


def ae_with_cm(t: Tables) -> Answer:
    found = []
    for ae in t.live_records("AE"):
        event = data_of(ae)
        for cm in t.live_records("CM"):
            drug = data_of(cm)
            if cm["subjectId"] != ae["subjectId"] or ae["subjectId"] is None:
                continue
            if not event["AESTDTC"] or not drug["CMSTDTC"]:
                continue
            first, last = days_of(event["AESTDTC"])
            end = drug["CMENDTC"]
            if days_of(drug["CMSTDTC"])[0] <= last and (not end or days_of(end)[1] >= first):
                found.append((ae["subjectKey"], ae["recordId"], event["AETERM"], event["AESTDTC"],
                              cm["recordId"], drug["CMTRT"]))  # fmt: skip
    return found


def ae_outcomes(t: Tables) -> Answer:
    subjects = defaultdict(list)
    for ae in t.live_records("AE"):
        data = data_of(ae)
        subjects[data["AETERM"], data["AEACN"], data["AEOUT"]].append(ae["subjectId"])
    return [(*key, len(each), len(set(each) - {None})) for key, each in subjects.items()]


def disposition(t: Tables) -> Answer:
    rows = t.subjects.values()
    counts = Counter((t.sites[row["siteId"]], row["subjectStatus"]) for row in rows)
    return [(*key, count) for key, count in counts.items()]


def log_lines(t: Tables) -> Answer:
    children = defaultdict(list)
    for row in t.live_records():
        if row["parentRecordId"]:
            children[row["parentRecordId"]].append(row["recordId"])
    return [
        (parent, t.records.get(parent, {}).get("formKey"), len(each), each)
        for parent, each in children.items()
    ]


def workload(t: Tables) -> Answer:
    rows = t.rows("recordRevisions")
    counts = Counter((t.sites[row["siteId"]], row["dateCreated"][:7]) for row in rows)
    return [(*key, count) for key, count in counts.items()]


def roles(t: Tables) -> Answer:
    return [
        (row["login"], row["userActiveInStudy"], role["name"], not role["inactive"])
        for row in t.rows("users") for role in row["roles"]
    ]  # fmt: skip


def clean_subjects(t: Tables) -> Answer:
    incomplete = Counter(
        row["subjectId"] for row in t.live_records() if "Incomplete" in row["recordStatus"]
    )
    own = Counter(row["subjectId"] for row in t.open_queries())
    return [
        (row["subjectKey"], not own[key] and not incomplete[key], own[key], incomplete[key])
        for key, row in t.subjects.items()
    ]


def timeline(t: Tables) -> Answer:
    found: Answer = []
    keys = {row["subjectKey"] for row in t.subjects.values()}
    for row in t.subjects.values():
        found.append((row["subjectKey"], row["enrollmentStartDate"], "enrolled", row["subjectId"]))
    for row in (row for row in t.visits.values() if row["visitDate"] and not row["deleted"]):
        event = f"visit {row['intervalName']}"
        found.append((row["subjectKey"], row["visitDate"], event, row["visitId"]))
    for record_id, revisions in revisions_of(t).items():
        record = t.records.get(record_id)
        for row in revisions if record and record["subjectKey"] in keys else []:
            what = "entered" if row["recordRevision"] == 1 else "changed"
            what = "deleted" if row["deleted"] else what
            event = f"{record['formKey']} {what}"  # type: ignore[index]
            found.append((record["subjectKey"], row["dateCreated"], event, record_id))  # type: ignore[index]
    for row in t.rows("queries"):
        owner = row if row["recordId"] is None else t.records.get(row["recordId"])
        for comment in row["queryComments"] if owner and owner["subjectKey"] in keys else []:
            event = f"query: {comment['annotationStatus']}"
            found.append((owner["subjectKey"], comment["date"], event, row["annotationId"]))  # type: ignore[index]
    return found


ANSWERS: dict[str, Callable[[Tables], Answer]] = {
    "adverse-event-outcomes": ae_outcomes,
    "adverse-events-with-medication": ae_with_cm,
    "changes-after-completion": after_completion,
    "changes-at-odd-hours": odd_hours,
    "changes-without-reason": without_reason,
    "clean-subjects": clean_subjects,
    "coding-drift": drift,
    "days-from-visit-to-entry": visit_to_entry,
    "days-to-close-queries": days_to_close,
    "disposition": disposition,
    "log-lines": log_lines,
    "missing-forms": missing_forms,
    "missing-visits": missing_visits,
    "most-changed-records": most_changed,
    "open-queries": open_queries,
    "reopened-queries": reopened,
    "roles": roles,
    "subject-timeline": timeline,
    "visits-outside-window": outside_window,
    "workload": workload,
}


@pytest.fixture(scope="module")
def edited(database: Neo4jDatabase) -> Study:
    """A study with every kind of edit, in the graph."""
    study = build_study("COOKBOOK", 12, 400, 4)
    now = datetime(2024, 6, 1, 20, tzinfo=UTC).timestamp()
    edits = Workload(study, lambda: now)
    for _ in range(500):
        now += 400
        edits.step()
    make_awkward(study)
    write_study(database, study)
    return study


def make_awkward(study: Study) -> None:
    """Plant what real studies have and a first answer overlooks."""
    visits, intervals = study.table("visits"), study.table("intervals")
    visits.put(visits.get(7) | {"deleted": True})
    visits.put(visits.get(8) | {"startDate": None, "endDate": None, "dueDate": "2024-05-13"})
    visits.put(visits.get(9) | {"startDate": None, "endDate": None})
    # The last visit is planned for two subjects, and has taken place for one of them.
    planned = intervals.get(5) | {
        "intervalId": 6,
        "intervalName": "Visit 6",
        "intervalSequence": 60,
    }
    intervals.put(planned)
    for number, subject in enumerate((3, 4)):
        like = visits.get(5 * subject)
        visits.put(
            like | {"visitId": 900 + number, "intervalId": 6, "intervalName": "Visit 6",
                    "visitDate": "" if number else "2024-07-15", "startDate": None, "endDate": None}
        )  # fmt: skip
    revisions = study.table("recordRevisions")
    several = [each for each in revisions.rows() if each["recordRevision"] > 1]
    revisions.put(several[-1] | {"reasonForChange": " "})
    # Only the status was changed, which needs no reason and is no change of data.
    status_only = several[0]["recordId"]
    for row in [each for each in revisions.rows() if each["recordId"] == status_only]:
        revisions.put(row | {"dataRevision": 1, "reasonForChange": ""})
    records = study.table("records")
    for index, record_id in enumerate(records.ids):
        row = records.get(record_id)
        data = row["recordData"]
        if row["formKey"] in ("AE", "CM") and index % 3 == 0:  # names in lower case
            data = {name.lower(): value for name, value in data.items()}
        if row["formKey"] == "CM" and index % 4 == 0:
            data = {
                name: ("2024-UN-UN", "2024-02-UN", "")[index % 3]
                if "stdtc" in name.lower()
                else value
                for name, value in data.items()
            }
        records.put(row | {"recordData": data})
    queries = study.table("queries")
    of_subject = queries.get(queries.ids[0]) | {"annotationId": 9001, "recordId": None}
    queries.put(of_subject | {"variable": ""})
    codings = study.table("codings")
    codings.put(codings.get(codings.ids[0]) | {"dictionaryVersion": ""})


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_has_the_answer_that_the_rows_give(
    database: Neo4jDatabase, edited: Study, name: str
) -> None:
    """Each question's rows equal those computed from the API's rows, and there are some."""
    found = database.read_table(recipes()[name].cypher, study=edited.key, subject=None)
    wanted = ANSWERS[name](Tables(edited))
    rows = [tuple(_sorted(value) for value in row) for row in found.rows]
    assert wanted
    assert sorted(rows, key=repr) == sorted((tuple(map(_sorted, row)) for row in wanted), key=repr)


def test_the_timeline_of_one_subject_is_its_part_of_the_whole(
    database: Neo4jDatabase, edited: Study, environment: dict[str, str]
) -> None:
    """``--subject`` leaves out all other subjects, and nothing else."""
    cypher = recipes()["subject-timeline"].cypher
    whole = database.read_table(cypher, study=edited.key, subject=None).rows
    subject = whole[len(whole) // 2][0]
    done = run_program(
        f"query subject-timeline --study {edited.key} --subject {subject} --json", environment
    )
    rows = [list(row.values()) for row in json.loads(done.stdout)]
    assert rows == [row for row in whole if row[0] == subject]
    assert 0 < len(rows) < len(whole)


def _sorted(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


MALFORMED = (
    "", " ", "2024-13-45", "0000-00-00", "2024-02-30", "2023-02-29 10:00:00", "2024-02-03 25:61:00",
    "x", 7, 1.5, True, ["a"],
)  # fmt: skip


@pytest.mark.parametrize("shift", range(len(MALFORMED)))
def test_no_question_and_no_rule_fails_for_a_malformed_value(
    database: Neo4jDatabase, shift: int
) -> None:
    """Whatever stands in a field, a question or rule skips it; the other rows are answered."""
    study = build_study(f"MALFORMED{shift}", 3, 60, 4)
    write_study(database, study)
    nodes = database.read(
        "MATCH (n {study_key: $study}) RETURN elementId(n), keys(n)", study=study.key
    )
    rows = [
        [node, {name: MALFORMED[(number + shift) % len(MALFORMED)]
                for number, name in enumerate(sorted(names)) if not name.endswith(("_id", "_key"))
                and not name.startswith("_")}]
        for node, names in nodes
    ]  # fmt: skip
    cypher = "UNWIND $batch.rows AS row MATCH (n) WHERE elementId(n) = row[0] SET n += row[1]"
    database.write(Statement(cypher, rows), {})
    for recipe in recipes().values():
        database.read_table(recipe.cypher, study=study.key, subject=None)


# ----------------------------------------------------------------------------------- the rules

PLANTED = {
    "coding-of-another-value": "MATCH (c:Coding {study_key: $s}) WITH c LIMIT 1 SET c.value = 'x'",
    "duplicate-subject-key": "MATCH (n:Subject {study_key: $s, subject_id: 2}) MATCH (m:Subject"
    " {study_key: $s, subject_id: 3}) SET n.subject_key = m.subject_key",
    "interval-schedules-disabled-form": "MATCH (n:Interval {study_key: $s, interval_id: 1})"
    " CREATE (n)-[:SCHEDULES]->(:Form {study_key: $s, form_id: 999, disabled: true, _version: 1})",
    "missing-entity": "MATCH (n:Record {study_key: $s}) WITH n LIMIT 1"
    " CREATE (n)-[:CHILD_OF]->(:Record {study_key: $s, record_id: 999999})",
    "modified-before-created": "MATCH (n:Visit {study_key: $s, visit_id: 3})"
    " SET n.date_modified = '1999-01-01 00:00:00'",
    "parent-of-another-subject": "MATCH (n:Record {study_key: $s})-[:CHILD_OF]->(m:Record)"
    " WHERE m.subject_id > 0 WITH n LIMIT 1 SET n.subject_id = n.subject_id + 5",
    "query-on-deleted-record": "MATCH (n:Record {study_key: $s})-[:HAS_QUERY]->() WITH n LIMIT 1"
    " SET n.deleted = true",
    "query-on-unknown-variable": "MATCH (n:Query {study_key: $s}) WITH n LIMIT 1"
    " SET n.variable = 'NONE'",
    "record-is-its-own-ancestor": "MATCH (n:Record {study_key: $s}) WITH n LIMIT 1"
    " CREATE (n)-[:CHILD_OF]->(n)",
    "record-of-another-subject": "MATCH (:Visit {study_key: $s})-[:HAS_RECORD]->(n) WITH n LIMIT 1"
    " SET n.subject_id = n.subject_id + 1",
    "record-of-unknown-form": "MATCH (n:Record {study_key: $s, form_key: 'AE'}) WITH n LIMIT 1"
    " SET n.form_id = 998",
    "record-on-deleted-visit": "MATCH (n:Visit {study_key: $s})-[:HAS_RECORD]->(r)"
    " WHERE NOT r.deleted WITH n LIMIT 1 SET n.deleted = true",
    "revision-by-unknown-user": "MATCH (n:RecordRevision {study_key: $s}) WITH n LIMIT 1"
    " SET n.user = 'nobody'",
    "revision-without-record": "MATCH (:Record {study_key: $s})-[r:HAS_REVISION]->() WITH r LIMIT 1"
    " DELETE r",
    "subject-without-site": "MATCH (:Subject {study_key: $s})-[r:AT_SITE]->() WITH r LIMIT 1"
    " DELETE r",
    "visit-without-subject": "MATCH (:Subject {study_key: $s})-[r:HAS_VISIT]->(v)"
    " WHERE NOT v.deleted WITH r LIMIT 1 DELETE r",
}


def test_each_rule_finds_its_planted_violation_and_none_in_a_clean_study(
    database: Neo4jDatabase,
) -> None:
    """A rule reports nothing until its violation is planted, and then reports it."""
    study = build_study("RULES", 12, 400, 4)
    write_study(database, study)

    def violations(name: str) -> int:
        return len(database.read_table(recipes()[name].cypher, study=study.key, subject=None).rows)

    assert {name: violations(name) for name in RULES} == dict.fromkeys(RULES, 0)
    assert set(PLANTED) == set(RULES)
    for name, cypher in PLANTED.items():
        plant = f"UNWIND $batch.rows AS s {cypher.replace('$s', 's')}".replace(
            "WITH n ", "WITH n, s "
        )
        database.write(Statement(plant, [study.key]), {})
        assert violations(name) > 0, name


# --------------------------------------------------------------------------------- the command


def test_the_command_prints_tables_csv_and_json(edited: Study, environment: dict[str, str]) -> None:
    """``query`` prints the same rows in three forms, and a list of all names."""
    ask = f"query disposition --study {edited.key}"
    table, comma, data = (
        run_program(f"{ask}{each}", environment) for each in ("", " --csv", " --json")
    )
    rows = json.loads(data.stdout)
    assert [list(row) for row in rows] == [["site", "status", "subjects"]] * len(rows)
    assert list(csv.reader(io.StringIO(comma.stdout)))[1:] == [
        [str(value) for value in row.values()] for row in rows
    ]
    assert "Site 001" in table.stdout
    listed = run_program("query --list", environment)
    assert all(name in listed.stdout for name in recipes())


def test_the_command_checks_all_rules(edited: Study, environment: dict[str, str]) -> None:
    """``query --rules`` exits with 1 and counts the violations of each rule."""
    done = run_program(f"query --rules --study {edited.key} --json", environment)
    counts = {row["rule"]: row["violations"] for row in json.loads(done.stdout)}
    assert counts.keys() == set(RULES)
    assert done.returncode == (1 if any(counts.values()) else 0)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("query nothing --study COOKBOOK", 1, "Unknown query nothing"),
        ("query roles --study NONE", 1, "The graph does not have study NONE"),
        ("query roles --study COOKBOOK --subject 1", 1, "--subject works with subject-timeline"),
        ("query subject-timeline --study COOKBOOK --subject X", 1, "has no subject with the key X"),
        ("query roles", 2, "Give the key of the study"),
        ("query", 2, "Give a name, or --rules, or --list"),
        ("query roles --study COOKBOOK --csv --json", 2, "either --csv or --json"),
    ],
)
def test_bad_input_is_one_clear_line(
    edited: Study, environment: dict[str, str], arguments: str, code: int, text: str
) -> None:
    """An unknown query, study or combination of options is refused with a clear message."""
    assert edited
    done = run_program(arguments, environment)
    assert done.returncode == code
    assert text in done.stderr
