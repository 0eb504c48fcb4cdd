"""Liveness and readiness: which loops still go round, and which dependencies do not answer."""

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from connector.defects import describe
from connector.heartbeat import Heartbeat
from connector.interfaces import Clock
from connector.outage import Outage

log = structlog.stdlib.get_logger("connector.telemetry")

CHECK_SECONDS = 5.0
_FAILURES_MIN = 2
_HANGING_SECONDS = 15.0


class Failing(NamedTuple):
    """What fails at the moment, since when and why. Holds no record content."""

    what: str
    since_ms: int
    reason: str


def failing_of(outage: Outage, what: str = "") -> Failing | None:
    """Return the outage as a failure; None if there is none at the moment."""
    since_ms = outage.since_ms
    return None if since_ms is None else Failing(what or outage.name, since_ms, outage.reason)


def as_json(failing: Failing) -> dict[str, str]:
    """Return a failure as a JSON object."""
    since = datetime.fromtimestamp(failing.since_ms / 1000, UTC).isoformat(timespec="seconds")
    return {"what": failing.what, "since": since, "reason": failing.reason}


class Streak:
    """Failures in a row: two of them make an outage."""

    def __init__(self) -> None:
        self.length = 0
        self._since_ms = 0

    def failed(self, at_ms: int) -> bool:
        """Count a failure at this time; return whether an outage begins."""
        if not self.length:
            self._since_ms = at_ms
        self.length += 1
        return self.length == _FAILURES_MIN

    def succeeded(self) -> bool:
        """Count a success; return whether it ends an outage."""
        is_end = self.since_ms is not None
        self.length = 0
        return is_end

    @property
    def since_ms(self) -> int | None:
        """When the outage began; None if there is none."""
        return self._since_ms if self.length >= _FAILURES_MIN else None


class DependencyCheck:
    """Asks a server every five seconds whether it answers, whatever the program does meanwhile.

    It is down after two failures in a row, or while an answer is overdue by fifteen seconds.
    """

    def __init__(self, name: str, ask: Callable[[], None], clock: Clock) -> None:
        self.name = name
        self._ask, self._clock = ask, clock
        self._asked_at: float | None = None
        self._asked_ms = 0
        self._failures = Streak()
        self._reason = ""

    def run(self, stop: threading.Event) -> None:
        """Ask until ``stop`` is set. Blocks."""
        while not stop.is_set():
            self.ask()
            self._clock.wait(stop, CHECK_SECONDS)

    def ask(self) -> None:
        """Ask once."""
        self._asked_at, self._asked_ms = self._clock.monotonic(), self._clock.now_ms()
        try:
            self._ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, the server cannot be used
            self._reason = describe(error)
            if self._failures.failed(self._asked_ms):
                log.warning("server does not answer", what=self.name, reason=self._reason)
        else:
            if self._failures.succeeded():
                log.info("server answers again", what=self.name)
        finally:
            self._asked_at = None

    @property
    def failing(self) -> Failing | None:
        """The failure, if the server is down."""
        if (since_ms := self._failures.since_ms) is not None:
            return Failing(self.name, since_ms, self._reason)
        asked_at = self._asked_at
        if asked_at is not None and self._clock.monotonic() - asked_at > _HANGING_SECONDS:
            return Failing(self.name, self._asked_ms, "no answer")
        return None


class Health:
    """The health of one program."""

    def __init__(
        self,
        heartbeats: Sequence[Heartbeat],
        heartbeat_seconds_max: float,
        checks: Sequence[DependencyCheck],
        failures: Callable[[], Iterable[Failing]],
    ) -> None:
        """``failures`` returns what fails at the moment of the program's own calls."""
        self.heartbeats, self.checks = heartbeats, checks
        self._heartbeat_seconds_max = heartbeat_seconds_max
        self._failures = failures

    def stuck(self) -> list[str]:
        """Return the loops that have not gone round for too long: restart the program."""
        return [
            beat.name
            for beat in self.heartbeats
            if beat.is_expected and beat.age_seconds > self._heartbeat_seconds_max
        ]

    def failing(self) -> list[Failing]:
        """Return what fails at the moment, the longest failure first; each thing once."""
        checked = [each for check in self.checks if (each := check.failing) is not None]
        found: dict[str, Failing] = {}
        for each in sorted([*self._failures(), *checked], key=lambda each: each.since_ms):
            found.setdefault(each.what, each)
        return list(found.values())
