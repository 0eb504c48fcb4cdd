"""``make bench``: runs all contenders on local servers, in interleaved rounds.

Prints tables and writes ``bench-output/bench.json``. Compare figures only within one run. No test
depends on them.
"""

import argparse
import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path

import orjson
from rich.console import Console

from benchmarks.all_kinds import all_kinds
from benchmarks.contenders import QUIX_PYTHON
from benchmarks.export import export
from benchmarks.graph import Graph
from benchmarks.report import Figures, show
from benchmarks.sections import SECTIONS as SINK_SECTIONS
from benchmarks.sections import Bench
from benchmarks.snapshot import big_study, snapshot
from benchmarks.typed_values import typed_values
from connector.lab.servers.local import local_servers, remove_data

OUTPUT = Path("bench-output")
SECTIONS = {
    **SINK_SECTIONS,
    "typed values": typed_values,
    "all kinds": all_kinds,
    "snapshot": snapshot,
    "big study": big_study,
    "export": export,
}


def main() -> int:
    """Run the chosen sections, or all."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar=" | ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=50_000)
    chosen = parser.parse_args()
    if unknown := set(chosen.sections) - set(SECTIONS):
        parser.error(f"unknown section {', '.join(unknown)}. Choose from {', '.join(SECTIONS)}")
    if not QUIX_PYTHON.exists():
        print(
            "The Quix environment is missing. Run `make bench`, which creates it", file=sys.stderr
        )
        return 1
    console = Console(highlight=False)
    started = time.monotonic()

    def log(text: str) -> None:
        console.print(f"{time.monotonic() - started:6.0f} s  {text}", soft_wrap=True)

    results: dict[str, Figures] = {}
    with local_servers(OUTPUT / "servers", os.environ, neo4j_options=()) as servers:
        environment = dict(os.environ) | servers.environment
        with Graph(environment) as graph:
            graph.create_schema()
            bench = Bench(environment, graph, OUTPUT / "logs", chosen.rounds, chosen.events, log)
            for name in chosen.sections or SECTIONS:
                log(f"{name} ...")
                results[name] = SECTIONS[name](bench)
                _save(results, chosen)
    remove_data(OUTPUT / "servers")
    show(results, console)
    console.print(f"All figures: {OUTPUT / 'bench.json'}")
    return 0


def _save(results: dict[str, Figures], chosen: argparse.Namespace) -> None:
    report = {
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
    (OUTPUT / "bench.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    sys.exit(main())
