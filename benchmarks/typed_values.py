"""What typed values cost a sink: a first load of texts against one of numbers and dates."""

from collections import defaultdict

from benchmarks import work
from benchmarks.contenders import SINK
from benchmarks.report import Figures
from benchmarks.sections import STUDY, Bench, last_of, measure_phases

TEXT, NUMBERS, DATES = "all text", "8 numbers", "8 numbers, 2 dates"


def typed_values(bench: Bench) -> Figures:
    """Measure a first load of the same records with and without types."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    load = work.first_load(STUDY, bench.events)
    loads = {
        TEXT: work.typed(load),
        NUMBERS: work.typed(load, numbers=8),
        DATES: work.typed(load, numbers=8, dates=2),
    }
    for number in range(bench.rounds):
        for name, each in loads.items():
            for phase, value in measure_phases(bench, SINK, [each]).items():
                figures[name][phase].append(value)
            bench.log(f"round {number + 1}: {name}: {last_of(figures[name])}")
    return figures
