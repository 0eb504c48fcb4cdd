"""The export beside the earlier module's way, on the same study, in one run."""

import json
import subprocess
import sys
from collections import defaultdict

from benchmarks.contenders import ROOT
from benchmarks.export_program import SEED_CONSTRAINTS, WAYS
from benchmarks.report import AT_ONCE, EXPORT, EXPORT_CREATE, SEED, SPEEDS, Figures
from benchmarks.sections import Bench
from benchmarks.snapshot import STUDY, last, set_speed, simulator

_ALSO_SLOWLY = ("seed", "merge")
_NAMES = {"seed": SEED, "merge": EXPORT, "create": EXPORT_CREATE, "all": "export of all kinds"}


def export(bench: Bench) -> Figures:
    """Records a second and memory, each way in a process of its own, on an emptied graph."""
    figures: Figures = {_NAMES[way]: defaultdict(list) for way in WAYS}
    # All constraints are there from the start: each new one makes all statements' plans anew.
    for constraint in SEED_CONSTRAINTS:
        bench.graph.run(constraint)
    ways = list(WAYS)
    with simulator(bench, bench.events) as api:
        for number in range(bench.rounds + 1):  # the first warms the database
            ways.append(ways.pop(0))  # none comes always after the same other one
            for way in ways:
                for name in SPEEDS if way in _ALSO_SLOWLY else [AT_ONCE]:
                    set_speed(api, SPEEDS[name])
                    bench.graph.clear()
                    told = _run(way, api, bench)
                    if number:
                        _take_down(figures[_NAMES[way]], name, told)
            bench.say(f"round {number}: {last(figures)}")
    return figures


def _take_down(figures: dict[str, list[float]], name: str, told: dict[str, float]) -> None:
    figures[f"records/s, {name}"].append(told.pop("records/s"))
    if name == AT_ONCE:
        for what, value in told.items():
            figures[what].append(value)


def _run(way: str, api: str, bench: Bench) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.export_program", way, api, STUDY]
    done = subprocess.run(  # noqa: S603 - this program's own
        command, env=dict(bench.environment), cwd=ROOT, check=True, capture_output=True, text=True
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told
