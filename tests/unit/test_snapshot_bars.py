import io
import time
from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console

from connector.cli.snapshot_bars import snapshot_bars
from connector.source.progress import SnapshotProgress
from connector.source.source_task import SourceTask


def shown(*, terminal: bool) -> str:
    task: Any = SimpleNamespace(snapshot=SnapshotProgress("record", 500, 2000))
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120)
    with snapshot_bars({"S1": cast("SourceTask", task)}, console):
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
    assert shown(terminal=False) == ""
