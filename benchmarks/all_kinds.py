"""A simulated study with all kinds: its first load and its replay by one sink."""

from collections import defaultdict

from benchmarks import work
from benchmarks.contenders import SINK
from benchmarks.report import Figures
from benchmarks.sections import STUDY, Bench, last_of, measure_phases


def all_kinds(bench: Bench) -> Figures:
    """Measure until the group has committed all events: the last one may be of any kind."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    rates = figures[SINK.name]
    load = work.all_kinds(STUDY, bench.events // 3)
    phases = [load, work.Work("replay", load.events * 3)]
    for number in range(bench.rounds):
        for name, value in measure_phases(bench, SINK, phases, until_committed=True).items():
            rates[name].append(value)
        bench.log(f"round {number + 1}: {last_of(rates)}")
    return figures
