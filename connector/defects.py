"""Reports of unexpected exceptions: their type and location, never their text.

An exception's text and local variables may contain record content.
"""

import sys
import threading
import traceback
from pathlib import Path

from connector.errors import ConnectorError

_ROOT = Path(__file__).resolve().parent
_FRAMES_MAX = 5


def locations_of(error: BaseException) -> list[str]:
    """Return ``module:line`` of the last frames within this program, innermost last."""
    locations = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(_ROOT):
            module = path.relative_to(_ROOT.parent).with_suffix("")
            locations.append(f"{'.'.join(module.parts)}:{frame.lineno}")
    return locations[-_FRAMES_MAX:]


def describe(error: BaseException) -> str:
    """Return one line: the text of this program's own errors, else the type and location."""
    if isinstance(error, ConnectorError):
        return str(error)
    where = ", ".join(locations_of(error)) or "an unknown location"
    return f"internal error: {type(error).__name__} at {where}"


def hide_content() -> None:
    """Report exceptions that end a thread, or cannot propagate, without text or traceback."""

    def report(error: BaseException | None) -> None:
        if error is not None and not isinstance(error, SystemExit):
            print(f"imednet-connector: {describe(error)}", file=sys.stderr)

    threading.excepthook = lambda hook_args: report(hook_args.exc_value)
    sys.unraisablehook = lambda hook_args: report(hook_args.exc_value)
