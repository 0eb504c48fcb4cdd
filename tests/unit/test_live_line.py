"""The live line of a sink on a terminal."""

import io
import time

import pytest
from rich.console import Console

from connector.cli.live_line import Pace, live_line


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([(0, 0, None)], "0 events/s"),
        ([(0, 0, 5000), (1, 1000, 4000)], "1,000 events/s, 4,000 behind, about 4 s left"),
        ([(0, 0, 900_000), (2, 1000, 600_000)], "500 events/s, 600,000 behind, about 20 min left"),
        ([(0, 10, 7), (1, 10, 7)], "0 events/s, 7 behind"),
        ([(0, 0, 9), (1, 9, 0)], "9 events/s, up to date"),
    ],
)
def test_the_line_says_rate_lag_and_the_time_to_catch_up(
    samples: list[tuple[float, int, int | None]], text: str
) -> None:
    """Rate, lag and time left, as far as they are known."""
    now = [0.0]
    pace = Pace(lambda: now[0])
    shown = ""
    for at, consumed, lag in samples:
        now[0] = at
        shown = pace.text(consumed, lag)
    assert shown == text


def test_a_terminal_shows_the_line_and_a_pipe_nothing() -> None:
    """Logs of a service are not mixed with a display."""
    for terminal in (True, False):
        output = io.StringIO()
        console = Console(file=output, force_terminal=terminal, width=100)
        with live_line("sink", lambda: (5, 0), console):
            time.sleep(1.3)
        assert ("sink: 0 events/s, up to date" in output.getvalue()) == terminal
        assert bool(output.getvalue()) == terminal
