"""The ports that the sink's loop is wired to."""

from collections.abc import Callable
from dataclasses import dataclass

from connector.interfaces import Clock, DeadLetterQueue, EventConsumer, GraphWriter
from connector.sink.applier import ApplyResult
from connector.sink.writer_threads import Writers


@dataclass(frozen=True, slots=True)
class SinkPorts:
    """Everything outside the sink that its loop uses."""

    consumer: EventConsumer
    writer: GraphWriter
    dead_letters: DeadLetterQueue
    clock: Clock
    writers: Writers
    observe: Callable[[ApplyResult], None] = lambda _: None
    """Called by the loop with the result of each acknowledged batch."""
