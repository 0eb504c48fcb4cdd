"""How long to wait before a failed step is repeated: exponential, with full jitter. Pure."""

import random


class Backoff:
    """Waits that grow from ``first`` to ``longest`` seconds and are spread at random.

    The spread keeps many processes that failed together from returning together.
    """

    def __init__(
        self,
        longest_seconds: float,
        first_seconds: float = 0.2,
        rng: random.Random | None = None,
    ) -> None:
        self._longest = longest_seconds
        self._first = first_seconds
        self._failures = 0
        self._rng = rng or random.Random()

    def next_wait(self, at_least_seconds: float | None = None) -> float:
        """Seconds to wait after one more failure; never less than the server asked for."""
        ceiling = min(self._longest, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        wait = self._rng.uniform(0.0, ceiling)
        return max(wait, at_least_seconds or 0.0)

    def reset(self) -> None:
        """The step has succeeded: begin small again."""
        self._failures = 0
