import io
import time
from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console

from connector.cli.live_line import Pace
from connector.cli.source_bars import source_bars, source_line
from connector.source.progress import SnapshotProgress, SourceProgress
from connector.source.source_task import SourceTask


def shown(*, terminal: bool) -> str:
    task: Any = SimpleNamespace(
        snapshot=SnapshotProgress("record", 500, 2000), progress=SourceProgress()
    )
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120)
    with source_bars({"S1": cast("SourceTask", task)}, console):
        time.sleep(0.7)
        task.snapshot.rows = 1500
        time.sleep(0.7)
    return output.getvalue()


def test_a_terminal_shows_kind_rows_and_rate_and_a_pipe_nothing() -> None:
    """A terminal shows kind, rows and rate; a pipe shows nothing."""
    text = shown(terminal=True)
    assert "S1 record" in text
    assert "1500/2000" in text
    assert "rows/s" in text
    assert "source: 0 events/s, 1 not read yet" in text
    assert shown(terminal=False) == ""


def test_the_line_tells_the_rate_and_the_study_that_was_read_longest_ago() -> None:
    """The line adds up the events, and a study that is not read shows."""
    seconds = iter([0.0, 2.0])
    pace = Pace(lambda: next(seconds))
    tasks: dict[str, Any] = {
        "S1": SimpleNamespace(progress=SourceProgress(events=10, read_ms=9_000)),
        "S2": SimpleNamespace(progress=SourceProgress(events=5, read_ms=4_000)),
    }
    assert source_line(tasks, pace, 10_000) == "source: 0 events/s, 2 studies read within 6 s"
    assert source_line({"S1": tasks["S1"]}, Pace(lambda: 0.0), 10_000) == (
        "source: 0 events/s, 1 study read within 1 s"
    )
    tasks["S3"] = SimpleNamespace(progress=SourceProgress())
    tasks["S1"].progress.events = 50
    assert source_line(tasks, pace, 10_000) == (
        "source: 20 events/s, 2 studies read within 6 s, 1 not read yet"
    )
