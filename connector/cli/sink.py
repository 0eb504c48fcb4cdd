"""``imednet-connector sink``: run one member of the consumer group."""

import contextlib
import threading
from collections.abc import Callable

from connector import logs
from connector.cli.live_line import live_line
from connector.cli.running import (
    counts,
    progress_lines,
    stop_on_signals,
    tune_interpreter,
    tune_memory,
)
from connector.clock import SystemClock
from connector.config import Settings
from connector.interfaces import EventConsumer
from connector.kafka.consumer import KafkaEventConsumer
from connector.kafka.dead_letters import KafkaDeadLetterQueue
from connector.kafka.topics import Topics
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.writer import Neo4jGraphWriter
from connector.sink.ports import SinkPorts
from connector.sink.progress import SinkProgress
from connector.sink.sink_task import SinkTask
from connector.sink.writer_threads import WriterThreads
from connector.telemetry.notifications import notifying
from connector.telemetry.program import registry as new_registry
from connector.telemetry.sink_metrics import Writes
from connector.telemetry.sink_program import sink_telemetry

_nothing = contextlib.nullcontext()


def run(settings: Settings, *, accept_gap: bool = False) -> None:
    """Apply events until stopped.

    Raises:
        FatalError: a server is unreachable or denies access, or a topic or constraint is missing.
    """
    logs.configure(settings.log)
    accept_gap |= settings.sink.accept_gap
    sink = settings.sink.model_copy(update={"accept_gap": accept_gap})
    apply(settings.model_copy(update={"sink": sink}), is_live=True)


def apply(
    settings: Settings,
    wrap: Callable[[EventConsumer, threading.Event], EventConsumer] = lambda consumer, _: consumer,
    *,
    force: bool = False,
    is_live: bool = False,
) -> SinkProgress:
    """Apply events until a signal, or the wrapped consumer, sets the stop event; return the totals.

    ``wrap`` gets the consumer and the stop event and returns the consumer to read from. With
    ``force``, events rewrite nodes of their own version, too. With ``is_live``, a terminal shows
    a line with rate and lag.

    Raises:
        FatalError: as raised by `run`.
    """
    tune_memory()
    topics = Topics(settings.kafka)
    topics.check()
    for topic in (settings.kafka.events_topic, settings.kafka.dead_letter_topic):
        topics.partitions(topic)
    with Neo4jDatabase(settings.neo4j) as database:
        database.require_constraints()
        stop = stop_on_signals(settings.sink.close_timeout_seconds)
        consumer = KafkaEventConsumer(settings.kafka, settings.sink)
        registry = new_registry()
        writes = Writes(registry)
        database.on_write = writes.observe_transaction
        ports = SinkPorts(
            consumer=wrap(consumer, stop),
            writer=Neo4jGraphWriter(database, {"group": settings.sink.group_id}, force=force),
            dead_letters=KafkaDeadLetterQueue(settings.kafka, settings.sink.group_id),
            clock=SystemClock(),
            writers=WriterThreads(settings.sink.writers_max),
            observe=writes.observe_batch,
        )
        task = SinkTask(ports, settings.sink)
        tune_interpreter()
        interval = settings.log.progress_interval_seconds
        try:
            with (
                notifying(settings.telemetry, "sink") as changes,
                sink_telemetry(settings, task, database, writes, registry, changes) as lag,
                live_line("sink", lambda: (task.progress.consumed, lag())) if is_live else _nothing,
                progress_lines(interval, lambda: counts(task.progress)),
            ):
                task.run(stop)
        finally:
            consumer.close()
    return task.progress
