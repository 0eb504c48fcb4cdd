"""What a demo has found, as text."""

from collections.abc import Mapping, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from connector.lab.progress import DemoProgress
from connector.lab.servers.processes import Child
from connector.model.entities import ENTITIES
from connector.ops.compare import Comparison


def report(
    console: Console,
    comparison: Comparison,
    progress: DemoProgress,
    source: Child,
    sinks: Sequence[Child],
    edits: Mapping[str, int],
) -> None:
    """Print the comparison, the rates and the memory."""
    table = Table(title="API and graph", title_justify="left")
    for column in ("", "API", "graph"):
        table.add_column(column, justify="right" if column else "left")
    for name in sorted(comparison.expected.keys() | comparison.found.keys()):
        table.add_row(name, f"{comparison.expected[name]:,}", f"{comparison.found[name]:,}")
    console.print(table)
    for line in comparison.examples:
        console.print(f"  {line}", markup=False)
    total = progress.history[-1]
    initial = sum(comparison.expected[entity.label] for entity in ENTITIES.values())
    print_line = partial(console.print, soft_wrap=True)
    print_line(
        f"compared {comparison.properties:,} properties after {sum(edits.values()):,} live edits;"
        f" {comparison.deleted} deleted entities have no data left"
    )
    for name in ("published", "applied"):
        count = min(initial, getattr(total, name))
        seconds = progress.reached(name, count)
        if seconds:
            rate = count / seconds
            print_line(
                f"{name}: {getattr(total, name):,} events, the first {count:,} in {seconds:.1f} s"
                f" ({rate:,.0f} events/s)"
            )
    memory = ", ".join(f"{sink.peak_memory_mb:.0f} MB" for sink in sinks)
    print_line(f"peak memory: source {source.peak_memory_mb:.0f} MB, sinks {memory}")


def conclude(console: Console, comparison: Comparison, seconds: float) -> None:
    """Print whether the graph equals the API."""
    console.print(
        f"[bold green]the graph equals the API[/] (total {seconds:.0f} s)"
        if comparison.different == 0
        else f"[bold red]the graph differs from the API in {comparison.different} places[/]"
    )
