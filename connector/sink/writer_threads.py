"""A bounded pool of threads that prepare and write batches."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from connector.sink.applier import ApplyResult
from connector.sink.batch import Batch
from connector.sink.checkpoints import GraphCheck, OpenedPartition
from connector.sink.lane import Lane

StepResult = Batch | ApplyResult | OpenedPartition | GraphCheck | None


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """A step that has returned ``result`` or raised ``error``."""

    lane: Lane | None
    """None for a step that concerns all lanes."""
    result: StepResult
    error: BaseException | None


_Step = tuple[Lane | None, Callable[[], StepResult]]


class Writers(Protocol):
    """Runs steps, and hands them back in the order in which they finish."""

    def submit(self, lane: Lane | None, step: Callable[[], StepResult]) -> None:
        """Run the step as soon as a thread is free. Does not block."""

    def next_finished(self, timeout_seconds: float) -> FinishedStep | None:
        """Return the next finished step; None if none finishes within this time."""


class WriterThreads:
    """`Writers` on daemon threads: a call that hangs does not keep the process from exiting."""

    def __init__(self, count: int) -> None:
        self._steps: queue.SimpleQueue[_Step] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[FinishedStep] = queue.SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._work, name=f"writer-{number}", daemon=True).start()

    def submit(self, lane: Lane | None, step: Callable[[], StepResult]) -> None:
        """See `Writers`."""
        self._steps.put((lane, step))

    def next_finished(self, timeout_seconds: float) -> FinishedStep | None:
        """See `Writers`."""
        try:
            return (
                self._finished.get(timeout=timeout_seconds)
                if timeout_seconds
                else self._finished.get(block=False)
            )
        except queue.Empty:
            return None

    def _work(self) -> None:
        while True:
            lane, step = self._steps.get()
            try:
                self._finished.put(FinishedStep(lane, step(), None))
            except BaseException as error:  # noqa: BLE001 - raised again by the task's thread
                self._finished.put(FinishedStep(lane, None, error))
