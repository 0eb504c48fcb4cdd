"""The simulator's tables: rows stored as JSON bytes, indexed by id and change date."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from connector.lab.simulator.filters import Alternatives, FilterError, Term, holds, literal


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of a list request."""

    alternatives: Alternatives
    data_alternatives: Alternatives
    sort: list[tuple[str, bool]]
    page: int
    size: int


@dataclass(slots=True)
class Table:
    """The rows of one resource of one study, in id order."""

    study_key: str
    id_field: str
    filterable: frozenset[str]
    sorted_like_ids: str = ""
    bodies: dict[Any, bytes] = field(default_factory=dict)
    modified: dict[Any, str] = field(default_factory=dict)
    ids: list[Any] = field(default_factory=list)
    log: list[tuple[str, Any]] = field(default_factory=list)
    """Every change as (date, id), oldest first; only an id's newest change counts."""

    def __len__(self) -> int:
        return len(self.ids)

    def get(self, row_id: Any) -> dict[str, Any]:
        """Return a copy of the row."""
        row: dict[str, Any] = orjson.loads(self.bodies[row_id])
        return row

    def put(self, row: dict[str, Any]) -> None:
        """Add or replace a row."""
        row_id = row[self.id_field]
        if row_id not in self.bodies:
            if self.ids and row_id < self.ids[-1]:
                insort(self.ids, row_id)
            else:
                self.ids.append(row_id)
        self.bodies[row_id] = orjson.dumps(row)
        if changed := row.get("dateModified"):
            self.modified[row_id] = changed
            self.log.append((changed, row_id))

    def remove(self, row_id: Any) -> None:
        """Delete a row permanently."""
        del self.bodies[row_id]
        self.modified.pop(row_id, None)
        del self.ids[bisect_left(self.ids, row_id)]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Iterate over copies of all rows in id order."""
        return (self.get(row_id) for row_id in self.ids)

    def select(self, query: Query) -> tuple[int, list[bytes]]:
        """Return the number of matching rows and the bodies of the requested page.

        Raises:
            FilterError: an attribute is not a documented filter of this resource, or a value
                does not fit it.
        """
        ids = self._matching(query)
        if query.sort and query.sort not in (
            [(self.id_field, True)],
            [(self.sorted_like_ids, True)],
        ):
            ids = self._sorted(ids, query.sort)
        start = query.page * query.size
        return len(ids), [self.bodies[row_id] for row_id in ids[start : start + query.size]]

    def _matching(self, query: Query) -> list[Any]:
        for group in query.alternatives:
            for term in group:
                if term.name not in self.filterable and term.name != "studyKey":
                    raise FilterError(term.name, term.value)
        if not any(query.data_alternatives) and len(query.alternatives) == 1:
            return self._matching_all(query.alternatives[0])
        return [
            row_id
            for row_id in self.ids
            if _any(query.alternatives, row := self.get(row_id))
            and _any(query.data_alternatives, row.get("recordData") or {})
        ]

    def _matching_all(self, terms: list[Term]) -> list[Any]:
        ids, rest = self.ids, []
        for term in terms:
            if term.name == "studyKey" != self.id_field and term.op == "==":
                ids = ids if term.value == self.study_key else []
            elif term.name == "dateModified" and term.op == ">=" and ids is self.ids:
                ids = self._changed_since(str(literal(term.value, "")))
            else:
                rest.append(term)
        for term in list(rest):
            if term.name == self.id_field and term.op == ">" and ids and isinstance(ids[0], int):
                try:
                    ids = ids[bisect_right(ids, int(term.value)) :]
                except ValueError:
                    raise FilterError(term.name, term.value) from None
                rest.remove(term)
        if not rest:
            return ids
        return [each for each in ids if all(holds(term, self.get(each)) for term in rest)]

    def _changed_since(self, date: str) -> list[Any]:
        recent = self.log[bisect_left(self.log, (date,)) :]
        return sorted({each for _, each in recent if self.modified.get(each, "") >= date})

    def _sorted(self, ids: list[Any], sort: list[tuple[str, bool]]) -> list[Any]:
        rows = {row_id: self.get(row_id) for row_id in ids}
        ordered = list(ids)
        for name, ascending in reversed(sort):
            ordered.sort(
                key=_sort_key(rows, name),
                reverse=not ascending,
            )
        return ordered


def _sort_key(rows: dict[Any, dict[str, Any]], name: str) -> Callable[[Any], Any]:
    return lambda each: (rows[each].get(name) is None, rows[each].get(name))


def _any(alternatives: Alternatives, row: dict[str, Any]) -> bool:
    return any(all(holds(term, row) for term in group) for group in alternatives)
