"""Output folders of the lab commands: only new, empty, or previously marked ones are used."""

import fcntl
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from connector.errors import FatalError

_NOTE = "imednet-connector marked this folder and replaces its own files in it.\n"


@contextmanager
def owned(folder: Path, marker: str) -> Iterator[None]:
    """Create and mark the folder, and lock it against other processes while the block runs.

    Raises:
        FatalError: the folder contains other files, another process uses it, or it cannot be
            written. Nothing in it was changed.
    """
    try:
        if folder.exists() and not _may_be_used(folder, marker):
            raise FatalError(
                f"{folder} contains files that this command did not create (it has no {marker})."
                " Nothing was changed. Choose a new or empty folder"
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / marker).open("a+", encoding="utf-8")
    except OSError as error:
        raise FatalError(f"Cannot use the folder {folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FatalError(
                f"{folder} is in use by another process. Choose another folder"
            ) from None
        if lock.tell() == 0:
            lock.write(_NOTE)
            lock.flush()
        yield


def _may_be_used(folder: Path, marker: str) -> bool:
    return folder.is_dir() and ((folder / marker).is_file() or not any(folder.iterdir()))


def remove_within(folder: Path, names: Iterable[str]) -> None:
    """Remove the named files and folders, if they exist, from an owned folder.

    Raises:
        FatalError: one of them cannot be removed, or is a symbolic link to a folder.
    """
    for path in (folder / name for name in names):
        try:
            if path.is_dir():
                shutil.rmtree(path)  # refuses a symbolic link
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise FatalError(f"Cannot remove {path}: {error.strerror or error}") from None
