"""Durations, ages, moments and counts for people to read."""

from datetime import UTC, datetime

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def duration(seconds: float) -> str:
    """Return the duration in the largest unit of which it has at least two."""
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def ago(ms: int) -> str:
    """Return how long ago this time is (milliseconds since the epoch)."""
    return f"{duration(datetime.now(UTC).timestamp() - ms / 1000)} ago"


def since(text: str) -> str:
    """Return how long ago this moment is (ISO 8601)."""
    return duration((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds())


def moment(ms: int) -> str:
    """Return this time (milliseconds since the epoch) in UTC; beyond the calendar, the number."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def counted(count: int, one: str, many: str) -> str:
    """Return the count with its noun in the singular or plural."""
    return f"{count:,} {one if count == 1 else many}"
