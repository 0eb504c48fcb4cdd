"""What the figures say: tables on the terminal, and as Markdown for the documents.

``python -m benchmarks.report bench-output/bench.json > docs/benchmarks.md``
"""

import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

Figures = dict[str, dict[str, list[float]]]
HEAD = """\
# Benchmarks

Made by `make bench`. Machine: {cpus} cores, {memory} GiB; broker, database, sink and measuring
program share them. Kafka and Neo4j Community 5.26 from Maven; Python {python}; {versions}.

Work: {events:,} record events of about 950 bytes with 40 variables, of 500 subjects, in 6
partitions; {rounds} rounds, contenders interleaved, after one round that is not counted. Rates are
events a second. *Ceiling*: the same rows by plain CREATE of a label without constraints, indexes
and relationships, over 4 driver sessions. *Usual way*: one UNWIND of MERGE a batch of 1 000.
*Quix*: its `Neo4jSink` as documented. Ratios hold within a run; between runs the machine differs by
20 %.

*Snapshot*: this source's first reading of a simulated study (records, a revision of each, and the
rest), onto the topic, beside the SDK's client and orjson reading the same pages and throwing them
away. The simulator shares the two cores and answers from memory: at once; as one that makes its
answers when asked, one after another (50 MB/s); or after 5 or 20 ms (pages of 500 rows; the
earlier way's are of 100, the SDK's default). The real API is slower than all of these.

*Export*: `export_to_neo4j` up to the records (*create*: `idempotent=False`), and of all kinds with
a revision of each record, beside the way of the SDK's later module: all records in a list, then one
MERGE statement a batch of 500, with constraints.
"""
SINK, QUIX = "this sink", "Quix Neo4jSink"
SOURCE, ALONE = "this source", "reading alone"
SEED, EXPORT, EXPORT_CREATE = "earlier way", "export", "export, create"
AT_ONCE = "at once"
SPEEDS = {
    AT_ONCE: {},
    "50 MB/s": {"bytes_per_second": 50e6},
    "5 ms a page": {"delay_seconds": 0.005},
    "20 ms a page": {"delay_seconds": 0.02},
}
"""How fast the simulated API answers, as it is told."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure that is wanted, of one section."""

    title: str
    section: str
    value: Callable[[Figures], float]
    bound: float
    is_least: bool = True

    def is_reached(self, value: float) -> bool:
        """Whether it is."""
        return value >= self.bound if self.is_least else value <= self.bound


def ratio(one: str, other: str, phase: str) -> Callable[[Figures], float]:
    """The median of the rounds' ratios: both of one round ran within the same minutes."""
    return lambda figures: statistics.median(
        a / b for a, b in zip(figures[one][phase], figures[other][phase], strict=True)
    )


def median(phase: str, of: str = SINK) -> Callable[[Figures], float]:
    """Of one contender."""
    return lambda figures: statistics.median(figures[of][phase])


def _growth(figures: Figures) -> float:
    rates = figures[SINK]
    return rates["rate at 1 000 000"][0] / rates["rate at 50 000"][0]


GOALS = (
    Goal("first load / ceiling", "throughput", ratio(SINK, "ceiling", "first load"), 0.60),
    Goal("first load / Quix", "throughput", ratio(SINK, QUIX, "first load"), 1.5),
    Goal("replay / Quix", "throughput", ratio(SINK, QUIX, "replay"), 8),
    Goal("updates / Quix", "throughput", ratio(SINK, QUIX, "updates"), 2),
    Goal("hot set / Quix", "throughput", ratio(SINK, QUIX, "hot set"), 4),
    Goal("produce to visible, p50 ms", "latency", median("p50 ms"), 15, is_least=False),
    Goal("produce to visible, p99 ms", "latency", median("p99 ms"), 60, is_least=False),
    Goal("20 ms away / direct", "distance", ratio("20 ms away", "direct", "first load"), 0.8),
    Goal(
        "4 processes / 1, 100 ms away", "scaling",
        ratio("4 processes", "1 processes", "first load"), 3.2,
    ),
    Goal(
        "peak memory MB, backlog of 1 000 000, Neo4j away", "million",
        median("peak memory MB"), 250, is_least=False,
    ),
    Goal("rate at 1 000 000 records / at 50 000", "million", _growth, 0.8),
    *(
        Goal(f"snapshot / reading alone, {speed}", "snapshot", ratio(SOURCE, ALONE, speed), 0.6)
        for speed in SPEEDS
    ),
    *(
        Goal(f"export / earlier way, {speed}", "export",
             ratio(EXPORT, SEED, f"records/s, {speed}"), 1.5)
        for speed in SPEEDS
    ),
    Goal(
        "export: peak memory MB", "export", median("peak memory MB", EXPORT), 150, is_least=False
    ),
    Goal(
        "source, 1 000 000 records: peak memory MB", "big study",
        median("peak memory MB", SOURCE), 200, is_least=False,
    ),
)  # fmt: skip


def tables(results: dict[str, Figures]) -> Iterator[tuple[str, list[list[str]]]]:
    """Each table's title and its rows, the first of them the heads."""
    rows = [["figure", "measured", "wanted", "reached"]]
    for goal in GOALS:
        if goal.section in results:
            value = goal.value(results[goal.section])
            sign = ">=" if goal.is_least else "<="
            reached = "yes" if goal.is_reached(value) else "no"
            rows.append([goal.title, f"{value:.2f}", f"{sign} {goal.bound:g}", reached])
    yield "Figures, medians of rounds", rows
    for section, figures in results.items():
        names = list(dict.fromkeys(phase for rates in figures.values() for phase in rates))
        yield (
            f"{section}: median (least - most)",
            [["", *figures], *([name, *(_cell(each.get(name)) for each in figures.values())]
                               for name in names)],
        )  # fmt: skip


def _cell(values: list[float] | None) -> str:
    if not values:
        return ""
    shown = [f"{each:,.0f}" if each >= 100 else f"{each:.1f}" for each in values]
    if len(values) == 1:
        return shown[0]
    middle = statistics.median(values)
    least, most = (shown[values.index(pick(values))] for pick in (min, max))
    return (
        f"{middle:,.0f} ({least} - {most})" if middle >= 100 else f"{middle:.1f} ({least} - {most})"
    )


def show(results: dict[str, Figures], console: Console) -> None:
    """On the terminal."""
    for title, (heads, *rows) in tables(results):
        table = Table(*heads, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def markdown(told: dict[str, Any]) -> str:
    """The document."""
    machine, work, versions = told["machine"], told["work"], told["versions"]
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    head = HEAD.format(
        cpus=machine["cpus"], memory=machine["memory_gb"], python=machine["python"],
        versions=named, events=work["events"], rounds=work["rounds"],
    )  # fmt: skip
    lines = [head.rstrip()]
    for title, (heads, *rows) in tables(told["figures"]):
        lines += ["", f"## {title[0].upper()}{title[1:]}", ""]
        lines += [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(orjson.loads(Path(sys.argv[1]).read_bytes())), end="")
