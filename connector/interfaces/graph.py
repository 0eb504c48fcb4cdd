"""What the sink and the export write to."""

from collections.abc import Collection, Container, Mapping, Sequence
from typing import NamedTuple, Protocol

from connector.model.events import Identity
from connector.model.graph import NodeChange


class ProbeResult(NamedTuple):
    """What must be written: nodes that are not there, and nodes of an older version (or none)."""

    absent: set[Identity]
    outdated: set[Identity]


class Span(NamedTuple):
    """The offsets of one partition that a batch stands for, and the checkpoint they move.

    A checkpoint is the offset up to which the graph holds a partition's events. The graph keeps it
    beside the data, so it is restored, emptied and swapped together with the data. It is evidence
    of where to start reading, and never filters an event.
    """

    checkpoint: str
    start: int
    """The graph must be complete up to here."""
    end: int
    """Once the batch is applied, it is complete up to here."""


class WriteResult(NamedTuple):
    """What a write met in the graph."""

    were_absent: bool
    """Whether all was absent that was taken for it. What was not is merged."""


class GraphWriter(Protocol):
    """The graph. Thread-safe. Each call blocks up to the transaction timeout.

    Raises:
        RetryableError: outage, lock, deadlock, an unknown commit outcome; user or database refused.
        BatchTooLargeError: memory or timeout of one transaction.
        InvalidEventError: the database refuses the data of at least one change.
    """

    def probe(self, versions: Mapping[Identity, int]) -> ProbeResult:
        """Those that must be written: the graph has no version of them or a smaller one."""

    def check_schema(self) -> None:
        """Raise RetryableError, with the statements to run, while a constraint is missing."""

    def checkpoints(self, keys: Collection[str]) -> dict[str, int]:
        """Up to which offset the graph is complete, for those of these keys that it has."""

    def set_checkpoint(self, key: str, offset: int) -> None:
        """Let the checkpoint be at least this; makes it where it is missing."""

    def advance(self, span: Span) -> None:
        """The batch is applied: move the checkpoint from ``start`` or later to ``end``.

        Raises:
            GraphBehindError: the checkpoint is missing or before ``start``.
        """

    def write(
        self,
        changes: Sequence[NodeChange],
        absent: Container[Identity] = (),
        span: Span | None = None,
        *,
        advance: bool = False,
    ) -> WriteResult:
        """Apply, acknowledged on return: a transaction for each kind of entity among them, or more.

        With a ``span``, nothing is written while its checkpoint is missing or before ``start``;
        with ``advance``, the last transaction also does what `advance` does.

        A change whose version is not larger than the node's is without effect, however many
        writers there are. What is ``absent`` as far as the caller knows is written faster; if
        it is there after all, only that is lost. After an error some kinds may be written, others
        not: repeat it all.

        Raises:
            GraphBehindError: as `advance`, where that was asked for.
        """
