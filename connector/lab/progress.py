"""The demo's eyes: reads the programs' own progress lines and shows them."""

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
    """The last progress line of one program's JSON log."""

    path: Path
    at: int = 0
    rest: bytes = b""
    latest: dict[str, Any] = field(default_factory=dict)

    def read(self) -> dict[str, Any]:
        """Read what was written since the last call; the newest progress."""
        if self.path.exists():
            with self.path.open("rb") as log:
                log.seek(self.at)
                *lines, self.rest = (self.rest + log.read()).split(b"\n")
                self.at = log.tell()
            for line in lines:
                if b'"progress"' in line:
                    self.latest = orjson.loads(line)
        return self.latest


@dataclass(slots=True)
class Totals:
    """Published and applied at one moment, in events."""

    seconds: float
    published: int
    applied: int
    passes: int
    lag: int | None


class DemoProgress:
    """Totals over the source and all sinks, with rates; on a terminal a table that stays."""

    def __init__(self, source: LogTail, sinks: list[LogTail], console: Console) -> None:
        self._source, self._sinks = source, sinks
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._began = time.monotonic()
        self._shown = -10.0
        self.history: list[Totals] = []

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, phase: str, lag: int | None) -> Totals:
        """Read the logs, show where things are, return it."""
        now = self.read(lag)
        self._show(phase, now)
        return now

    def read(self, lag: int | None) -> Totals:
        """Read the logs and add the totals to the history."""
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
        """When ``published`` or ``applied`` first was at least ``count``, in seconds."""
        times = (each.seconds for each in self.history if getattr(each, name) >= count)
        return next(times, None)

    def _show(self, phase: str, now: Totals) -> None:
        past = next((each for each in self.history if each.seconds > now.seconds - 3), now)
        span = max(now.seconds - past.seconds, 0.001)
        published = round((now.published - past.published) / span)
        applied = round((now.applied - past.applied) / span)
        if self._live is None:
            if now.seconds - self._shown >= 2:  # noqa: PLR2004 - a line every two seconds
                self._shown = now.seconds
                self._console.print(
                    f"{now.seconds:6.1f} s  {phase:<24} published {now.published:>7}"
                    f" ({published:>5}/s)  applied {now.applied:>7} ({applied:>5}/s)"
                    f"  lag {_shown(now.lag):>7}",
                    soft_wrap=True,
                )
            return
        table = Table(title=f"{phase}   {now.seconds:.0f} s", title_justify="left")
        for column in ("", "events", "events/s"):
            table.add_column(column, justify="right" if column else "left")
        table.add_row("published", f"{now.published:,}", f"{published:,}")
        table.add_row("applied", f"{now.applied:,}", f"{applied:,}")
        table.add_row("lag", _shown(now.lag), "")
        self._live.update(table, refresh=True)


def _shown(lag: int | None) -> str:
    return "?" if lag is None else f"{lag:,}"
