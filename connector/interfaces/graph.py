"""The port to the graph, for the sink and the export."""

from collections.abc import Collection, Container, Mapping, Sequence
from typing import NamedTuple, Protocol

from connector.model.events import Identity
from connector.model.graph import NodeChange


class ProbeResult(NamedTuple):
    """Entities to write: nodes absent from the graph, and nodes with an older version or none."""

    absent: set[Identity]
    outdated: set[Identity]


class Span(NamedTuple):
    """The offsets of one partition that a batch covers, and the checkpoint they advance.

    A checkpoint is the offset up to which the graph holds a partition's events. It is stored in
    the graph, so it is restored, emptied and swapped together with the data. It only says where to
    start reading; it never filters an event.
    """

    checkpoint: str
    start: int
    """The graph must be complete up to this offset."""
    end: int
    """The graph is complete up to this offset once the batch is applied."""


class WriteResult(NamedTuple):
    """The outcome of a write."""

    were_absent: bool
    """Whether every node believed absent was absent. The others were merged."""


class GraphWriter(Protocol):
    """The graph. Thread-safe. Each call blocks up to the transaction timeout.

    Raises:
        RetryableError: an outage, lock, deadlock, unknown commit outcome, or refused access.
        BatchTooLargeError: one transaction exceeds the database's memory or its timeout.
        InvalidEventError: the database rejects the data of at least one change.
    """

    def probe(self, versions: Mapping[Identity, int]) -> ProbeResult:
        """Return the entities to write: the graph has no version of them, or a smaller one."""

    def check_schema(self) -> None:
        """Raise RetryableError, with the statements to run, if a constraint is missing."""

    def checkpoints(self, keys: Collection[str]) -> dict[str, int]:
        """Return the checkpoints under these keys; keys without one are omitted."""

    def set_checkpoint(self, key: str, offset: int) -> None:
        """Raise the checkpoint to at least this offset, creating it if it is missing."""

    def advance(self, span: Span) -> None:
        """Move the checkpoint from ``start`` or later to ``end``, once the batch is applied.

        Raises:
            StaleGraphError: the checkpoint is missing or below ``start``.
        """

    def write(
        self,
        changes: Sequence[NodeChange],
        absent: Container[Identity] = (),
        span: Span | None = None,
        *,
        advance: bool = False,
    ) -> WriteResult:
        """Apply the changes, in one or more transactions per kind; acknowledged on return.

        With a ``span``, nothing is written if its checkpoint is missing or below ``start``. With
        ``advance``, the last transaction also advances the checkpoint.

        A change has no effect unless its version is larger than the node's, however many writers
        run at once. Entities in ``absent``, which the caller believes are not in the graph, are
        written faster; a wrong belief costs only that speed. After an error some kinds may be
        written and others not: repeat the whole call.

        Raises:
            StaleGraphError: with a ``span``, as `advance`.
        """
