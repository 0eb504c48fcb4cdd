"""Records that a caller hands over: their versions, their subjects, and newer states. Pure.

The time at which such a record was read is unknown, so its ``dateModified`` orders its states.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from connector.model.dates import parse_api_date
from connector.model.entities import ENTITIES
from connector.model.events import Identity, valid_id
from connector.model.graph import NodeChange
from connector.model.properties import LINKS
from connector.neo4j.export_queries import NodeState

BEHIND_MS = 1000
"""Versions lag the API's clock, which shows whole seconds: a stream's state of that second wins."""
_VERSION_MIN = 1
"""Stubs and derived nodes (version 0) are older than any record, whatever its date."""
_SECOND_MS = 1000


def supplied_version(row: Mapping[str, Any], now_ms: int) -> int:
    """The version of a record with an unknown time of reading: its ``dateModified``, else now.

    It was read at some time between its last change and now. A stream versions the same state by
    its time of reading, which is never earlier: an outdated record never replaces a newer state.
    Dates are in whole seconds, so the version is ``BEHIND_MS`` lower than the date.
    """
    changed = parse_api_date(row.get("dateModified"))
    if changed is None:
        return now_ms
    return max(_VERSION_MIN, min(now_ms, round(changed.timestamp() * 1000) - BEHIND_MS))


def versions(read_at_ms: int | None, now_ms: int) -> Callable[[Mapping[str, Any]], int]:
    """What gives records their versions. ``read_at_ms``: None if they were handed over undated."""
    if read_at_ms is not None:
        return lambda _: read_at_ms - BEHIND_MS
    return lambda row: supplied_version(row, now_ms - BEHIND_MS)


def refer_to_each_other(changes: Sequence[NodeChange]) -> bool:
    """Whether one refers to the entity of another: that node is merged, even if it existed."""
    targets = {link.target for change in changes for link in change.links}
    return any(change.identity in targets for change in changes)


class Decision(NamedTuple):
    """How to treat the changes of a batch."""

    changes: list[NodeChange]
    """To write, each with a version that passes the guard."""
    absent: set[Identity]
    """Those of them whose node does not exist."""
    left_alone: set[Identity]
    """Not to write: the graph has a newer state."""


def decide(
    changes: Sequence[NodeChange], states: Mapping[Identity, NodeState], *, are_dated: bool
) -> Decision:
    """Decide which changes to write. ``are_dated``: versions are the records' own dates.

    Dates are in whole seconds, so two states of a record may have the same date. The state that is
    handed over later counts as newer: it gets the graph's version plus one.
    """
    decision = Decision([], set(), set())
    for change in changes:
        state = states.get(change.identity)
        if state is None:
            decision.absent.add(change.identity)
            decision.changes.append(change)
        elif state.version < change.version:
            if not _is_same(state, change):
                decision.changes.append(change)
        elif are_dated and state.version // _SECOND_MS == change.version // _SECOND_MS:
            if not _is_same(state, change):
                decision.changes.append(change.with_version(state.version + 1))
        elif state.content_hash != change.content_hash:
            decision.left_alone.add(change.identity)
    return decision


def _is_same(state: NodeState, change: NodeChange) -> bool:
    return (
        state.content_hash == change.content_hash
        and state.links == (change.value(LINKS) or "")
        and state.model >= ENTITIES[change.identity.entity].model_revision
    )


# --------------------------------------------------------------------------------------- subjects


class ResolvedRows(NamedTuple):
    """Rows with the subject ids that were found, and the number of those without one."""

    rows: list[dict[str, Any]]
    unresolved_rows: int
    unresolved_keys: int


def subject_keys_without_id(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """The subject keys of rows that name their subject by key alone."""
    return {row["subjectKey"] for row in rows if _has_key_alone(row)}


def with_subject_ids(
    rows: Sequence[dict[str, Any]], in_graph: Mapping[str, Collection[int]]
) -> ResolvedRows:
    """Add the subject id to each row whose subject key belongs to exactly one subject.

    ``in_graph``: the graph's subject ids, by key. Ids in other rows of the batch count, too.
    """
    ids = {key: set(found) for key, found in in_graph.items()}
    for row in rows:
        subject = valid_id("subject", row.get("subjectId"))
        if isinstance(subject, int) and isinstance(key := row.get("subjectKey"), str):
            ids.setdefault(key, set()).add(subject)
    resolved, unresolved = [], []
    for row in rows:
        if _has_key_alone(row):
            found = ids.get(row["subjectKey"], set())
            if len(found) == 1:
                row = {**row, "subjectId": next(iter(found))}  # noqa: PLW2901 - replaces the row
            else:
                unresolved.append(row["subjectKey"])
        resolved.append(row)
    return ResolvedRows(resolved, len(unresolved), len(set(unresolved)))


def _has_key_alone(row: Mapping[str, Any]) -> bool:
    key = row.get("subjectKey")
    if row.get("subjectId") or not isinstance(key, str) or not key:
        return False
    try:
        key.encode()
    except UnicodeEncodeError:  # the record is refused later, for its content
        return False
    return True
