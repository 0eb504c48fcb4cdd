"""What a terminal shows of a source: a bar for each snapshot being read, and one line for all."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console, RenderableType
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

from connector.cli.live_line import Pace
from connector.cli.running import repeating
from connector.source.source_task import SourceTask
from connector.ui.durations import counted, duration

_REFRESH_SECONDS = 0.5


class _Rate(ProgressColumn):
    """A column that shows rows per second."""

    def render(self, task: Task) -> Text:
        """Return the rate as text, empty until it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} rows/s" if speed else "")


class _Bars(Progress):
    """The bars, and a line of text below them."""

    line = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield what is shown, from top to bottom."""
        if any(task.visible for task in self.tasks):
            yield self.make_tasks_table(self.tasks)
        yield Text(self.line)


def source_line(tasks: Mapping[str, SourceTask], pace: Pace, now_ms: float) -> str:
    """Return the line: the rate of events, and the age of the oldest read of a study."""
    reads = [task.progress.read_ms for task in tasks.values()]
    unread = reads.count(0)
    events = sum(task.progress.events for task in tasks.values())
    text = f"source: {pace.text(events, None)}"
    if unread < len(reads):
        ago = duration(max(0, now_ms - min(filter(None, reads))) / 1000)
        text += f", {counted(len(reads) - unread, 'study', 'studies')} read within {ago}"
    return text + (f", {unread} not read yet" if unread else "")


@contextlib.contextmanager
def source_bars(tasks: Mapping[str, SourceTask], console: Console | None = None) -> Iterator[None]:
    """Show bars and line while the block runs, if stderr (or ``console``) is a terminal."""
    console = console or Console(file=sys.stderr)
    if not console.is_terminal:
        yield
        return
    bars = _Bars(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(),
        TimeRemainingColumn(), console=console, transient=True,
    )  # fmt: skip
    ids = {study: bars.add_task(study, visible=False) for study in tasks}

    kinds: dict[str, str] = {}
    pace = Pace()

    def refresh() -> None:
        bars.line = source_line(tasks, pace, time.time() * 1000)
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
