"""The ports that the source's loop is wired to, and its options."""

from collections.abc import Callable
from dataclasses import dataclass, field

from connector.interfaces import ApiReader, Clock, EventLog, KnownStore
from connector.retry import Backoff
from connector.source.reading import OpenStream, ReadAhead


@dataclass(frozen=True, slots=True)
class SourcePorts:
    """Everything outside the source that its loop uses."""

    reader: ApiReader
    event_log: EventLog
    known: KnownStore
    clock: Clock
    open_stream: OpenStream = ReadAhead


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The task's limit on deletes, its back-off, and whether it types values."""

    max_delete_ratio: float
    new_backoff: Callable[[], Backoff] = field(default=lambda: Backoff(60.0))
    typed_values: bool = True
