"""The demo's progress display, read from the progress lines in the programs' logs."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson
from rich.console import Console
from rich.live import Live
from rich.table import Table


@dataclass(slots=True)
class LogTail:
    """A reader of the newest progress line in one program's JSON log."""

    path: Path
    bytes_read: int = 0
    partial_line: bytes = b""
    latest: dict[str, Any] = field(default_factory=dict)

    def read(self) -> dict[str, Any]:
        """Read new log lines and return the fields of the newest progress line."""
        if self.path.exists():
            with self.path.open("rb") as log:
                log.seek(self.bytes_read)
                *lines, self.partial_line = (self.partial_line + log.read()).split(b"\n")
                self.bytes_read = log.tell()
            for line in lines:
                if b'"progress"' in line:
                    self.latest = orjson.loads(line)
        return self.latest


@dataclass(slots=True)
class Totals:
    """Counts of published and applied events at one moment."""

    seconds: float
    published: int
    applied: int
    passes: int
    lag: int | None


class DemoProgress:
    """Totals and rates of the source and all sinks, on a terminal as a table updated in place."""

    def __init__(self, source: LogTail, sinks: list[LogTail], console: Console) -> None:
        self._source, self._sinks = source, sinks
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._began = time.monotonic()
        self._shown_at = -10.0
        self.history: list[Totals] = []

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, phase: str, lag: int | None) -> Totals:
        """Read the logs, display the totals and return them."""
        now = self.read(lag)
        self._show(phase, now)
        return now

    def read(self, lag: int | None) -> Totals:
        """Read the logs, append the totals to the history and return them."""
        source = self._source.read()
        sums: dict[str, int] = defaultdict(int)
        for sink in self._sinks:
            for name, value in sink.read().items():
                if isinstance(value, int):
                    sums[name] += value
        now = Totals(
            time.monotonic() - self._began,
            source.get("events", 0),
            sums["consumed"],
            source.get("passes", 0),
            lag,
        )
        self.history.append(now)
        return now

    def reached(self, name: str, count: int) -> float | None:
        """Return the seconds until ``published`` or ``applied`` reached ``count``, or None."""
        times = (each.seconds for each in self.history if getattr(each, name) >= count)
        return next(times, None)

    def _show(self, phase: str, now: Totals) -> None:
        past = next((each for each in self.history if each.seconds > now.seconds - 3), now)
        elapsed = max(now.seconds - past.seconds, 0.001)
        published = round((now.published - past.published) / elapsed)
        applied = round((now.applied - past.applied) / elapsed)
        if self._live is None:
            if now.seconds - self._shown_at >= 2:  # noqa: PLR2004 - one line every two seconds
                self._shown_at = now.seconds
                self._console.print(
                    f"{now.seconds:6.1f} s  {phase:<24} published {now.published:>7}"
                    f" ({published:>5}/s)  applied {now.applied:>7} ({applied:>5}/s)"
                    f"  lag {_format_lag(now.lag):>7}",
                    soft_wrap=True,
                )
            return
        table = Table(title=f"{phase}   {now.seconds:.0f} s", title_justify="left")
        for column in ("", "events", "events/s"):
            table.add_column(column, justify="right" if column else "left")
        table.add_row("published", f"{now.published:,}", f"{published:,}")
        table.add_row("applied", f"{now.applied:,}", f"{applied:,}")
        table.add_row("lag", _format_lag(now.lag), "")
        self._live.update(table, refresh=True)


def _format_lag(lag: int | None) -> str:
    return "?" if lag is None else f"{lag:,}"
