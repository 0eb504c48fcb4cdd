"""Turns what is known into what the templates show. Pure, but for the clock."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from connector.model.letters import Letter
from connector.model.reasons import REASONS
from connector.neo4j.reader import to_native
from connector.ops import status
from connector.ops.status import Severity
from connector.ui.durations import ago, counted, duration, moment, since
from connector.ui.snapshot import Snapshot, problems

LETTERS_SHOWN = 200
_TONES = {
    Severity.FAILING: "bad",
    Severity.STOPPED: "warn",
    Severity.BUSY: "busy",
    Severity.WELL: "ok",
}
_CHANGE_TONES = {"failed": "bad", "recovered": "ok"}


def letters_waiting(taken: Snapshot | None) -> int:
    """The number of dead letters that wait, for the navigation."""
    return taken.around.letters_by_reason.total() if taken else 0


def pipeline(taken: Snapshot | None, taken_at: float = 0.0) -> dict[str, Any]:
    """What the pipeline's page shows; nothing is known before the first answers."""
    if taken is None:
        return {"taken": None}
    around, programs = taken.around, taken.programs
    fresh_ms = status.freshness_ms(programs)
    lag = around.total_lag
    waiting = around.letters_by_reason.most_common()
    partitions = status.partitions(programs, around, _group(programs))
    return {
        "taken": taken,
        "taken_at": round(taken_at, 1),
        "problems": problems(taken),
        "stages": _stages(taken, lag),
        "freshness": None if fresh_ms is None else duration(time.time() - fresh_ms / 1000),
        "lag": lag,
        "catch_up": _catch_up(taken, lag),
        "studies": [_study(each) for each in status.studies(programs, around)],
        "letters": _bars(waiting),
        "partitions": _bars([(str(each.partition), each.lag or 0) for each in partitions]),
        "nodes": [(_words(kind), count) for kind, count in around.nodes.items()],
        "are_letters_known": around.knows("kafka"),
        "are_nodes_known": around.knows("neo4j"),
        "notifications": _notifications(programs),
    }


def _group(programs: Sequence[Mapping[str, Any]]) -> str:
    return next((str(each["group"]) for each in programs if each["role"] == "sink"), "")


def _catch_up(taken: Snapshot, lag: int | None) -> str:
    if lag is None:
        return "not known"
    if not lag:
        return "caught up"
    seconds = status.catch_up_seconds(lag, taken.published, taken.applied)
    return "growing or steady" if seconds is None else f"caught up in {duration(seconds)}"


def _stages(taken: Snapshot, lag: int | None) -> list[dict[str, Any]]:
    """The five parts of the pipeline, in the order in which an event passes them."""
    sources = [each for each in taken.programs if each["role"] == "source"]
    sinks = [each for each in taken.programs if each["role"] == "sink"]
    failing = {each["what"] for program in taken.programs for each in program["failing"]}
    studies = status.studies(taken.programs, taken.around)
    broken = sum(each.severity is Severity.FAILING for each in studies)
    failing |= taken.around.failing
    is_asked = taken.around.is_asked
    nodes = f"{sum(taken.around.nodes.values()):,} nodes"
    return [
        _stage("iMednet API", "imednet" in failing, not sources, "answering",
               [f"{each['requests_left']:,} of {each['requests_per_minute_max']:,} requests left"
                for each in sources]),
        _stage("Source", bool(broken), not sources,
               f"{broken} of {len(studies)} studies failing" if broken else "polling",
               [f"{taken.published:,.0f} events/s", counted(len(studies), "study", "studies")]),
        _stage("Kafka", "kafka" in failing, False, "answering" if is_asked else "asking ...",
               [f"{'unknown' if lag is None else format(lag, ',')} events behind"]),
        _stage("Sinks", False, not sinks, counted(len(sinks), "sink", "sinks"),
               [f"{taken.applied:,.0f} events/s"]),
        _stage("Neo4j", "neo4j" in failing, False, "answering" if is_asked else "asking ...",
               [nodes] if taken.around.knows("neo4j") else []),
    ]  # fmt: skip


def _stage(name: str, is_bad: bool, is_silent: bool, well: str, lines: list[str]) -> dict[str, Any]:  # noqa: FBT001
    if is_silent:
        return {"name": name, "tone": "warn", "state": "no answer", "lines": []}
    bad = well if well.endswith("failing") else "failing"
    return {"name": name, "tone": "bad" if is_bad else "ok", "state": bad if is_bad else well,
            "lines": lines}  # fmt: skip


def _study(each: status.StudyStatus) -> dict[str, Any]:
    state, _, detail = each.state.partition(": ")
    return {
        "study": each.study,
        "tone": _TONES[each.severity],
        "state": state,
        "detail": detail,
        "since": since(each.since) if each.since else None,
        "read": ago(each.read_ms) if each.read_ms else "never",
        "letters": each.dead_letters,
    }


def _notifications(programs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The newest state changes of all programs, the newest first."""
    found = [
        {
            "at": each["at"],
            "kind": each["type"].replace("_", " "),
            "tone": _CHANGE_TONES.get(each["type"], "warn"),
            "subject": each["subject"],
            "reason": each.get("reason", ""),
            "role": program["role"],
        }
        for program in programs
        for each in program["notifications"]
    ]
    return sorted(found, key=lambda each: each["at"], reverse=True)[:12]


def _bars(counts: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Counts with the length of their bars, as a share of the largest, in steps of 5 %."""
    largest = max((count for _, count in counts), default=0)
    return [
        {"name": name, "count": count, "step": -(-20 * count // largest) * 5 if largest else 0}
        for name, count in counts
    ]


def letters(newest: Sequence[Letter], count: int, reason: str | None) -> dict[str, Any]:
    """What the page of dead letters shows: no key, header or value."""
    rows = [
        {
            "id": str(each.id),
            "time": moment(each.time_ms),
            "reason": each.reason,
            "meaning": REASONS.get(each.reason, "not known to this version"),
            "study": each.study or "",
            "kind": each.kind or "",
            "entity": each.entity_id or "",
            "stage": each.stage.name.lower(),
        }
        for each in newest
    ]
    return {"rows": rows, "reason": reason, "more": count - len(newest)}


def shown(value: Any) -> str:
    """A value of a record as text, spelled as in the API."""
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return str(value).lower() if isinstance(value, bool) else str(to_native(value))


def number(value: float | None) -> str:
    """A number with thousands separators; a dash if it is not known."""
    return "-" if value is None else f"{value:,.0f}"


def clock(text: str) -> str:
    """The time of day of an ISO 8601 moment, for a list of today's changes."""
    at = datetime.fromisoformat(text)
    is_today = at.date() == datetime.now(UTC).date()
    return at.strftime("%H:%M" if is_today else "%d %b %H:%M")


def _words(name: str) -> str:
    """The words of a name in camel case: record revisions."""
    return re.sub(r"(?=[A-Z])", " ", name).lower()


FILTERS: dict[str, Callable[..., str]] = {
    "number": number, "clock": clock, "moment": moment, "shown": shown,
}  # fmt: skip
