"""Live edits of a simulated study, like those of site staff."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from connector.lab.simulator.forms import FORM_BY_KEY, FORMS
from connector.lab.simulator.study import QUERY_STATUSES, Study, add_coding, add_query, api_date

SAME_SECOND_PAUSE = 0.2
_ROWS_KEPT = 8
"""A source does not believe that most of a small kind has vanished."""


class Workload:
    """Random edits of a study, one per step, drawn from the study's own random numbers."""

    _KINDS = (
        ("edit", 50), ("edit_twice", 10), ("new_record", 20), ("toggle_deleted", 8),
        ("move_to_visit", 4), ("move_to_subject", 3), ("edit_subject", 4), ("hard_delete", 1),
        ("tag_record", 3), ("tag_subject", 2), ("edit_visit", 3), ("open_query", 3),
        ("comment_query", 6), ("remove_query", 1), ("code", 3), ("remove_coding", 1),
        ("edit_study", 1), ("edit_site", 1), ("edit_form", 1), ("edit_variable", 1),
        ("edit_interval", 1), ("edit_user", 2),
    )  # fmt: skip

    def __init__(self, study: Study, now: Callable[[], float] = time.time) -> None:
        self.study = study
        self._now = now
        self._names, self._weights = zip(*self._KINDS, strict=True)
        self._second_edits: list[tuple[float, int]] = []
        self.done: Counter[str] = Counter()

    def step(self) -> None:
        """Make one edit, and the due second halves of double edits."""
        due = [each for at, each in self._second_edits if at <= self._now()]
        self._second_edits = [pair for pair in self._second_edits if pair[0] > self._now()]
        for record_id in due:
            if record_id in self.study.table("records").bodies:
                self._change(record_id)
        kind = self.study.rng.choices(self._names, self._weights)[0]
        getattr(self, kind if kind == "hard_delete" else f"_{kind}")()
        self.done[kind] += 1

    def flush(self) -> None:
        """Make all pending second halves of double edits now."""
        for _, record_id in self._second_edits:
            if record_id in self.study.table("records").bodies:
                self._change(record_id)
        self._second_edits = []

    def _any_record(self) -> int:
        record_id: int = self.study.rng.choice(self.study.table("records").ids)
        return record_id

    def _save(self, row: dict[str, Any], **changed: Any) -> None:
        at = self._at
        row |= {**changed, "dateModified": at}
        self.study.table("records").put(row)
        self.study.revise(row, at)

    def _change(self, record_id: int) -> None:
        row = self.study.table("records").get(record_id)
        variables = FORM_BY_KEY[row["formKey"]].variables
        for variable in self.study.rng.sample(variables, 3):
            row["recordData"][variable.name] = self.study.rng.choice(variable.pool)
        row["recordData"]["EDITS"] = row["recordData"].get("EDITS", 0) + 1
        self._save(row)

    def _edit(self) -> None:
        self._change(self._any_record())

    def _edit_twice(self) -> None:
        """Make two states with the same dateModified, of which the second must survive."""
        record_id = self._any_record()
        self._change(record_id)
        self._second_edits.append((self._now() + SAME_SECOND_PAUSE, record_id))

    def _new_record(self) -> None:
        study = self.study
        subject = study.table("subjects").get(study.rng.choice(study.table("subjects").ids))
        form = study.rng.choice(FORMS)
        visit_id = study.rng.choice(study.visits_of[subject["subjectId"]])
        visit = None if form.is_log else study.table("visits").get(visit_id)
        study.new_record(form, subject, visit, self._at)

    def _toggle_deleted(self) -> None:
        row = self.study.table("records").get(self._any_record())
        self._save(row, deleted=not row["deleted"])

    def _move_to_visit(self) -> None:
        row = self.study.table("records").get(self._any_record())
        if row["subjectId"] is None:
            return
        visit_id = self.study.rng.choice(self.study.visits_of[row["subjectId"]])
        visit = self.study.table("visits").get(visit_id)
        self._save(row, visitId=visit_id, intervalId=visit["intervalId"])

    def _move_to_subject(self) -> None:
        row = self.study.table("records").get(self._any_record())
        subjects = self.study.table("subjects")
        subject = subjects.get(self.study.rng.choice(subjects.ids))
        self._save(
            row, subjectId=subject["subjectId"], subjectKey=subject["subjectKey"],
            subjectOid=subject["subjectOid"], siteId=subject["siteId"], visitId=None,
            intervalId=None,
        )  # fmt: skip

    def _edit_subject(self) -> None:
        subjects = self.study.table("subjects")
        row = subjects.get(self.study.rng.choice(subjects.ids))
        row["subjectStatus"] = self.study.rng.choice(("Enrolled", "Completed", "Withdrawn"))
        row["dateModified"] = self._at
        subjects.put(row)

    # ---------------------------------------------------------------------- the other kinds

    @property
    def _at(self) -> str:
        return api_date(datetime.fromtimestamp(self._now(), UTC))

    def _any(self, resource: str) -> dict[str, Any] | None:
        table = self.study.table(resource)
        return table.get(self.study.rng.choice(table.ids)) if table.ids else None

    def _put(self, resource: str, row: dict[str, Any] | None, **changed: Any) -> None:
        if row is not None:
            self.study.table(resource).put(row | changed)

    def _tag_record(self) -> None:
        row = self.study.table("records").get(self._any_record())
        self._save(row, keywords=self._tagged(row))

    def _tag_subject(self) -> None:
        row = self._any("subjects")
        if row is not None:
            self._put("subjects", row, keywords=self._tagged(row), dateModified=self._at)

    def _tagged(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the row's keywords after one was added, or removed if the row had it."""
        keyword_id = self.study.rng.randint(1, 4)
        kept = [each for each in row["keywords"] if each["keywordId"] != keyword_id]
        if len(kept) < len(row["keywords"]):
            return kept
        name = f"Keyword {keyword_id}"
        return [*kept, {"keywordName": name, "keywordKey": f"K{keyword_id}",
                        "keywordId": keyword_id, "dateAdded": self._at}]  # fmt: skip

    def _edit_visit(self) -> None:
        day = f"2024-{self.study.rng.randint(2, 9):02}-{self.study.rng.randint(1, 28):02}"
        self._put("visits", self._any("visits"), visitDate=day, dateModified=self._at)

    def _open_query(self) -> None:
        record = self.study.table("records").get(self._any_record())
        add_query(self.study, record, self._at)

    def _comment_query(self) -> None:
        """Answer, close or reopen a query."""
        row, rng = self._any("queries"), self.study.rng
        if row is None:
            return
        comments = row["queryComments"]
        comment = {
            "sequence": len(comments) + 1, "annotationStatus": rng.choice(QUERY_STATUSES),
            "user": rng.choice(self.study.logins), "comment": rng.choice(("Done.", "Why?")),
            "closed": rng.random() < 0.5, "date": self._at,  # noqa: PLR2004 - half of them
        }  # fmt: skip
        self._put("queries", row, queryComments=[*comments, comment], dateModified=self._at)

    def _remove_query(self) -> None:
        self._remove("queries", "annotationId")

    def _code(self) -> None:
        """Code a record's first variable, or code it again with a newer dictionary."""
        record = self.study.table("records").get(self._any_record())
        add_coding(self.study, record, self._at, self.study.rng.choice(("24.0", "25.1", "26.0")))

    def _remove_coding(self) -> None:
        self._remove("codings", "codingId")

    def _remove(self, resource: str, id_field: str) -> None:
        row, table = self._any(resource), self.study.table(resource)
        if row is not None and len(table) > _ROWS_KEPT:
            table.remove(row[id_field])

    def _edit_study(self) -> None:
        self.study.row |= {"studyDescription": f"Edited {self._at}", "dateModified": self._at}

    def _edit_site(self) -> None:
        status = self.study.rng.choice(("Enrollment Open", "Enrollment Closed"))
        self._put("sites", self._any("sites"), siteEnrollmentStatus=status, dateModified=self._at)

    def _edit_form(self) -> None:
        if (row := self._any("forms")) is not None:
            self._put("forms", row, revision=row["revision"] + 1, dateModified=self._at)

    def _edit_variable(self) -> None:
        if (row := self._any("variables")) is not None:
            changed = {"revision": row["revision"] + 1, "label": f"Label {row['revision']}"}
            self._put("variables", row, **changed, dateModified=self._at)

    def _edit_interval(self) -> None:
        """Take a form off a visit's schedule, or put it back."""
        row = self._any("intervals")
        forms = [each for each in self.study.table("forms").rows() if not each["embeddedLog"]]
        if row is None or not forms:
            return
        chosen = self.study.rng.choice(forms)
        form = {name: chosen[name] for name in ("formId", "formKey", "formName")}
        kept = [each for each in row["forms"] if each["formId"] != form["formId"]]
        if len(kept) == len(row["forms"]):
            kept.append(form)
        self._put("intervals", row, forms=kept, dateModified=self._at)

    def _edit_user(self) -> None:
        """Activate or deactivate a user and the user's first role."""
        if (row := self._any("users")) is not None:
            is_active = not row["userActiveInStudy"]
            first, *others = row["roles"]
            edit = f"Edit {self.done['edit_user']}"  # so that no state comes twice
            roles = [first | {"inactive": not is_active, "description": edit}, *others]
            self._put("users", row, userActiveInStudy=is_active, roles=roles)

    def hard_delete(self) -> None:
        """Remove a record without a trace."""
        self.study.table("records").remove(self._any_record())

    def hard_delete_visit(self) -> None:
        """Remove a visit without records. Not among the random edits: it scans all records."""
        records = self.study.table("records").rows()
        used = {row["visitId"] for row in records}
        if free := [each for each in self.study.table("visits").ids if each not in used]:
            visit_id = self.study.rng.choice(free)
            subject = self.study.table("visits").get(visit_id)["subjectId"]
            self.study.table("visits").remove(visit_id)
            self.study.visits_of[subject].remove(visit_id)
