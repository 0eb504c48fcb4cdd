"""The pages and the progress bar of an export while it reads."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from connector.source.reading import PageStream, ReadPage

_ROWS_AT_ONCE = 2000
_WAIT_SECONDS = 0.5


def parts_of(stream: PageStream) -> Iterator[list[ReadPage]]:
    """Yield the pages of a pass as they arrive, several at once, up to its last page."""
    while True:
        pages = stream.take(_ROWS_AT_ONCE, _WAIT_SECONDS)
        if pages:
            yield pages
            if pages[-1].is_last:
                return


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a progress bar on stderr, if that is a terminal."""
    console = Console(file=sys.stderr)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        yield bar
