"""Writers that run each step synchronously on the task's thread, for a deterministic order."""

from collections.abc import Callable

from connector.errors import ConnectorError
from connector.sink.lane import Lane
from connector.sink.writer_threads import FinishedStep, Result


class InlineWriters:
    def __init__(self) -> None:
        self._done: list[FinishedStep] = []

    def submit(self, lane: Lane | None, step: Callable[[], Result]) -> None:
        try:
            self._done.append(FinishedStep(lane, step(), None))
        except ConnectorError as error:
            self._done.append(FinishedStep(lane, None, error))

    def done(self, timeout_seconds: float) -> FinishedStep | None:
        del timeout_seconds
        return self._done.pop(0) if self._done else None
