"""The export against the SDK's own export module, on the same study, in one run."""

import json
import subprocess
import sys
from collections import defaultdict

from benchmarks.contenders import ROOT
from benchmarks.export_program import METHODS, SDK_CONSTRAINTS
from benchmarks.report import AT_ONCE, EXPORT, EXPORT_CREATE, SDK_EXPORT, SPEEDS, Figures
from benchmarks.sections import Bench
from benchmarks.snapshot import STUDY, last, set_speed, simulator

_AT_ALL_SPEEDS = ("sdk", "merge")
_NAMES = {"sdk": SDK_EXPORT, "merge": EXPORT, "create": EXPORT_CREATE, "all": "export of all kinds"}


def export(bench: Bench) -> Figures:
    """Measure records/s and memory, each method in its own process, on an emptied graph."""
    figures: Figures = {_NAMES[method]: defaultdict(list) for method in METHODS}
    # All constraints exist from the start: creating one makes the database replan every statement.
    for constraint in SDK_CONSTRAINTS:
        bench.graph.run(constraint)
    methods = list(METHODS)
    with simulator(bench, bench.events) as api:
        for number in range(bench.rounds + 1):  # the first warms up the database
            methods.append(methods.pop(0))  # rotate, so that each round starts with another method
            for method in methods:
                for speed in SPEEDS if method in _AT_ALL_SPEEDS else [AT_ONCE]:
                    set_speed(api, SPEEDS[speed])
                    bench.graph.clear()
                    measured = _run(method, api, bench)
                    if number:
                        _record(figures[_NAMES[method]], speed, measured)
            bench.log(f"round {number}: {last(figures)}")
    return figures


def _record(figures: dict[str, list[float]], speed: str, measured: dict[str, float]) -> None:
    figures[f"records/s, {speed}"].append(measured.pop("records/s"))
    if speed == AT_ONCE:
        for name, value in measured.items():
            figures[name].append(value)


def _run(method: str, api: str, bench: Bench) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.export_program", method, api, STUDY]
    done = subprocess.run(  # noqa: S603 - this program's own
        command, env=dict(bench.environment), cwd=ROOT, check=True, capture_output=True, text=True
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured
