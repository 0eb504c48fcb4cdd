"""The metrics, health and status of the two programs, served while they run."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any

from prometheus_client import Metric as Family
from prometheus_client import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from connector.clock import SystemClock
from connector.config import Settings
from connector.errors import ConnectorError
from connector.kafka.topics import Topics
from connector.neo4j.database import Neo4jDatabase
from connector.sink.sink_task import SinkTask
from connector.source.source_task import SourceTask
from connector.telemetry import metrics, sink_metrics, source_metrics
from connector.telemetry.families import family
from connector.telemetry.health import DependencyCheck, Health
from connector.telemetry.notifications import RecentChanges
from connector.telemetry.server import Endpoint, serving
from connector.telemetry.sink_metrics import GroupLag, SinkMetrics, Writes
from connector.telemetry.source_metrics import ApiRequests, SourceMetrics

_SOURCE_STUCK_SECONDS = 600.0
"""A transaction and a recovery may take minutes; a recovery beats while it reads the topic."""
_ASK_SECONDS_MAX = 5.0


class _Common(Collector):
    """Collects what all programs serve."""

    def __init__(self, role: str, health: Health, more: Callable[[], Sequence[str]]) -> None:
        """``more`` returns the names of dependencies without a check that fail at the moment."""
        self._health, self._more = health, more
        self._info = (role, version("imednet-connector"))

    def collect(self) -> Iterator[Family]:
        """Yield the families. Called by each scrape, on its thread."""
        yield family(metrics.INFO, [(self._info, 1)])
        failing = {each.what for each in self._health.failing()}
        names = [*(check.name for check in self._health.checks), *self._more()]
        yield family(metrics.DEPENDENCY_UP, [((name,), name not in failing) for name in names])
        expected = (beat for beat in self._health.heartbeats if beat.is_expected)
        beats = [((beat.name,), beat.at_ms / 1000) for beat in expected]
        yield family(metrics.HEARTBEAT, beats)


@contextmanager
def source_telemetry(
    settings: Settings, tasks: Mapping[str, SourceTask], requests: ApiRequests,
    budget: Callable[[], int], registry: CollectorRegistry, changes: RecentChanges,
) -> Iterator[None]:  # fmt: skip
    """Serve a source's telemetry while the block runs."""
    topics = Topics(_impatient(settings).kafka)
    events_topic = settings.kafka.events_topic
    kafka = DependencyCheck("kafka", lambda: _ask_brokers(topics, events_topic), SystemClock())
    health = Health(
        [task.heartbeat for task in tasks.values()],
        _SOURCE_STUCK_SECONDS,
        [kafka],
        lambda: source_metrics.failures(tasks, requests),
    )
    registry.register(_Common("source", health, lambda: [source_metrics.IMEDNET]))
    registry.register(SourceMetrics(tasks, requests, budget))
    limit, pipeline = settings.imednet.requests_per_minute_max, _pipeline(settings, topics)

    def status() -> dict[str, Any]:
        requests_left = {"requests_left": budget(), "requests_per_minute_max": limit}
        newest = {"notifications": changes.newest()}
        return source_metrics.status(tasks) | pipeline | requests_left | newest

    endpoint = Endpoint(registry, health, status)
    with _serving(settings, endpoint, health, settings.telemetry.source_port):
        yield


@contextmanager
def sink_telemetry(
    settings: Settings, task: SinkTask, database: Neo4jDatabase, writes: Writes,
    registry: CollectorRegistry, changes: RecentChanges,
) -> Iterator[Callable[[], int | None]]:  # fmt: skip
    """Serve a sink's telemetry while the block runs.

    Yields a function that returns the lag of the partitions that the sink has; None: not known.
    """
    clock, group_id = SystemClock(), settings.sink.group_id
    lag = GroupLag(_impatient(settings).kafka, group_id)
    checks = [
        DependencyCheck("kafka", lag.observe, clock),
        DependencyCheck("neo4j", lambda: _ask(database), clock),
    ]
    health = Health(
        [task.heartbeat],
        settings.sink.max_poll_interval_seconds,
        checks,
        lambda: sink_metrics.failures(task),
    )
    registry.register(_Common("sink", health, list))
    registry.register(SinkMetrics(task, writes, lag, clock))

    pipeline = _pipeline(settings, Topics(_impatient(settings).kafka))

    def status() -> dict[str, Any]:
        newest = {"notifications": changes.newest()}
        return sink_metrics.status(task, lag, group_id, clock) | pipeline | newest

    endpoint = Endpoint(registry, health, status)

    def own_lag() -> int | None:
        found = [lag.by_partition.get(lane.partition.partition) for lane in task.lanes]
        known = [each for each in found if each is not None]
        return sum(known) if found and len(known) == len(found) else None

    with _serving(settings, endpoint, health, settings.telemetry.sink_port):
        yield own_lag


@contextmanager
def _serving(settings: Settings, endpoint: Endpoint, health: Health, port: int) -> Iterator[None]:
    """Serve, and ask the dependencies, on threads that do not outlive the program."""
    stop = threading.Event()
    for check in health.checks if port else ():
        name = f"check {check.name}"
        threading.Thread(target=check.run, args=(stop,), name=name, daemon=True).start()
    try:
        with serving(endpoint, settings.telemetry.host, port):
            yield
    finally:
        stop.set()


def _pipeline(settings: Settings, topics: Topics) -> dict[str, str]:
    """What tells this pipeline from others: its events topic, and its cluster if that answers."""
    cluster_id = ""
    with suppress(ConnectorError):
        cluster_id = topics.cluster_id()
    return {"topic": settings.kafka.events_topic, "cluster": cluster_id}


def _impatient(settings: Settings) -> Settings:
    """The settings with a short timeout: a broker that does not answer in time is down."""
    seconds = min(_ASK_SECONDS_MAX, settings.kafka.request_timeout_seconds)
    timeouts = {"request_timeout_seconds": seconds, "connect_timeout_seconds": seconds}
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=timeouts)})


def _ask_brokers(topics: Topics, topic: str) -> None:
    topics.partitions(topic)  # with one client for all times


def _ask(database: Neo4jDatabase) -> None:
    database.read("RETURN 1")


def registry() -> CollectorRegistry:
    """Return a registry with the process's own metrics (memory, CPU, open files)."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    return made
