"""The ports that the sink's loop is wired to."""

from dataclasses import dataclass

from connector.interfaces import Clock, DeadLetterQueue, EventConsumer, GraphWriter
from connector.sink.writer_threads import Writers


@dataclass(frozen=True, slots=True)
class SinkPorts:
    """Everything outside the sink that its loop uses."""

    consumer: EventConsumer
    writer: GraphWriter
    dead_letters: DeadLetterQueue
    clock: Clock
    writers: Writers
