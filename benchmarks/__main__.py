"""``make bench``: servers, contenders, interleaved rounds; a table and ``bench-output/bench.json``.

Figures are compared within one run only. Nothing here decides whether a test passes.
"""

import argparse
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import QUIX_PYTHON
from benchmarks.graph import Graph
from benchmarks.sections import SECTIONS, Bench, Figures
from connector.demo.servers.local import local_servers, remove_data

OUTPUT = Path("bench-output")
# What, section, numerator, denominator, phase, wanted at least (for latency and memory: at most).
RATIOS = [
    ("first load / ceiling", "throughput", "this sink", "ceiling", "first load", 0.60),
    ("first load / Quix", "throughput", "this sink", "Quix Neo4jSink", "first load", 1.5),
    ("replay / Quix", "throughput", "this sink", "Quix Neo4jSink", "replay", 8),
    ("updates / Quix", "throughput", "this sink", "Quix Neo4jSink", "updates", 2),
    ("hot set / Quix", "throughput", "this sink", "Quix Neo4jSink", "hot set", 4),
    ("20 ms away / direct", "distance", "20 ms away", "direct", "first load", 0.8),
    ("4 processes / 1, 100 ms away", "scaling", "4 processes", "1 processes", "first load", 3.2),
]
BOUNDS = [
    ("produce to visible, p50 ms", "latency", "p50 ms", 15),
    ("produce to visible, p99 ms", "latency", "p99 ms", 60),
    ("peak memory MB, backlog of 1 000 000", "million", "peak memory MB", 250),
]


def main() -> int:
    """Run the chosen sections."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=50_000)
    chosen = parser.parse_args()
    if not QUIX_PYTHON.exists():
        print("the peer's environment is missing: run it by `make bench`", file=sys.stderr)
        return 1
    console = Console(highlight=False)
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - began:6.0f} s  {text}", soft_wrap=True)

    results: dict[str, Figures] = {}
    with local_servers(OUTPUT / "servers", os.environ) as servers:
        environment = dict(os.environ) | servers.environment
        with Graph(environment) as graph:
            graph.make_schema()
            bench = Bench(environment, graph, OUTPUT / "logs", chosen.rounds, chosen.events, say)
            for name in chosen.sections:
                say(f"{name} ...")
                results[name] = SECTIONS[name](bench)
                _save(results, chosen)
    remove_data(OUTPUT / "servers")
    _show(results, console)
    return 0


def _save(results: dict[str, Figures], chosen: argparse.Namespace) -> None:
    told = {
        "machine": {
            "cpus": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("imednet-connector", "confluent-kafka", "neo4j", "neo4j-rust-ext")
        },
        "work": {"events": chosen.events, "rounds": chosen.rounds},
        "figures": results,
    }
    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / "bench.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))


def _show(results: dict[str, Figures], console: Console) -> None:
    for section, figures in results.items():
        names = list(dict.fromkeys(phase for rates in figures.values() for phase in rates))
        table = Table("", *names, title=f"{section}: median (least - most)")
        for contender, rates in figures.items():
            table.add_row(contender, *(_cell(rates.get(name)) for name in names))
        console.print(table)
    table = Table("figure", "median of rounds", "at least / at most", "reached")
    for title, section, one, other, phase, least in RATIOS:
        if section in results:
            pairs = zip(results[section][one][phase], results[section][other][phase], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            table.add_row(title, f"{ratio:.2f}", f">= {least}", _yes(ratio >= least))
    for title, section, phase, most in BOUNDS:
        if section in results:
            value = statistics.median(results[section]["this sink"][phase])
            table.add_row(title, f"{value:.1f}", f"<= {most}", _yes(value <= most))
    if "million" in results:
        rates = results["million"]["this sink"]
        ratio = rates["rate at 1 000 000"][0] / rates["rate at 50 000"][0]
        title = "rate at 1 000 000 records / rate at 50 000"
        table.add_row(title, f"{ratio:.2f}", ">= 0.8", _yes(ratio >= 0.8))
    console.print(table)
    console.print(f"all figures: {OUTPUT / 'bench.json'}")


def _cell(values: list[float] | None) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:,.1f}" if values[0] < 1000 else f"{values[0]:,.0f}"
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} - {max(values):,.0f})"


def _yes(reached: object) -> str:
    return "yes" if reached else "NO"


if __name__ == "__main__":
    sys.exit(main())
