"""The metrics, health and status of a sink, served while it runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client.registry import CollectorRegistry

from connector.clock import SystemClock
from connector.config import Settings
from connector.kafka.topics import Topics
from connector.neo4j.database import Neo4jDatabase
from connector.sink.sink_task import SinkTask
from connector.telemetry import sink_metrics
from connector.telemetry.health import DependencyCheck, Health
from connector.telemetry.notifications import RecentChanges
from connector.telemetry.program import CommonMetrics, impatient, pipeline_of, serve_program
from connector.telemetry.server import Endpoint
from connector.telemetry.sink_metrics import GroupLag, SinkMetrics, Writes


@contextmanager
def sink_telemetry(
    settings: Settings, task: SinkTask, database: Neo4jDatabase, writes: Writes,
    registry: CollectorRegistry, changes: RecentChanges,
) -> Iterator[Callable[[], int | None]]:  # fmt: skip
    """Serve a sink's telemetry while the block runs.

    Yields a function that returns the lag of the partitions that the sink has; None: not known.
    """
    clock, group_id = SystemClock(), settings.sink.group_id
    lag = GroupLag(impatient(settings).kafka, group_id)
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
    registry.register(CommonMetrics("sink", health, list))
    registry.register(SinkMetrics(task, writes, lag, clock))

    pipeline = pipeline_of(settings, Topics(impatient(settings).kafka))

    def status() -> dict[str, Any]:
        newest = {"notifications": changes.newest()}
        return sink_metrics.status(task, lag, group_id, clock) | pipeline | newest

    endpoint = Endpoint(registry, health, status)

    def own_lag() -> int | None:
        found = [lag.by_partition.get(lane.partition.partition) for lane in task.lanes]
        known = [each for each in found if each is not None]
        return sum(known) if found and len(known) == len(found) else None

    with serve_program(settings, endpoint, health, settings.telemetry.sink_port):
        yield own_lag


def _ask(database: Neo4jDatabase) -> None:
    database.read("RETURN 1")
