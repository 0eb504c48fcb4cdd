"""Live edits of a simulated study, like those of site staff."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from connector.lab.simulator.forms import FORM_BY_KEY, FORMS
from connector.lab.simulator.study import Study, api_date

SAME_SECOND_PAUSE = 0.2


class Workload:
    """Random edits of a study, one per step, drawn from the study's own random numbers."""

    _KINDS = (
        ("edit", 50), ("edit_twice", 10), ("new_record", 20), ("toggle_deleted", 8),
        ("move_to_visit", 4), ("move_to_subject", 3), ("edit_subject", 4), ("hard_delete", 1),
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
        at = api_date(datetime.fromtimestamp(self._now(), UTC))
        row |= {**changed, "dateModified": at}
        self.study.table("records").put(row)
        self.study.revise(row, at, 2)

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
        at = api_date(datetime.fromtimestamp(self._now(), UTC))
        study.new_record(form, subject, visit, at)

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
        row["dateModified"] = api_date(datetime.fromtimestamp(self._now(), UTC))
        subjects.put(row)

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
