"""One line on a terminal that shows what a sink does: its rate, its lag, the time to catch up."""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.status import Status

from connector.cli.running import repeating
from connector.ui.durations import duration

_REFRESH_SECONDS = 1.0
_SAMPLES = 10


class Pace:
    """The rate over the last seconds, and what it means for the lag."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)

    def text(self, consumed: int, lag: int | None) -> str:
        """Return the line for these counts; call it once a second."""
        self._samples.append((self._now(), consumed))
        (began, before), (now, after) = self._samples[0], self._samples[-1]
        rate = (after - before) / (now - began) if now > began else 0.0
        if lag is None:
            return f"{rate:,.0f} events/s"
        if not lag:
            return f"{rate:,.0f} events/s, up to date"
        left = f", about {duration(lag / rate)} left" if rate else ""
        return f"{rate:,.0f} events/s, {lag:,} behind{left}"


@contextlib.contextmanager
def live_line(
    name: str, read: Callable[[], tuple[int, int | None]], console: Console | None = None
) -> Iterator[None]:
    """Show the line while the block runs, if stderr (or ``console``) is a terminal.

    ``read`` returns the messages consumed so far, and the lag (None: not known yet).
    """
    console = console or Console(file=sys.stderr)
    if not console.is_terminal:
        yield
        return
    pace = Pace()
    with (
        Status(name, console=console) as line,
        repeating(_REFRESH_SECONDS, lambda: line.update(f"{name}: {pace.text(*read())}")),
    ):
        yield
