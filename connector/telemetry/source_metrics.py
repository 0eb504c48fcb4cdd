"""The source's metrics and status, read from its tasks when they are asked for."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from prometheus_client import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from connector.interfaces import Clock
from connector.source.source_task import SourceTask
from connector.telemetry import metrics
from connector.telemetry.families import family, histogram, single
from connector.telemetry.health import Failing, Streak, as_json, failing_of

IMEDNET = "imednet"

_COUNTERS = {
    metrics.PAGES: "pages",
    metrics.ROWS: "rows",
    metrics.EVENTS: "events",
    metrics.DIVERTED: "diverted",
    metrics.INVALID_ROWS: "invalid",
    metrics.UNDATED: "undated",
    metrics.UNTYPED: "untyped",
    metrics.SOURCE_RETRIES: "retries",
}


class ApiRequests:
    """Counts the requests to the API, and notices when it answers none of them. Thread-safe."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self.by_status: Counter[str] = Counter({"200": 0, "none": 0})
        self._seconds = histogram(metrics.API_SECONDS, registry)
        self._clock, self._lock = clock, threading.Lock()
        self._failures = Streak()

    def observe(self, status: str, seconds: float) -> None:
        """Count one request."""
        self._seconds.observe(seconds)
        with self._lock:
            self.by_status[status] += 1
            if _is_outage(status):
                self._failures.failed(self._clock.now_ms())
            else:
                self._failures.succeeded()

    @property
    def failing(self) -> Failing | None:
        """The failure, if the last two requests or more had no response, or a server error."""
        if (since_ms := self._failures.since_ms) is None:
            return None
        reason = f"The last {self._failures.length} requests had no response, or a server error"
        return Failing(IMEDNET, since_ms, reason)


def _is_outage(status: str) -> bool:
    return not status.isdigit() or int(status) >= HTTPStatus.INTERNAL_SERVER_ERROR


class SourceMetrics(Collector):
    """Collects the metrics of all studies."""

    def __init__(
        self, tasks: Mapping[str, SourceTask], requests: ApiRequests, budget: Callable[[], int]
    ) -> None:
        """``budget`` returns the requests left of this minute's budget."""
        self._tasks, self._requests, self._budget = tasks, requests, budget

    def collect(self) -> Iterator[Family]:
        """Yield the families. Called by each scrape, on its thread."""
        tasks = self._tasks.items()
        for metric, name in _COUNTERS.items():
            counts = [((study,), getattr(task.progress, name)) for study, task in tasks]
            yield family(metric, counts)
        failing = [((study,), failing_study(study, task) is not None) for study, task in tasks]
        yield family(metrics.STUDY_FAILING, failing)
        read_at = [((study,), task.progress.read_ms / 1000) for study, task in tasks]
        yield family(metrics.READ_AT, read_at)
        snapshots = [(study, task.snapshot) for study, task in tasks]
        rows = [((study,), each.rows if each.kind else 0) for study, each in snapshots]
        totals = [((study,), each.total if each.kind else 0) for study, each in snapshots]
        yield family(metrics.SNAPSHOT_ROWS, rows)
        yield family(metrics.SNAPSHOT_TOTAL, totals)
        by_status = sorted(self._requests.by_status.copy().items())
        yield family(metrics.API_REQUESTS, [((status,), count) for status, count in by_status])
        yield single(metrics.API_BUDGET, self._budget())


def failing_study(study: str, task: SourceTask) -> Failing | None:
    """Return what of a study has failed longest; None if all of it is read."""
    outages = (task.outage, *task.track_outages.values())
    failing = [each for outage in outages if (each := failing_of(outage, f"study {study}"))]
    return min(failing, key=lambda each: each.since_ms, default=None)


def failures(tasks: Mapping[str, SourceTask], requests: ApiRequests) -> list[Failing]:
    """Return the API's failure and those of the studies, if there are any."""
    found = [requests.failing, *(failing_study(study, task) for study, task in tasks.items())]
    return [each for each in found if each is not None]


def status(tasks: Mapping[str, SourceTask]) -> dict[str, Any]:
    """Return the state of each study, for ``imednet-connector status``."""
    return {"role": "source", "studies": [_study(study, task) for study, task in tasks.items()]}


def _study(study: str, task: SourceTask) -> dict[str, Any]:
    snapshot, progress = task.snapshot, task.progress
    failing = failing_study(study, task)
    return {
        "study": study,
        "failing": None if failing is None else as_json(failing),
        "read_ms": progress.read_ms or None,
        "rows": progress.rows,
        "events": progress.events,
        "snapshot": asdict(snapshot) if snapshot.kind else None,
    }
