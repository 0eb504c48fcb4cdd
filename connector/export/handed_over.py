"""Records that are handed over: their versions, their subjects, and what is newer. Pure.

Nobody says when such a record was read, so its ``dateModified`` orders its states.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from connector.model.dates import parse_api_date
from connector.model.events import Identity, valid_id
from connector.model.graph import REDIRECTED, NodeChange
from connector.neo4j.export_queries import NodeState

_VERSION_MIN = 1
"""Stubs and derived nodes (version 0) are older than any record, whatever its date."""
_SECOND_MS = 1000


def handed_over_version(row: Mapping[str, Any], now_ms: int) -> int:
    """The version of a record of which nobody says when it was read: when it was changed.

    It was read at some time between then and now. A stream's state of it has the time of its
    reading, so it is never older: a record that has lain about puts nothing back.
    """
    changed = parse_api_date(row.get("dateModified"))
    if changed is None:
        return now_ms
    return max(_VERSION_MIN, min(now_ms, round(changed.timestamp() * 1000)))


class Decision(NamedTuple):
    """What becomes of the changes of a batch."""

    changes: list[NodeChange]
    """To be written, each with a version that the guard lets pass."""
    absent: set[Identity]
    """Those among them whose node does not exist."""
    left_alone: set[Identity]
    """The graph has a newer state of these."""


def decide(
    changes: Sequence[NodeChange], states: Mapping[Identity, NodeState], *, are_dated: bool
) -> Decision:
    """Which changes must be written. ``are_dated``: versions are the records' own dates.

    A date says whole seconds, so two states of a record may have the same one. The state that is
    handed over later is the newer one: it gets the version after the graph's.
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
                decision.changes.append(_with_version(change, state.version + 1))
        elif state.content_hash != change.content_hash:
            decision.left_alone.add(change.identity)
    return decision


def _is_same(state: NodeState, change: NodeChange) -> bool:
    is_redirected = change.value(REDIRECTED) is not None
    return state.content_hash == change.content_hash and state.is_redirected == is_redirected


def _with_version(change: NodeChange, version: int) -> NodeChange:
    values = list(change.values)
    values[change.names.index("_version")] = version
    return change._replace(version=version, values=values)


# --------------------------------------------------------------------------------------- subjects


class ResolvedRows(NamedTuple):
    """Rows with the subject ids that were found, and what was not found."""

    rows: list[dict[str, Any]]
    unresolved_rows: int
    unresolved_keys: int


def subject_keys_without_id(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """The subject keys of the rows that name a subject by its key alone."""
    return {row["subjectKey"] for row in rows if _has_key_alone(row)}


def with_subject_ids(
    rows: Sequence[dict[str, Any]], in_graph: Mapping[str, Collection[int]]
) -> ResolvedRows:
    """The rows, each with the id of its subject where its key is that of exactly one.

    ``in_graph``: the ids that the graph has for each key. Other rows of the batch count, too.
    """
    ids = {key: set(found) for key, found in in_graph.items()}
    for row in rows:
        subject = valid_id("subject", row.get("subjectId"))
        if isinstance(subject, int) and isinstance(key := row.get("subjectKey"), str):
            ids.setdefault(key, set()).add(subject)
    made, unresolved = [], []
    for row in rows:
        if _has_key_alone(row):
            found = ids.get(row["subjectKey"], set())
            if len(found) == 1:
                row = {**row, "subjectId": next(iter(found))}  # noqa: PLW2901 - the row itself
            else:
                unresolved.append(row["subjectKey"])
        made.append(row)
    return ResolvedRows(made, len(unresolved), len(set(unresolved)))


def _has_key_alone(row: Mapping[str, Any]) -> bool:
    key = row.get("subjectKey")
    if row.get("subjectId") or not isinstance(key, str) or not key:
        return False
    try:
        key.encode()
    except UnicodeEncodeError:  # such a record is refused for its content
        return False
    return True
