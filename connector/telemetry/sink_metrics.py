"""The sink's metrics and status, read from its task when they are asked for."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from connector.config import KafkaSettings
from connector.interfaces import Clock
from connector.kafka.group_offsets import GroupOffsets
from connector.model.reasons import REASONS
from connector.neo4j.database import COUNTED_UPDATES, Written
from connector.sink.applier import ApplyResult
from connector.sink.sink_task import SinkTask
from connector.telemetry import metrics
from connector.telemetry.families import family, histogram, single
from connector.telemetry.health import Failing, failing_of

_OBSERVATIONS_MAX = 60
"""Then the topic's partitions are looked up again: there may be more."""


class Writes:
    """Observes batches and transactions as they are acknowledged. Thread-safe."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.updates: Counter[str] = Counter(dict.fromkeys(COUNTED_UPDATES, 0))
        self._lock = threading.Lock()
        self._batch_events = histogram(metrics.BATCH_EVENTS, registry)
        self._changes = histogram(metrics.TRANSACTION_CHANGES, registry)
        self._seconds = histogram(metrics.TRANSACTION_SECONDS, registry)

    def observe_batch(self, applied: ApplyResult) -> None:
        """Count an acknowledged batch."""
        self._batch_events.observe(applied.consumed)

    def observe_transaction(self, written: Written) -> None:
        """Count a committed transaction."""
        self._seconds.observe(written.seconds)
        self._changes.observe(written.changes)
        with self._lock:
            self.updates.update(written.updates)


class GroupLag:
    """The lag of the sink's group by partition, as last observed."""

    def __init__(self, settings: KafkaSettings, group_id: str) -> None:
        self.by_partition: Mapping[int, int] = {}
        self._settings, self._group_id = settings, group_id
        self._offsets: GroupOffsets | None = None
        self._observed = 0

    def observe(self) -> None:
        """Read the lag once, which also shows whether the brokers answer. Blocks.

        Raises:
            ConnectorError: as `GroupOffsets`.
        """
        if self._offsets is None or self._observed >= _OBSERVATIONS_MAX:
            if self._offsets is not None:
                self._offsets.close()
                self._offsets = None  # in case the next line fails
            self._offsets = GroupOffsets(self._settings, self._group_id)
            self._observed = 0
        self._observed += 1
        self.by_partition = self._offsets.lag_by_partition()


class SinkMetrics(Collector):
    """Collects the metrics of one sink."""

    def __init__(self, task: SinkTask, writes: Writes, lag: GroupLag, clock: Clock) -> None:
        self._task, self._writes, self._lag, self._clock = task, writes, lag, clock

    def collect(self) -> Iterator[Family]:
        """Yield the families. Called by each scrape, on its thread."""
        progress, lanes = self._task.progress, self._task.lanes
        yield single(metrics.CONSUMED, progress.consumed)
        yield single(metrics.WRITTEN, progress.written)
        yield single(metrics.UNCHANGED, progress.unchanged)
        reasons = {**dict.fromkeys(REASONS, 0), **progress.reasons.copy()}
        yield family(metrics.DEAD_LETTERS, [((name,), count) for name, count in reasons.items()])
        retries = [((each.name,), each.failures) for each in self._task.outages]
        yield family(metrics.SINK_RETRIES, retries)
        yield single(metrics.PARTITIONS, len(lanes))
        partitions = {lane.partition.partition for lane in lanes}
        lag = [((str(number),), count) for number, count in sorted(self._lag.by_partition.items())
               if number in partitions]  # fmt: skip
        yield family(metrics.LAG_EVENTS, lag)
        waiting = lag_seconds(self._task, self._clock.now_ms())
        yield family(metrics.LAG_SECONDS, [((str(n),), age) for n, age in waiting.items()])
        yield single(metrics.BUFFERED, sum(lane.waiting_bytes for lane in lanes))
        yield single(metrics.APPLIED_AT, progress.newest_version / 1000)
        updates = self._writes.updates.copy()
        yield family(metrics.NEO4J_UPDATES, [((name,), count) for name, count in updates.items()])


def lag_seconds(task: SinkTask, now_ms: int) -> dict[int, float]:
    """Return the age of each partition's oldest event that was read and is not yet applied."""
    return {
        lane.partition.partition: max(0, now_ms - (lane.oldest_ms or now_ms)) / 1000
        for lane in task.lanes
    }


def failures(task: SinkTask) -> list[Failing]:
    """Return the outages of the sink's own calls."""
    return [each for outage in task.outages if (each := failing_of(outage))]


def status(task: SinkTask, lag: GroupLag, group_id: str, clock: Clock) -> dict[str, Any]:
    """Return the state of the sink, for ``imednet-connector status``."""
    progress, now_ms = task.progress, clock.now_ms()
    seconds = lag_seconds(task, now_ms)
    return {
        "role": "sink",
        "group": group_id,
        "consumed": progress.consumed,
        "written": progress.written,
        "unchanged": progress.unchanged,
        "dead_letters": progress.dead_letters,
        "applied_ms": progress.newest_version or None,
        "partitions": {
            str(number): {"lag": lag.by_partition.get(number), "lag_seconds": age}
            for number, age in sorted(seconds.items())
        },
    }
