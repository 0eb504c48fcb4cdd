"""Durations and ages for people to read."""

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
