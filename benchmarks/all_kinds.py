"""A simulated study with all kinds: its first load and its replay by one sink."""

from collections import defaultdict

from benchmarks import work
from benchmarks.contenders import SINK, cpu_seconds, peak_memory_mb
from benchmarks.report import Figures
from benchmarks.sections import STUDY, Bench, last_of


def all_kinds(bench: Bench) -> Figures:
    """Measure until the group has committed all events: the last one may be of any kind."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    load = work.all_kinds(STUDY, bench.events // 3)
    phases = {"first load": load, "replay": work.Work("replay", load.events * 3)}
    for number in range(bench.rounds):
        rates = figures[SINK.name]
        with bench.contest(SINK) as (feed, children):
            for name, each in phases.items():
                loaded, before = feed.load(each), cpu_seconds(children)
                count = len(each.events)
                rates[name].append(count / bench.seconds_to_commit(feed, loaded))
                cpu = cpu_seconds(children) - before
                rates[f"{name}, CPU s / 100 000"].append(cpu / count * 100_000)
            rates["peak memory MB"].append(max(map(peak_memory_mb, children)))
        bench.log(f"round {number + 1}: {last_of(rates)}")
    return figures
