"""Opens partitions at the offset that the graph needs, and checks the graph while they are read.

The graph may be older than the group's offsets: restored from a backup, emptied, or swapped for
another database. Its checkpoints show up to which offset it is complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from connector.errors import START_SWEEP, FatalError, StaleGraphError
from connector.interfaces import GraphWriter, PartitionStart, Span

log = structlog.stdlib.get_logger("connector.sink")


_CONTROL_RECORD = 1
"""The control record that ends a transaction takes one offset. It is committed past, but belongs
to no batch, so a checkpoint may lag the committed offset by this much."""


@dataclass(frozen=True, slots=True)
class OpenedPartition:
    """The offset from which to read a partition, and the graph's checkpoint."""

    offset: int
    checkpoint: int


@dataclass(frozen=True, slots=True)
class GraphCheck:
    """The result of a check, by the keys of checkpoints."""

    stale: frozenset[str]
    """Checkpoints that are missing or lower than before."""
    advanced: Mapping[str, int]
    """Checkpoints that the check advanced, and their new offsets."""


def start_offset(start: PartitionStart, checkpoint: int | None, *, accept_gap: bool) -> int:
    """Return the offset to read from: the lower of committed offset and checkpoint. Pure.

    A graph without the checkpoint lacks everything, so the partition is read from its first offset.
    If the checkpoint is below that, the graph lacks events that are no longer in the topic.

    Raises:
        FatalError: there is such a gap, and ``accept_gap`` is not set.
    """
    if start.checkpoint is None:
        return start.offset
    if checkpoint is None:
        return start.first
    if checkpoint < start.first and not accept_gap:
        raise FatalError(
            f"Events may be missing: the graph is complete up to offset {checkpoint} of"
            f" {start.checkpoint}, but the topic begins at {start.first}. Nothing was skipped. To"
            f" continue at offset {start.first}, start once with --accept-gap; then {START_SWEEP}"
        )
    return max(start.first, min(start.offset, checkpoint))


class Checkpoints:
    """Opens partitions and checks the graph, on the writer threads. Thread-safe."""

    def __init__(self, writer: GraphWriter, *, accept_gap: bool) -> None:
        self._writer = writer
        self._accept_gap = accept_gap

    def open(self, start: PartitionStart) -> OpenedPartition:
        """Find the offset to read from; on return the graph has all constraints and a checkpoint.

        Blocks.

        Raises:
            RetryableError: the graph does not answer, or lacks constraints.
            FatalError: as `start_offset`.
        """
        self._writer.check_schema()
        key = start.checkpoint
        if key is None:
            return OpenedPartition(start.offset, start.offset)
        checkpoint = self._writer.checkpoints([key]).get(key)
        offset = start_offset(start, checkpoint, accept_gap=self._accept_gap)
        if checkpoint is None or checkpoint < offset:
            self._writer.set_checkpoint(key, offset)
        if offset < start.offset - _CONTROL_RECORD:
            log.warning(
                "stale graph, rereading events",
                checkpoint=key,
                committed=start.offset,
                offset=offset,
            )
        # Batches require the checkpoint itself, even if the group rereads events before it. If they
        # required the lower offset only, a batch that was probed before a restore would move the
        # restored, older checkpoint past events that the graph has lost.
        return OpenedPartition(offset, max(offset, checkpoint or 0))

    def check(self, spans: Sequence[Span]) -> GraphCheck:
        """Check constraints and checkpoints; advance each checkpoint to the end of its span.

        On return no constraint is missing. A checkpoint that is missing or below the start of its
        span is not advanced but reported: the graph has lost events. A span that is not empty
        covers control records only, because a batch advances the checkpoint past its own messages.
        Blocks.

        Raises:
            RetryableError: the graph does not answer, or lacks constraints.
        """
        self._writer.check_schema()
        found = self._writer.checkpoints([span.checkpoint for span in spans]) if spans else {}
        stale = {span.checkpoint for span in spans if found.get(span.checkpoint, -1) < span.start}
        advanced = {}
        for span in spans:
            if span.start == span.end or span.checkpoint in stale:
                continue
            try:
                self._writer.advance(span)
            except StaleGraphError:  # emptied or restored since the query above
                stale.add(span.checkpoint)
            else:
                advanced[span.checkpoint] = span.end
        return GraphCheck(frozenset(stale), advanced)
