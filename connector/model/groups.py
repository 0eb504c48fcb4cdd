"""Names of replays' consumer groups: the live group's, and when the replay started. Pure."""

import re
from datetime import UTC, datetime

_STARTED = "%Y%m%dT%H%M%S%f"
_NAME = re.compile(r"(?P<live>.+)-replay-(?P<started>\d{8}T\d{12})")


def replay_group(live_group: str, started: datetime) -> str:
    """Return the group of a replay, beside the live group, that starts now."""
    return f"{live_group}-replay-{started.astimezone(UTC):{_STARTED}}"


def started_at(group: str) -> datetime | None:
    """When this replay started; None if the group is not a replay's."""
    found = _NAME.fullmatch(group)
    try:
        return found and datetime.strptime(found["started"], _STARTED).replace(tzinfo=UTC)
    except ValueError:
        return None


def live_group_of(group: str) -> str:
    """The live group beside a replay's; any other group itself. Both fill the same graph."""
    found = _NAME.fullmatch(group)
    return found["live"] if found else group
