"""The ports: every external dependency of the two tasks, with the contract of each call.

The tasks import only these. `connector.imednet`, `connector.kafka` and `connector.neo4j` implement
them on the real clients, ``tests/fakes`` in memory. One contract suite runs against both.
"""

from connector.interfaces.api import ApiReader, Page, PageRequest, UnreadableRow
from connector.interfaces.clock import Clock
from connector.interfaces.event_log import (
    EventLog,
    InvalidRow,
    KnownStore,
    KnownUpdate,
    OpenedLog,
    VanishedRows,
)
from connector.interfaces.graph import GraphWriter, ProbeResult, Span, WriteResult
from connector.interfaces.topic import (
    AssignmentListener,
    CommitResult,
    DeadLetter,
    DeadLetterQueue,
    EventConsumer,
    Message,
    MessageDetails,
    PartitionStart,
    PollResult,
    Position,
    Range,
    TopicPartition,
)

__all__ = [
    "ApiReader",
    "AssignmentListener",
    "Clock",
    "CommitResult",
    "DeadLetter",
    "DeadLetterQueue",
    "EventConsumer",
    "EventLog",
    "GraphWriter",
    "InvalidRow",
    "KnownStore",
    "KnownUpdate",
    "Message",
    "MessageDetails",
    "OpenedLog",
    "Page",
    "PageRequest",
    "PartitionStart",
    "PollResult",
    "Position",
    "ProbeResult",
    "Range",
    "Span",
    "TopicPartition",
    "UnreadableRow",
    "VanishedRows",
    "WriteResult",
]
