"""The pages and the progress bar of an export while it reads."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from connector.export.rows import ReadRows
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


def batches_of(pages: Sequence[ReadPage], batch_size: int) -> list[list[ReadRows]]:
    """Group the rows of some pages into batches of at most this size, in order."""
    batches: list[list[ReadRows]] = []
    room = 0
    for read in pages:
        rows, read_at_ms = read.page.rows, read.page.server_ms - read.page.took_ms
        while rows:
            if room == 0:
                batches.append([])
                room = batch_size
            batches[-1].append(ReadRows(rows[:room], read_at_ms))
            rows, room = rows[room:], max(0, room - len(rows))
    return batches


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a progress bar on stderr, if that is a terminal."""
    console = Console(file=sys.stderr)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        yield bar
