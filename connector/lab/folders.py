"""Folders that a tool may write into: new, empty, or marked as the tool's own. No others."""

import fcntl
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from connector.errors import FatalError

_NOTE = "The imednet-connector tool that made this folder replaces its own files in it.\n"


@contextmanager
def owned(folder: Path, marker: str) -> Iterator[None]:
    """Mark the folder as ours, and hold it against a second process, while the block runs.

    Raises:
        FatalError: it holds something that we did not put there, another process uses it, or it
            cannot be written. Nothing in it was touched.
    """
    try:
        if folder.exists() and not _may_be_used(folder, marker):
            raise FatalError(
                f"{folder} holds files that this command did not make (there is no {marker} in"
                " it). Nothing was touched: give a folder that is new or empty"
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = (folder / marker).open("a+", encoding="utf-8")
    except OSError as error:
        raise FatalError(f"cannot use the folder {folder}: {error.strerror}") from None
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FatalError(f"another process uses {folder}: give another folder") from None
        if held.tell() == 0:
            held.write(_NOTE)
            held.flush()
        yield


def _may_be_used(folder: Path, marker: str) -> bool:
    return folder.is_dir() and ((folder / marker).is_file() or not any(folder.iterdir()))


def remove_within(folder: Path, names: Iterable[str]) -> None:
    """Remove these files and folders of an owned folder, where they exist.

    Raises:
        FatalError: one cannot be removed, or is a link to somewhere else.
    """
    for path in (folder / name for name in names):
        try:
            if path.is_dir():
                shutil.rmtree(path)  # refuses a link
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise FatalError(f"cannot remove {path}: {error.strerror or error}") from None
