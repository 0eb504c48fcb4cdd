"""Writers that run each step synchronously on the task's thread, for a deterministic order."""

from collections.abc import Callable

from connector.errors import ConnectorError
from connector.sink.lane import Lane
from connector.sink.writer_threads import FinishedStep, StepResult


class InlineWriters:
    def __init__(self) -> None:
        self._finished: list[FinishedStep] = []

    def submit(self, lane: Lane | None, step: Callable[[], StepResult]) -> None:
        try:
            self._finished.append(FinishedStep(lane, step(), None))
        except ConnectorError as error:
            self._finished.append(FinishedStep(lane, None, error))

    def next_finished(self, timeout_seconds: float) -> FinishedStep | None:
        del timeout_seconds
        return self._finished.pop(0) if self._finished else None
