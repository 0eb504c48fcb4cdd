"""The export beside the earlier module's way, on the same study, in one run."""

import json
import subprocess
import sys
from collections import defaultdict

from benchmarks.contenders import ROOT
from benchmarks.export_program import WAYS
from benchmarks.report import EXPORT, EXPORT_CREATE, SEED, Figures
from benchmarks.sections import Bench
from benchmarks.snapshot import STUDY, simulator

_NAMES = {"seed": SEED, "merge": EXPORT, "create": EXPORT_CREATE, "all": "export of all kinds"}


def export(bench: Bench) -> Figures:
    """Records a second and memory, each way in a process of its own, on an emptied graph."""
    figures: Figures = {_NAMES[way]: defaultdict(list) for way in WAYS}
    with simulator(bench, bench.events) as api:
        for number in range(bench.rounds + 1):  # the first warms the database
            for way in WAYS:
                bench.graph.clear()
                told = _run(way, api, bench)
                if number:
                    for name, value in told.items():
                        figures[_NAMES[way]][name].append(value)
            bench.say(f"round {number}: { ({way: figures[_NAMES[way]] for way in WAYS}) }")
    return figures


def _run(way: str, api: str, bench: Bench) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.export_program", way, api, STUDY]
    done = subprocess.run(  # noqa: S603 - this program's own
        command, env=dict(bench.environment), cwd=ROOT, check=True, capture_output=True, text=True
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told
