"""What source and sink have in common in their metrics, health and status."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version

from prometheus_client import Metric as Family
from prometheus_client import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from connector.config import Settings
from connector.errors import ConnectorError
from connector.kafka.topics import Topics
from connector.telemetry import metrics
from connector.telemetry.families import family
from connector.telemetry.health import Health
from connector.telemetry.server import Endpoint, serving

_ASK_SECONDS_MAX = 5.0


class CommonMetrics(Collector):
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
def serve_program(
    settings: Settings, endpoint: Endpoint, health: Health, port: int
) -> Iterator[None]:
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


def pipeline_of(settings: Settings, topics: Topics) -> dict[str, str]:
    """What tells this pipeline from others: its events topic, and its cluster if that answers."""
    cluster_id = ""
    with suppress(ConnectorError):
        cluster_id = topics.cluster_id()
    return {"topic": settings.kafka.events_topic, "cluster": cluster_id}


def impatient(settings: Settings) -> Settings:
    """The settings with a short timeout: a broker that does not answer in time is down."""
    seconds = min(_ASK_SECONDS_MAX, settings.kafka.request_timeout_seconds)
    timeouts = {"request_timeout_seconds": seconds, "connect_timeout_seconds": seconds}
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=timeouts)})


def registry() -> CollectorRegistry:
    """Return a registry with the process's own metrics (memory, CPU, open files)."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    return made
