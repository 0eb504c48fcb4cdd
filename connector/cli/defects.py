"""What is said of an unexpected exception: its type and where it happened, never its text.

Texts and locals of an exception may hold record content.
"""

import sys
import threading
import traceback
from pathlib import Path

from connector.errors import ConnectorError

_ROOT = Path(__file__).resolve().parents[1]
_FRAMES_MAX = 5


def places(error: BaseException) -> list[str]:
    """``module:line`` of the last frames within this program, the innermost last."""
    found = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(_ROOT):
            module = path.relative_to(_ROOT.parent).with_suffix("")
            found.append(f"{'.'.join(module.parts)}:{frame.lineno}")
    return found[-_FRAMES_MAX:]


def described(error: BaseException) -> str:
    """One line for a person. What this program raises on purpose may be said as it is."""
    if isinstance(error, ConnectorError):
        return str(error)
    where = ", ".join(places(error)) or "an unknown place"
    return f"internal error: {type(error).__name__} at {where}"


def hide_content() -> None:
    """For exceptions that end a thread, or nobody can raise: no traceback, no text."""

    def said(error: BaseException | None) -> None:
        if error is not None and not isinstance(error, SystemExit):
            print(f"imednet-connector: {described(error)}", file=sys.stderr)

    threading.excepthook = lambda given: said(given.exc_value)
    sys.unraisablehook = lambda given: said(given.exc_value)
