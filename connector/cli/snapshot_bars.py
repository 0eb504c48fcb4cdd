"""Progress bars on a terminal: one for each study whose snapshot is being read."""

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
    """A column that shows rows per second."""

    def render(self, task: Task) -> Text:
        """Return the rate as text, empty until it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} rows/s" if speed else "")


@contextlib.contextmanager
def snapshot_bars(
    tasks: Mapping[str, SourceTask], console: Console | None = None
) -> Iterator[None]:
    """Show the bars while the block runs, if stderr (or ``console``) is a terminal."""
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
            snapshot = task.snapshot
            if snapshot.kind != kinds.get(study):
                kinds[study] = snapshot.kind
                bars.reset(ids[study], description=f"{study} {snapshot.kind}")
            bars.update(
                ids[study],
                total=snapshot.total,
                completed=snapshot.rows,
                visible=bool(snapshot.kind),
            )

    refresh()
    with bars, repeating(_REFRESH_SECONDS, refresh):
        yield
