"""A lane: one assignment of one partition, from its messages to the offset to commit. No I/O.

A lane works on up to two batches, in order: one is prepared while the one before it is written.
When its partition is revoked or lost, the lane is dropped, and nothing of it is committed from
then on. If the partition comes back, it gets a new lane.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from connector.config import SinkSettings
from connector.interfaces import PartitionStart, Position, Span, TopicPartition
from connector.sink.batch import Batch
from connector.sink.states import Arrival

_MESSAGE_OVERHEAD_BYTES = 1500
"""Memory of a message besides its value: objects, key, headers (measured)."""


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Limits of a lane's batches, and how long a batch waits to fill up."""

    transaction_events_max: int
    batch_events_max: int
    batch_bytes_max: int
    linger_seconds: float

    @classmethod
    def of(cls, settings: SinkSettings) -> Self:
        """Return the limits that are set."""
        transaction_events_max = settings.transaction_events_max
        return cls(
            transaction_events_max,
            max(settings.batch_events_max, transaction_events_max),
            settings.batch_bytes_max,
            settings.linger_seconds,
        )


def message_bytes(arrival: Arrival) -> int:
    """The approximate memory that a message takes."""
    return len(arrival.message.value or b"") + _MESSAGE_OVERHEAD_BYTES


class Lane:
    """The waiting messages of a partition, its batches in flight, and the offset reached."""

    def __init__(
        self, partition: TopicPartition, start: PartitionStart, limits: LaneLimits
    ) -> None:
        self.partition = partition
        self.start = start
        self.is_open = False
        """Whether the client reads from the offset that the graph needs. If not, messages and
        ends are ignored: they will be read again."""
        self.checkpoint = start.offset
        """The graph's checkpoint, as last known."""
        self._limits = limits
        self._waiting: deque[Arrival] = deque()
        self._waiting_since = 0.0
        self._batch_events = limits.transaction_events_max
        """Target for the messages of the next batch."""
        self._end: Position | None = None
        """End of the partition, if the client has reported one that is not yet applied."""
        self.is_at_end = False
        """Whether no message has come since the client reported the end of the partition."""
        self._preparing: list[Arrival] = []
        self._ready: tuple[Batch, Position] | None = None
        """A prepared batch, and the position after it."""
        self._writing: Position | None = None
        """The position after the batch that is being written."""
        self._pending_since_ms = self._writing_since_ms = 0
        """Time of the first message of the batch being prepared, and of that being written."""
        self.waiting_bytes = 0
        self.applied: Position | None = None
        """Everything before this position is acknowledged. `Commits` commits it."""
        self.committed: int | None = None
        """The offset that the group has, as far as this lane knows."""
        self.last_served_at = 0.0
        """When its last batch was started; the lane that was served longest ago goes first."""
        self.is_paused = False
        self.dropped = threading.Event()

    def open(self, checkpoint: int) -> None:
        """Accept messages from now on; ``checkpoint`` is the graph's."""
        self.checkpoint = checkpoint
        self.is_open = True

    def add(self, arrivals: Sequence[Arrival], now: float) -> None:
        """Queue polled messages, in order. ``now`` is in monotonic seconds."""
        if not self._waiting:
            self._waiting_since = now
        self._waiting.extend(arrivals)
        self.is_at_end = False
        self.waiting_bytes += sum(map(message_bytes, arrivals))

    def reached_end(self, end: Position) -> None:
        """Note that no event lies between the last message added and this position."""
        self._end = end
        self.is_at_end = True
        self._apply_end()

    @property
    def waiting_messages(self) -> int:
        """The number of waiting messages."""
        return len(self._waiting)

    def is_full(self, share_bytes: int) -> bool:
        """Whether the waiting messages take the lane's share of the buffer."""
        return self.waiting_bytes >= share_bytes

    def is_low(self, share_bytes: int) -> bool:
        """Whether they take at most half of it, so that fetching should resume."""
        return self.waiting_bytes <= share_bytes // 2

    @property
    def is_busy(self) -> bool:
        """Whether a batch is being prepared, is ready, or is being written."""
        return bool(self._preparing or self._ready or self._writing)

    @property
    def has_full_batch(self) -> bool:
        """Whether enough messages wait to fill the next batch."""
        waiting = len(self._waiting)
        value_bytes = self.waiting_bytes - waiting * _MESSAGE_OVERHEAD_BYTES
        return waiting >= self._batch_events or value_bytes >= self._limits.batch_bytes_max

    @property
    def has_pending_batch(self) -> bool:
        """Whether a batch is being prepared or is ready: its decoded events take memory."""
        return bool(self._preparing or self._ready is not None)

    @property
    def is_writing(self) -> bool:
        """Whether a batch is being written, so that the graph may be changing."""
        return self._writing is not None

    @property
    def oldest_ms(self) -> int | None:
        """Time of the oldest message that is not acknowledged; None if all are. Thread-safe.

        Also None if that message has no time.
        """
        if self._writing is not None:
            oldest = self._writing_since_ms
        elif self.has_pending_batch:
            oldest = self._pending_since_ms
        else:
            try:
                oldest = self._waiting[0].message.timestamp_ms
            except IndexError:
                return None
        return oldest if oldest > 0 else None

    # ---------------------------------------------------------------------------------- batches

    def start_preparing(self, now: float) -> list[Arrival] | None:
        """Take the messages of the next batch; None if one is pending, or none is due."""
        if self.dropped.is_set() or self.has_pending_batch or not self._is_due(now):
            return None
        taken: list[Arrival] = []
        size = 0
        while self._waiting and len(taken) < self._batch_events:
            added = len(self._waiting[0].message.value or b"")
            if taken and size + added > self._limits.batch_bytes_max:
                break
            size += added
            taken.append(self._waiting.popleft())
        self.waiting_bytes -= size + len(taken) * _MESSAGE_OVERHEAD_BYTES
        self._waiting_since = self.last_served_at = now
        self._preparing = taken
        self._pending_since_ms = taken[0].message.timestamp_ms
        return taken

    def _is_due(self, now: float) -> bool:
        # Without a linger, a free lane takes whatever waits: small batches with low latency when
        # idle; larger ones under load, since messages arrive while the batch before is in flight.
        # A paused lane does not linger: no message can join those that wait.
        if not self._waiting:
            return False
        has_lingered = now - self._waiting_since >= self._limits.linger_seconds
        return has_lingered or self.is_paused or self.has_full_batch

    def finish_preparing(self, batch: Batch) -> None:
        """Make the batch ready to be written, and adapt the size of the next one to it.

        If most of a full batch is unchanged, as in a replay, the next is larger: that costs the
        database less. If the batch was cut to what one transaction takes, the other messages wait
        again, first in the queue, and the next is no larger than this one.
        """
        if not self._preparing:
            raise AssertionError("no batch was being prepared")
        last, rest = self._preparing[batch.count - 1].message, self._preparing[batch.count :]
        self._preparing = []
        # The committed offset is that of the next message to read; the + 1 is here only.
        self._ready = batch, Position(last.offset + 1, last.leader_epoch)
        self._waiting.extendleft(reversed(rest))
        self.waiting_bytes += sum(map(message_bytes, rest))
        limits = self._limits
        is_full = batch.count >= self._batch_events
        if rest:
            self._batch_events = max(limits.transaction_events_max, batch.count)
        elif is_full and 2 * len(batch.candidates) <= limits.transaction_events_max:
            self._batch_events = min(limits.batch_events_max, 4 * self._batch_events)

    def start_writing(self) -> tuple[Batch, Span | None] | None:
        """Take the ready batch and its span; None if none is ready, or one is being written."""
        if self.dropped.is_set() or self._writing or self._ready is None:
            return None
        batch, self._writing = self._ready
        self._writing_since_ms = self._pending_since_ms
        self._ready = None
        return batch, self._span(self._writing.offset)

    def applied_span(self) -> Span | None:
        """The span from the graph's checkpoint to ``applied``; None if there is no checkpoint."""
        applied = self.checkpoint if self.applied is None else self.applied.offset
        return self._span(max(self.checkpoint, applied))

    def _span(self, end: int) -> Span | None:
        key = self.start.checkpoint
        return None if key is None else Span(key, self.checkpoint, end)

    def finish_writing(self) -> None:
        """Advance ``applied`` past the batch: the graph or the dead letter queue has all of it."""
        self.applied, self._writing = self._writing, None
        if self.applied is not None:
            self.checkpoint = max(self.checkpoint, self.applied.offset)
        self._apply_end()

    def reopen(self) -> "Lane":
        """Drop this lane; return a new one for the partition, which starts at ``applied``."""
        self.dropped.set()
        offset = self.start.offset if self.applied is None else self.applied.offset
        return Lane(self.partition, self.start._replace(offset=offset), self._limits)

    def _apply_end(self) -> None:
        """Advance ``applied`` to the end of the partition, once nothing is waiting or in flight."""
        end = self._end
        if end is None or self._waiting or self.is_busy:
            return
        if self.applied is None or self.applied.offset < end.offset:
            if self.applied is not None:
                # A later leader may have written the control records before the end, so the
                # message's epoch may have ended below it.
                read = self.applied.last_read
                end = Position(end.offset, read.leader_epoch, read.offset)
            self.applied = end
        self._end = None
