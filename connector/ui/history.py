"""The last hour of the pipeline's figures, for the plots. Pure."""

from collections import deque
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

SAMPLES_MAX = 1800


class Sample(NamedTuple):
    """The figures at one moment. None: not known then."""

    at_seconds: float
    """Since the epoch."""
    published: float | None
    applied: float | None
    lag: int | None
    freshness: float | None
    """Age of the newest applied change, in seconds."""
    dead_letters: int | None


class History:
    """The newest samples. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)

    def add(self, sample: Sample) -> None:
        """Keep a sample; the oldest is dropped once there are `SAMPLES_MAX`."""
        with self._lock:
            self._samples.append(sample)

    def columns(self, after_seconds: float) -> dict[str, Sequence[float | None]]:
        """Return the samples later than ``after_seconds``, as one list for each field."""
        with self._lock:
            wanted = [each for each in self._samples if each.at_seconds > after_seconds]
        return {name: [each[index] for each in wanted] for index, name in enumerate(Sample._fields)}
