"""The state of the whole pipeline, put together from what each part says of itself. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple


class Severity(IntEnum):
    """How bad a state is; the worst comes first."""

    FAILING = 0
    STOPPED = 1
    BUSY = 2
    WELL = 3


class StudyStatus(NamedTuple):
    """One study, as one line."""

    study: str
    severity: Severity
    state: str
    since: str | None
    """If it fails: since when (ISO 8601)."""
    read_ms: int | None
    """When the source last read a page of it, or else committed its cursor."""
    dead_letters: int | None
    """None: not known."""


@dataclass(slots=True)
class Surroundings:
    """What Kafka and Neo4j say; what could not be asked is in ``problems``."""

    lag: Mapping[int, int] = field(default_factory=dict)
    cursors: Mapping[str, int] = field(default_factory=dict)
    """By study, when its cursor was committed (ms since the epoch)."""
    letters_by_reason: Counter[str] = field(default_factory=Counter)
    letters_by_study: Counter[str] = field(default_factory=Counter)
    nodes: Mapping[str, int] = field(default_factory=dict)
    """By kind, in the plural."""
    problems: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    """The servers that could not be asked: kafka, neo4j."""
    is_asked: bool = False
    """False until all servers were asked."""
    cluster_id: str = ""
    """Kafka's; empty if it is not known."""

    def knows(self, server: str) -> bool:
        """Whether this server has answered."""
        return self.is_asked and server not in self.failing

    @property
    def total_lag(self) -> int | None:
        """The lag over all partitions; None: not known, although sinks may know that of some."""
        return sum(self.lag.values()) if self.lag and self.knows("kafka") else None


class PartitionStatus(NamedTuple):
    """One partition of the events topic."""

    partition: int
    lag: int | None
    lag_seconds: float | None
    """Age of the oldest event that a sink has read and not applied; None: no sink has it."""
    sink: str | None
    """The address of the sink that reads it."""


def studies(programs: Sequence[Mapping[str, Any]], around: Surroundings) -> list[StudyStatus]:
    """Return the studies that run or have run, the worst first."""
    running: dict[str, Mapping[str, Any]] = {}
    for program in programs:
        for each in program["studies"] if program["role"] == "source" else ():
            other = running.get(each["study"])
            # Of two sources, one has taken the study over from the other.
            if other is None or (other["failing"] and not each["failing"]):
                running[each["study"]] = each
    found = [_study(study, running.get(study), around) for study in {*running, *around.cursors}]
    return sorted(found, key=lambda each: (each.severity, each.study))


def _study(study: str, running: Mapping[str, Any] | None, around: Surroundings) -> StudyStatus:
    letters = around.letters_by_study[study] if around.knows("kafka") else None
    committed_ms = around.cursors.get(study)
    if running is None:
        state = "no source of it answers here"
        return StudyStatus(study, Severity.STOPPED, state, None, committed_ms, letters)
    read_ms = running["read_ms"] or committed_ms
    if failing := running["failing"]:
        state, since = f"failing: {failing['reason']}", failing["since"]
        return StudyStatus(study, Severity.FAILING, state, since, read_ms, letters)
    if snapshot := running["snapshot"]:
        share = f"{100 * snapshot['rows'] // max(1, snapshot['total'])} %"
        rows = f"{snapshot['rows']:,} of {snapshot['total']:,}"
        state = f"snapshot of {snapshot['kind']}: {share} ({rows})"
        return StudyStatus(study, Severity.BUSY, state, None, read_ms, letters)
    return StudyStatus(study, Severity.WELL, "polling", None, read_ms, letters)


def partitions(
    programs: Sequence[Mapping[str, Any]], around: Surroundings, group_id: str
) -> list[PartitionStatus]:
    """Return the partitions, the one with the largest lag first."""
    readers: dict[int, tuple[float, str]] = {}
    for program in programs:
        if program["role"] == "sink" and program["group"] == group_id:
            for number, each in program["partitions"].items():
                readers[int(number)] = (each["lag_seconds"], program["address"])
    found = []
    for number in {*readers, *around.lag}:
        seconds, sink = readers.get(number, (None, None))
        found.append(PartitionStatus(number, around.lag.get(number), seconds, sink))
    return sorted(found, key=lambda each: (-(each.lag or 0), each.partition))


def failing(programs: Sequence[Mapping[str, Any]], around: Surroundings) -> list[str]:
    """Return what fails, as lines: what this command could not ask, then what programs report."""
    lines = list(around.problems)
    for program in programs:
        for each in program["failing"]:
            if not each["what"].startswith("study "):  # these have lines of their own
                what = f"{each['what']} since {each['since']}: {each['reason']}"
                lines.append(f"{program['role']} {program['address']}: {what}")
    return lines


def freshness_ms(programs: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the API's time at the newest change that any sink has applied; None if unknown."""
    times = [each["applied_ms"] for each in programs if each["role"] == "sink"]
    return max((each for each in times if each), default=None)


def rate(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], seconds: float
) -> tuple[float, float]:
    """Return events published and messages applied per second, between two answers."""
    published = applied = 0
    earlier = {program["address"]: program for program in before}
    for program in after:
        # A program that has just appeared or restarted has no rate yet.
        gained = _done(program) - _done(earlier.get(program["address"], program))
        if program["role"] == "source":
            published += max(0, gained)
        else:
            applied += max(0, gained)
    return published / seconds, applied / seconds


def catch_up_seconds(lag: int, published: float, applied: float) -> float | None:
    """Return how long the sinks need for the lag at these rates; None if they do not gain on it."""
    return lag / (applied - published) if lag and applied > published else None


def _done(program: Mapping[str, Any]) -> int:
    """The events that a source has published, or that a sink has finished with, since its start."""
    if program["role"] == "source":
        return sum(each["events"] for each in program["studies"])
    return int(program["consumed"])
