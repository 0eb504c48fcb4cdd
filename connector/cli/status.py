"""``imednet-connector status``: the whole pipeline on one screen, the worst first."""

import json
import re
import time
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from connector import logs
from connector.config import Settings
from connector.model.entity import snake_case
from connector.ops import status
from connector.ops.status import Severity, Surroundings
from connector.ops.status_reading import ask_surroundings
from connector.ui.durations import ago, counted, duration, since
from connector.ui.monitor import Monitor
from connector.ui.snapshot import Snapshot, own_programs, problems, snapshot

_RATE_SECONDS = 1.0
_STYLES = {
    Severity.FAILING: "red",
    Severity.STOPPED: "yellow",
    Severity.BUSY: "cyan",
    Severity.WELL: "green",
}


def run(settings: Settings, *, watch: bool, as_json: bool) -> None:
    """Print the state once, or until stopped with ``watch``; exit with code 1 if anything fails.

    With ``watch`` the exit code is 0.
    """
    logs.configure(settings.log)
    if watch:
        _watch(settings)
        return
    taken = _taken(settings)
    if as_json:
        typer.echo(json.dumps(_as_json(settings, taken), indent=2))
    else:
        Console(highlight=False).print(_screen(settings, taken))
    studies = status.studies(taken.programs, taken.around)
    if problems(taken) or any(each.severity is Severity.FAILING for each in studies):
        raise typer.Exit(1)


def _watch(settings: Settings) -> None:
    monitor = Monitor(settings)
    console = Console(highlight=False)
    asking = Text("asking the servers ...")
    with monitor.running(), Live(asking, console=console, auto_refresh=False, screen=True) as live:
        while True:
            taken = monitor.taken
            if taken is not None and taken.around.is_asked:
                live.update(_screen(settings, taken), refresh=True)
            time.sleep(_RATE_SECONDS)


def _taken(settings: Settings) -> Snapshot:
    """Ask everything, and the programs twice, to know their rates. Blocks."""
    before, started = own_programs(settings), time.monotonic()
    around = ask_surroundings(settings)
    time.sleep(max(0.0, _RATE_SECONDS - (time.monotonic() - started)))
    return snapshot(before, settings, time.monotonic() - started, around)


# ---------------------------------------------------------------------------------- the screen


def _screen(settings: Settings, taken: Snapshot) -> RenderableType:
    parts: list[RenderableType] = [Text(line, style="red") for line in problems(taken)]
    parts += [_summary(taken), Text(), _studies(taken)]
    partitions = status.partitions(taken.programs, taken.around, settings.sink.group_id)
    if partitions:
        parts += [Text(), _partitions(partitions)]
    parts += [Text(), Text(_letters(taken.around)), Text(_nodes(taken.around))]
    return Group(*parts)


def _summary(taken: Snapshot) -> Text:
    sources = [each for each in taken.programs if each["role"] == "source"]
    sinks = sum(program["role"] == "sink" for program in taken.programs)
    fresh_ms = status.freshness_ms(taken.programs)
    budget = ", ".join(
        f"{each['requests_left']:,} of {each['requests_per_minute_max']:,}" for each in sources
    )
    return Text(
        f"sources {len(sources)}, sinks {sinks}; published {taken.published:,.0f}/s, applied"
        f" {taken.applied:,.0f}/s, lag {_lag(taken)}; newest change applied {_age(fresh_ms)}; API"
        f" requests left this minute {budget or 'unknown'}"
    )


def _lag(taken: Snapshot) -> str:
    lag = taken.around.total_lag
    if lag is None:
        return "unknown"
    seconds = status.catch_up_seconds(lag, taken.published, taken.applied)
    return f"{lag:,}" if seconds is None else f"{lag:,} (caught up in {duration(seconds)})"


def _studies(taken: Snapshot) -> RenderableType:
    table = Table(box=None, header_style="bold")
    for column in ("study", "state", "last read", "dead letters"):
        table.add_column(column, justify="right" if column == "dead letters" else "left")
    for each in status.studies(taken.programs, taken.around):
        failing = f" (for {since(each.since)})" if each.since else ""
        state = Text(f"{each.state}{failing}", style=_STYLES[each.severity])
        letters = "unknown" if each.dead_letters is None else f"{each.dead_letters:,}"
        table.add_row(Text(each.study), state, _age(each.read_ms), letters)
    return table if table.row_count else Text("no study has been read yet")


def _partitions(partitions: Sequence[status.PartitionStatus]) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("partition", "lag", "oldest waits", "sink"):
        table.add_column(column, justify="left" if column == "sink" else "right")
    for each in partitions:
        seconds = "" if each.lag_seconds is None else f"{each.lag_seconds:,.1f} s"
        lag = "" if each.lag is None else f"{each.lag:,}"
        table.add_row(str(each.partition), lag, seconds, each.sink or "none answers here")
    return table


def _letters(around: Surroundings) -> str:
    if not around.knows("kafka"):
        return "dead letters waiting: unknown"
    reasons = ", ".join(
        f"{count:,} {name}" for name, count in around.letters_by_reason.most_common()
    )
    if not reasons:
        return "dead letters waiting: none"
    return f"dead letters waiting: {reasons}. See: imednet-connector dlq list"


def _nodes(around: Surroundings) -> str:
    if not around.knows("neo4j"):
        return "graph: unknown"
    counts = ", ".join(_counted(count, plural) for plural, count in around.nodes.items())
    return f"graph: {counts or 'empty'}"


def _counted(count: int, plural: str) -> str:
    """Return a count of nodes in words: 1 study, 2,000 record revisions."""
    words = snake_case(plural).replace("_", " ")
    return counted(count, re.sub("ies$", "ys", words)[:-1], words)


def _age(ms: int | None) -> str:
    return "unknown" if ms is None else ago(ms)


def _as_json(settings: Settings, taken: Snapshot) -> dict[str, Any]:
    around, programs = taken.around, taken.programs
    partitions = status.partitions(programs, around, settings.sink.group_id)
    studies = status.studies(programs, around)
    return {
        "problems": problems(taken),
        "studies": [each._asdict() | {"severity": each.severity.name.lower()} for each in studies],
        "partitions": [each._asdict() for each in partitions],
        "sinks": sum(program["role"] == "sink" for program in programs),
        "published_per_second": round(taken.published, 1),
        "applied_per_second": round(taken.applied, 1),
        "applied_ms": status.freshness_ms(programs),
        "lag": around.total_lag,
        "dead_letters": dict(around.letters_by_reason) if around.knows("kafka") else None,
        "nodes": dict(around.nodes) if around.knows("neo4j") else None,
    }
