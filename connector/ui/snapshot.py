"""The whole pipeline at one moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from connector.config import Settings
from connector.ops import status
from connector.ops.status import Surroundings
from connector.telemetry.client import program_statuses


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything known at one moment."""

    programs: Sequence[Mapping[str, Any]]
    around: Surroundings
    published: float
    applied: float
    """Events per second."""


def own_programs(settings: Settings, cluster_id: str = "") -> list[dict[str, Any]]:
    """Ask the programs of this pipeline: the topic's sources, and the group's sinks. Blocks.

    Sinks of other groups fill other graphs. Topics and groups of other clusters may have the same
    names; without ``cluster_id`` they are not told apart.
    """
    return [
        each
        for each in program_statuses(settings.telemetry)
        if each["topic"] == settings.kafka.events_topic
        and (each["role"] == "source" or each["group"] == settings.sink.group_id)
        and ("" in (cluster_id, each["cluster"]) or each["cluster"] == cluster_id)
    ]


def snapshot(
    before: Sequence[Mapping[str, Any]], settings: Settings, seconds: float, around: Surroundings
) -> Snapshot:
    """Ask the programs again, ``seconds`` after ``before``. Blocks as `own_programs`.

    The sinks know the lag of their partitions better than ``around``, which may be older.
    """
    programs = own_programs(settings, around.cluster_id)
    published, applied = status.rate(before, programs, seconds)
    lag = dict(around.lag)
    for program in programs:
        if program["role"] == "sink":
            partitions = program["partitions"].items()
            lag |= {int(n): each["lag"] for n, each in partitions if each["lag"] is not None}
    return Snapshot(programs, replace(around, lag=lag), published, applied)


def problems(taken: Snapshot) -> list[str]:
    """Return what fails, one line each; a program that does not answer counts."""
    lines = status.failing(taken.programs, taken.around)
    roles = {program["role"] for program in taken.programs}
    hint = "Start it, or name it in TELEMETRY_PROGRAMS"
    return lines + [
        f"no {role} answers. {hint}" for role in ("source", "sink") if role not in roles
    ]
