"""Where the graph wants a partition read from: a group's offsets may be ahead of the graph.

The graph can be older than the group's offsets: restored from a backup, emptied, or swapped for
another database. Its checkpoints say how far it is complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from connector.errors import FatalError, GraphBehindError
from connector.interfaces import GraphWriter, PartitionStart, Span

log = structlog.stdlib.get_logger("connector.sink")


_CONTROL_RECORD = 1
"""The end of a transaction: offsets are committed past it, and no event tells of it."""


@dataclass(frozen=True, slots=True)
class OpenedPartition:
    """The offset at which a partition is to be read, and the graph's checkpoint."""

    offset: int
    checkpoint: int


@dataclass(frozen=True, slots=True)
class GraphCheck:
    """Keys of checkpoints: behind where the graph has been before; moved, and where to."""

    behind: frozenset[str]
    advanced: Mapping[str, int]


def start_offset(start: PartitionStart, found: int | None, *, accept_gap: bool) -> int:
    """The lower of the group's offset and the graph's checkpoint. Pure.

    A graph without a checkpoint lacks everything; one whose checkpoint lies before the first
    offset of the topic lacks events that are gone.

    Raises:
        FatalError: there is such a gap, and nobody said to accept it.
    """
    if start.checkpoint is None:
        return start.offset
    if found is None:
        return start.first
    if found < start.first and not accept_gap:
        raise FatalError(
            f"events may be missing: the graph is complete up to offset {found} of"
            f" {start.checkpoint}, and the topic begins at {start.first}. Nothing was skipped. To"
            f" resume at {start.first}, start once with --accept-gap, then run"
            " `imednet-connector source --sweep`"
        )
    return max(start.first, min(start.offset, found))


class Checkpoints:
    """Opens partitions and checks them, on writers' threads. Thread-safe."""

    def __init__(self, writer: GraphWriter, *, accept_gap: bool) -> None:
        self._writer = writer
        self._accept_gap = accept_gap

    def open(self, start: PartitionStart) -> OpenedPartition:
        """The offset to read from; on return the graph has all constraints and a checkpoint.

        Raises:
            RetryableError: the graph does not answer, or lacks constraints.
            FatalError: as `start_offset`.
        """
        self._writer.check_schema()
        key = start.checkpoint
        if key is None:
            return OpenedPartition(start.offset, start.offset)
        found = self._writer.checkpoints([key]).get(key)
        offset = start_offset(start, found, accept_gap=self._accept_gap)
        if found is None or found < offset:
            self._writer.set_checkpoint(key, offset)
        if offset < start.offset - _CONTROL_RECORD:
            log.warning(
                "the graph is behind the group's offsets: reading again",
                checkpoint=key,
                committed=start.offset,
                offset=offset,
            )
        # The checkpoint may be ahead of where the group reads again; it never goes back but with
        # the whole graph, so it is what batches must find.
        return OpenedPartition(offset, max(offset, found or 0))

    def check(self, spans: Sequence[Span]) -> GraphCheck:
        """On return no constraint is missing, and the checkpoints are at the ends of these spans.

        All but those that are behind the starts: the graph lacks what it had before. A span that
        is longer than nothing holds no event: only ends of transactions.

        Raises:
            RetryableError: the graph does not answer, or lacks constraints.
        """
        self._writer.check_schema()
        found = self._writer.checkpoints([span.checkpoint for span in spans]) if spans else {}
        behind = {span.checkpoint for span in spans if found.get(span.checkpoint, -1) < span.start}
        advanced = {}
        for span in spans:
            if span.start == span.end or span.checkpoint in behind:
                continue
            try:
                self._writer.advance(span)
            except GraphBehindError:  # emptied since we looked
                behind.add(span.checkpoint)
            else:
                advanced[span.checkpoint] = span.end
        return GraphCheck(frozenset(behind), advanced)
