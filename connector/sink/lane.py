"""A lane: one assignment of one partition, in order, from its messages to its offset. No I/O.

A lane has two places: one batch may be prepared while the one before it is written. What belongs
to a lane that was dropped (its partition was revoked or lost) is never committed, even if the
partition comes back: that is a new lane.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from connector.interfaces import PartitionStart, Position, Span, TopicPartition
from connector.sink.batch import Batch
from connector.sink.states import Arrival

_MESSAGE_OVERHEAD_BYTES = 1500
"""What a message costs in memory beside its value: objects, key, headers (measured)."""


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """What one lane may hold, and how much goes into a batch."""

    transaction_events_max: int
    batch_events_max: int
    batch_bytes_max: int
    linger_seconds: float


def message_bytes(arrival: Arrival) -> int:
    """About what a message takes in memory."""
    return len(arrival.message.value or b"") + _MESSAGE_OVERHEAD_BYTES


class Lane:
    """Messages that wait, the batch that is ready, and how far the graph has it."""

    def __init__(
        self, partition: TopicPartition, start: PartitionStart, limits: LaneLimits
    ) -> None:
        self.partition = partition
        self.start = start
        self.is_open = False
        """Whether it is known where the graph wants the partition read from."""
        self.checkpoint = start.offset
        """Up to where the graph says that it is complete."""
        self._limits = limits
        self._waiting: deque[Arrival] = deque()
        self._waiting_since = 0.0
        self._take = limits.transaction_events_max
        self._end: Position | None = None
        self._preparing: list[Arrival] = []
        self._ready: tuple[Batch, Position] | None = None
        self._writing: Position | None = None
        """Behind the batch that is being written."""
        self.waiting_bytes = 0
        self.applied: Position | None = None
        """Everything before it is acknowledged. Only the task commits it."""
        self.committed: Position | None = None
        self.started_at = 0.0
        """When its last batch was begun: who has waited longest is next."""
        self.is_paused = False
        self.dropped = threading.Event()

    def open(self, checkpoint: int) -> None:
        """Messages are expected now; this is what the graph says."""
        self.checkpoint = checkpoint
        self.is_open = True

    def add(self, arrivals: Sequence[Arrival], now: float) -> None:
        """Messages that were polled, in order. ``now`` in monotonic seconds."""
        if not self._waiting:
            self._waiting_since = now
        self._waiting.extend(arrivals)
        self.waiting_bytes += sum(map(message_bytes, arrivals))

    def reached_end(self, end: Position) -> None:
        """Between the messages so far and this offset there is nothing to apply."""
        self._end = end
        self._pass_end()

    def is_full(self, share_bytes: int) -> bool:
        """Whether its share of the memory for waiting messages is used up."""
        return self.waiting_bytes >= share_bytes

    def is_low(self, share_bytes: int) -> bool:
        """Whether it is time to fetch again."""
        return self.waiting_bytes <= share_bytes // 2

    @property
    def is_busy(self) -> bool:
        """Whether a batch is on its way."""
        return bool(self._preparing or self._ready or self._writing)

    @property
    def has_next_batch(self) -> bool:
        """Whether as much waits as the next batch takes."""
        return len(self._waiting) >= self._take

    @property
    def holds_decoded(self) -> bool:
        """Whether decoded events wait for the writing to begin (or are being decoded)."""
        return bool(self._preparing or self._ready is not None)

    @property
    def is_writing(self) -> bool:
        """Whether the graph may be changing."""
        return self._writing is not None

    # ---------------------------------------------------------------------------------- batches

    def start_preparing(self, now: float) -> list[Arrival] | None:
        """The next batch's messages, if the place is free and the batch is due."""
        if self.dropped.is_set() or self.holds_decoded or not self._is_due(now):
            return None
        taken: list[Arrival] = []
        size = 0
        while self._waiting and len(taken) < self._take:
            added = len(self._waiting[0].message.value or b"")
            if taken and size + added > self._limits.batch_bytes_max:
                break
            size += added
            taken.append(self._waiting.popleft())
        self.waiting_bytes -= size + len(taken) * _MESSAGE_OVERHEAD_BYTES
        self._waiting_since = self.started_at = now
        self._preparing = taken
        return taken

    def _is_due(self, now: float) -> bool:
        # Without a linger a free lane takes what there is: latency when idle, batches when busy.
        if not self._waiting:
            return False
        waited = now - self._waiting_since >= self._limits.linger_seconds
        return waited or self.has_next_batch

    def prepared(self, batch: Batch) -> None:
        """The batch is ready; what it came to says how many messages the next should have.

        Where most of a batch is unchanged (a replay), larger batches cost the database less;
        where most of it is new, the batch was cut to one transaction, and the rest waits again.
        """
        if not self._preparing:
            raise AssertionError("nothing was being prepared")
        last, rest = self._preparing[batch.count - 1].message, self._preparing[batch.count :]
        self._preparing = []
        # The off-by-one lives here only: what is committed is the next offset to read.
        self._ready = batch, Position(last.offset + 1, last.leader_epoch)
        self._waiting.extendleft(reversed(rest))
        self.waiting_bytes += sum(map(message_bytes, rest))
        limits = self._limits
        if rest:
            self._take = max(limits.transaction_events_max, batch.count)
        elif (
            batch.count >= self._take and 2 * len(batch.candidates) <= limits.transaction_events_max
        ):
            self._take = min(limits.batch_events_max, 4 * self._take)

    def start_writing(self) -> tuple[Batch, Span | None] | None:
        """The batch that is ready, if the one before it is written, and what it stands for."""
        if self.dropped.is_set() or self._writing or self._ready is None:
            return None
        batch, self._writing = self._ready
        self._ready = None
        return batch, self._span(self._writing.offset)

    def reached(self) -> Span | None:
        """From the graph's checkpoint to where all is applied; None: it keeps no checkpoint."""
        applied = self.checkpoint if self.applied is None else self.applied.offset
        return self._span(max(self.checkpoint, applied))

    def _span(self, end: int) -> Span | None:
        key = self.start.checkpoint
        return None if key is None else Span(key, self.checkpoint, end)

    def written(self) -> None:
        """The graph or the dead letter queue has acknowledged the whole batch."""
        self.applied, self._writing = self._writing, None
        if self.applied is not None:
            self.checkpoint = max(self.checkpoint, self.applied.offset)
        self._pass_end()

    def reopened(self) -> "Lane":
        """The same partition again, from where all is applied or before: this one is dropped."""
        self.dropped.set()
        offset = self.start.offset if self.applied is None else self.applied.offset
        return Lane(self.partition, self.start._replace(offset=offset), self._limits)

    def _pass_end(self) -> None:
        end = self._end
        if end is None or self._waiting or self.is_busy:
            return
        if self.applied is None or self.applied.offset < end.offset:
            # With the end's own epoch: an older one beside this offset would read as truncation.
            self.applied = end
        self._end = None
