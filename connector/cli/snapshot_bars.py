"""How far the snapshots are, on a terminal: one bar for each study that is being read first."""

import contextlib
import sys
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from connector.cli.running import repeating
from connector.source.source_task import SourceTask

_REFRESH_SECONDS = 0.5


class _Rate(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        """As text; empty until there is a rate."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} rows/s" if speed else "")


@contextlib.contextmanager
def snapshot_bars(
    tasks: Mapping[str, SourceTask], console: Console | None = None
) -> Iterator[None]:
    """While the block runs, where stderr (or ``console``) is a terminal; else nothing."""
    console = console or Console(file=sys.stderr)
    if not console.is_terminal:
        yield
        return
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(),
        TimeRemainingColumn(), console=console, transient=True,
    )  # fmt: skip
    ids = {study: bars.add_task(study, visible=False) for study in tasks}

    kinds: dict[str, str] = {}

    def refresh() -> None:
        for study, task in tasks.items():
            now = task.snapshot
            if now.kind != kinds.get(study):
                kinds[study] = now.kind
                bars.reset(ids[study], description=f"{study} {now.kind}")
            bars.update(ids[study], total=now.total, completed=now.rows, visible=bool(now.kind))

    refresh()
    with bars, repeating(_REFRESH_SECONDS, refresh):
        yield
