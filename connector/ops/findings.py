"""What an examination of the surroundings finds: each check, its outcome, and what to do. Pure."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

from connector.defects import describe


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as it should."""
    FAILURE = "failure"
    """Some command cannot work like this."""


class Finding(NamedTuple):
    """The outcome of one check. Holds no secret and no record content."""

    area: str
    check: str
    outcome: Outcome
    detail: str
    """What was found and, unless all is well, what fixes it."""


Step = Callable[[], Finding | str]
"""One check: returns a finding, or what it found if all is well.

Raises:
    ConnectorError: it failed; the message says what to do. Anything else is reported as a defect.
"""


def examined(area: str, check: str, step: Step) -> Finding:
    """Run one check. A failed one is a finding, too."""
    try:
        found = step()
    except Exception as error:  # noqa: BLE001 - whatever it is, the check has failed
        return Finding(area, check, Outcome.FAILURE, describe(error))
    if isinstance(found, str):
        return Finding(area, check, Outcome.OK, found)
    return found


def all_examined(area: str, steps: list[tuple[str, Step]]) -> Iterator[Finding]:
    """Run the checks in order, until the first failure if that is the first check of all.

    The first check of an area is whether it can be reached: without that all others fail, too.
    """
    for index, (check, step) in enumerate(steps):
        finding = examined(area, check, step)
        yield finding
        if index == 0 and finding.outcome is Outcome.FAILURE:
            return
