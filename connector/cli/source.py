"""``imednet-connector source``: publish the changes of the configured studies."""

from collections.abc import Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Any

import structlog

from connector import logs
from connector.cli.running import (
    counts,
    progress_lines,
    stop_on_signals,
    tune_interpreter,
    tune_memory,
)
from connector.cli.source_bars import source_bars
from connector.clock import SystemClock
from connector.config import Settings
from connector.errors import (
    BatchTooLargeError,
    FatalError,
    ResourceDeniedError,
    RetryableError,
)
from connector.imednet.reader import ImednetReader
from connector.interfaces import ApiReader
from connector.kafka.event_log import KafkaEventLog
from connector.kafka.topics import Topics
from connector.model.cursor import Cursor
from connector.retry import Backoff
from connector.source import tracks, window
from connector.source.personal_data import WithoutPersonalData
from connector.source.ports import SourceOptions, SourcePorts
from connector.source.schedule import Pace
from connector.source.source_task import SourceTask
from connector.source.studies import Studies
from connector.store.cached_state import cache_path
from connector.store.known_store import SqliteKnownStore
from connector.telemetry.notifications import notifying
from connector.telemetry.program import registry as new_registry
from connector.telemetry.source_metrics import ApiRequests
from connector.telemetry.source_program import source_telemetry

log = structlog.stdlib.get_logger("connector.source")


def run(settings: Settings, *, sweep: bool = False) -> None:
    """Publish changes until stopped; ``sweep`` and SIGUSR1 start full passes of all kinds at once.

    Raises:
        FatalError: a server is unreachable, a setting or topic is missing, or no study could be
            read. A study that fails while others work is retried instead.
    """
    logs.configure(settings.log)
    tune_memory()
    if not settings.source.studies:
        raise FatalError("SOURCE_STUDIES is empty. Set it to the keys of the studies to read")
    kafka, topics = settings.kafka, Topics(settings.kafka)
    topics.check()
    for topic in (kafka.events_topic, kafka.cursors_topic, kafka.dead_letter_topic):
        topics.partitions(topic)
    reader = ImednetReader(settings.imednet, SystemClock())
    _check_keys(reader, settings.source.studies[0])
    registry = new_registry()
    requests = ApiRequests(registry, SystemClock())
    reader.on_request = requests.observe
    cluster_id = topics.cluster_id()
    tasks = {study: _task(settings, study, reader, cluster_id) for study in settings.source.studies}

    def sweep_all() -> None:
        log.info("sweep requested", studies=list(tasks))
        for task in tasks.values():
            task.sweep()

    stop = stop_on_signals(on_user_signal=sweep_all)
    if sweep:
        sweep_all()
    studies = Studies(tasks, SystemClock(), settings.source.retry_wait_seconds_max)
    tune_interpreter()
    interval = settings.log.progress_interval_seconds
    with (
        closing(reader),
        notifying(settings.telemetry, "source") as changes,
        source_telemetry(settings, tasks, requests, reader.budget_remaining, registry, changes),
        progress_lines(interval, lambda: _totals(tasks)),
        source_bars(tasks),
    ):
        studies.run(stop)


def _check_keys(reader: ApiReader, study_key: str) -> None:
    """Stop here if the API refuses the keys: a source takes its studies over from another one.

    Anything else does not stop it: it waits for an API that does not answer.

    Raises:
        FatalError: the API refuses the keys.
    """
    with suppress(RetryableError, BatchTooLargeError, ResourceDeniedError):
        reader.read(window.next_request(tracks.STUDY, Cursor(study_key=study_key), 1))


def _task(settings: Settings, study: str, reader: ApiReader, cluster_id: str) -> SourceTask:
    source = settings.source
    ports = SourcePorts(
        reader=WithoutPersonalData(reader) if source.omit_personal_data else reader,
        event_log=KafkaEventLog(settings.kafka, study),
        known=SqliteKnownStore(cache_path(settings, study, cluster_id)),
        clock=SystemClock(),
    )
    pace = Pace(
        poll_interval=source.poll_interval_seconds,
        list_interval=source.list_interval_seconds,
        metadata_interval=source.metadata_interval_seconds,
        sweep_interval=source.sweep_interval_seconds,
        overlap=source.overlap_seconds,
        page_size=source.page_size,
        kind_intervals=source.kind_intervals,
    )
    new_backoff = partial(Backoff, source.retry_wait_seconds_max)
    options = SourceOptions(source.max_delete_ratio, new_backoff, source.typed_values)
    return SourceTask(study, ports, pace, options)


def _totals(tasks: Mapping[str, SourceTask]) -> dict[str, Any]:
    """Return counters summed over all studies (``passes``: the minimum), and running snapshots."""
    each = [counts(task.progress) for task in tasks.values()]
    total: dict[str, Any] = {name: sum(one[name] for one in each) for name in each[0]}
    total["passes"] = min(one["passes"] for one in each)
    snapshots = {
        study: f"{task.snapshot.kind} {task.snapshot.rows} of {task.snapshot.total}"
        for study, task in tasks.items()
        if task.snapshot.kind
    }
    return total | ({"snapshots": snapshots} if snapshots else {})
