"""The API's dates: ``2024-11-04 16:03:19`` is UTC, whatever this machine's time zone."""

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_api_date(value: object) -> datetime | None:
    """Parse a date of the API (no zone: UTC) or in ISO 8601; None if it is neither."""
    parsed = _parsed(value)
    return parsed.replace(tzinfo=UTC) if parsed and not parsed.tzinfo else parsed


def is_api_date(value: object) -> bool:
    """Whether `parse_api_date` would return a date, in a sixth of its time."""
    return _parsed(value) is not None


def _parsed(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def moment_ms(text: str, now: datetime) -> int | None:
    """Parse a time that a user gives, to milliseconds since the epoch; None if it is none.

    It is ISO 8601 with a zone, or ``90s``, ``5m``, ``2h`` or ``3d`` before ``now``.
    """
    ago = _AGO.fullmatch(text)
    try:
        at = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else _parsed(text)
    except OverflowError:
        return None
    return None if at is None or at.tzinfo is None else round(at.timestamp() * 1000)


def utc_text(ms: int) -> str:
    """Format as RFC 3339 in UTC with milliseconds."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def filter_text(ms: int) -> str:
    """Format for the API's filters: whole seconds, rounded down."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
