"""The metrics, health and status of a source, served while it runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client.registry import CollectorRegistry

from connector.clock import SystemClock
from connector.config import Settings
from connector.kafka.topics import Topics
from connector.source.source_task import SourceTask
from connector.telemetry import source_metrics
from connector.telemetry.health import DependencyCheck, Health
from connector.telemetry.notifications import RecentChanges
from connector.telemetry.program import CommonMetrics, impatient, pipeline_of, serve_program
from connector.telemetry.server import Endpoint
from connector.telemetry.source_metrics import ApiRequests, SourceMetrics

_STUCK_SECONDS = 600.0
"""A transaction and a recovery may take minutes; a recovery beats while it reads the topic."""


@contextmanager
def source_telemetry(
    settings: Settings, tasks: Mapping[str, SourceTask], requests: ApiRequests,
    budget: Callable[[], int], registry: CollectorRegistry, changes: RecentChanges,
) -> Iterator[None]:  # fmt: skip
    """Serve a source's telemetry while the block runs."""
    topics = Topics(impatient(settings).kafka)
    events_topic = settings.kafka.events_topic
    kafka = DependencyCheck("kafka", lambda: _ask_brokers(topics, events_topic), SystemClock())
    health = Health(
        [task.heartbeat for task in tasks.values()],
        _STUCK_SECONDS,
        [kafka],
        lambda: source_metrics.failures(tasks, requests),
    )
    registry.register(CommonMetrics("source", health, lambda: [source_metrics.IMEDNET]))
    registry.register(SourceMetrics(tasks, requests, budget))
    limit, pipeline = settings.imednet.requests_per_minute_max, pipeline_of(settings, topics)

    def status() -> dict[str, Any]:
        requests_left = {"requests_left": budget(), "requests_per_minute_max": limit}
        newest = {"notifications": changes.newest()}
        return source_metrics.status(tasks) | pipeline | requests_left | newest

    endpoint = Endpoint(registry, health, status)
    with serve_program(settings, endpoint, health, settings.telemetry.source_port):
        yield


def _ask_brokers(topics: Topics, topic: str) -> None:
    topics.partitions(topic)  # with one client for all times
