"""A bounded pool of threads on which batches are prepared and written."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from connector.sink.applier import ApplyResult
from connector.sink.batch import Batch
from connector.sink.checkpoints import GraphCheck, OpenedPartition
from connector.sink.lane import Lane

Result = Batch | ApplyResult | OpenedPartition | GraphCheck | None


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """A step that has ended: with a result, with None when it was given up, or with an error."""

    lane: Lane | None
    """None: a step for all lanes."""
    result: Result
    error: BaseException | None


_Step = tuple[Lane | None, Callable[[], Result]]


class Writers(Protocol):
    """Runs steps; tells of their ends in the order in which they end."""

    def submit(self, lane: Lane | None, step: Callable[[], Result]) -> None:
        """Run it as soon as a thread is free. Does not block."""

    def done(self, timeout_seconds: float) -> FinishedStep | None:
        """The next step that has ended; None: none within this time."""


class WriterThreads:
    """`Writers` on daemon threads: one that hangs in a call does not hold up the program's end."""

    def __init__(self, count: int) -> None:
        self._steps: queue.SimpleQueue[_Step] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[FinishedStep] = queue.SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._work, name=f"writer-{number}", daemon=True).start()

    def submit(self, lane: Lane | None, step: Callable[[], Result]) -> None:
        """See `Writers`."""
        self._steps.put((lane, step))

    def done(self, timeout_seconds: float) -> FinishedStep | None:
        """See `Writers`."""
        try:
            return (
                self._done.get(timeout=timeout_seconds)
                if timeout_seconds
                else self._done.get(block=False)
            )
        except queue.Empty:
            return None

    def _work(self) -> None:
        while True:
            lane, step = self._steps.get()
            try:
                self._done.put(FinishedStep(lane, step(), None))
            except BaseException as error:  # noqa: BLE001 - raised again by the task's thread
                self._done.put(FinishedStep(lane, None, error))
