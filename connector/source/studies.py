"""The studies of a source, each on its own thread. A study that fails starts again by itself."""

import threading
from collections.abc import Callable, Mapping

import structlog

from connector.defects import describe
from connector.errors import ConnectorError, FatalError, TakenOverError
from connector.interfaces import Clock
from connector.retry import Backoff
from connector.source.source_task import SourceTask

log = structlog.stdlib.get_logger("connector.source")

_FIRST_DELAY_SECONDS = 2.0


class Studies:
    """Runs all tasks until they are stopped, or until none of them can do anything."""

    def __init__(
        self, tasks: Mapping[str, SourceTask], clock: Clock, retry_wait_seconds_max: float
    ) -> None:
        self._tasks, self._clock = tasks, clock
        self._longest_seconds = retry_wait_seconds_max
        self._lock = threading.Lock()
        self._errors: dict[str, ConnectorError] = {}
        """The latest failure of each study. If all studies have failed before they could read a
        page, or were taken over, restarting the program would do as much as waiting."""

    def run(self, stop: threading.Event) -> None:
        """Run each study on its own thread until ``stop`` is set; restart those that fail. Blocks.

        Sets ``stop`` itself once every study has failed before it could read anything, or has been
        taken over.

        Raises:
            ConnectorError: that of the first of these studies.
        """
        threads = [
            threading.Thread(target=self._run_study, args=(study, stop), name=study)
            for study in self._tasks
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if all(map(self._is_useless, self._tasks)):
            raise self._errors[next(iter(self._tasks))]

    def _run_study(self, study: str, stop: threading.Event) -> None:
        task = self._tasks[study]
        backoff, pages = self._new_backoff(), 0
        while not stop.is_set():
            error = _failure(task.run, stop)
            if error is None:
                return
            if isinstance(error, TakenOverError):
                log.error("study taken over", study=study, reason=str(error))  # no traceback
                task.heartbeat.is_expected = False
                task.outage.failed(error)
                self._note(study, error, stop)
                return
            if task.progress.pages > pages:  # it has worked since its last failure
                backoff, pages = self._new_backoff(), task.progress.pages
            delay_seconds = max(_FIRST_DELAY_SECONDS, backoff.next_delay(error))
            task.outage.failed(error, delay_seconds)
            self._note(study, error, stop)
            task.heartbeat.beat(delay_seconds)
            self._clock.wait(stop, delay_seconds)

    def _new_backoff(self) -> Backoff:
        return Backoff(self._longest_seconds, first_seconds=_FIRST_DELAY_SECONDS)

    def _note(self, study: str, error: ConnectorError, stop: threading.Event) -> None:
        """Record why the study failed; stop if waiting is of no use for any study."""
        with self._lock:
            self._errors[study] = error
            if all(map(self._is_useless, self._tasks)):
                stop.set()

    def _is_useless(self, study: str) -> bool:
        error = self._errors.get(study)
        has_worked = self._tasks[study].progress.pages > 0
        return error is not None and (isinstance(error, TakenOverError) or not has_worked)


def _failure(
    run: Callable[[threading.Event], None], stop: threading.Event
) -> ConnectorError | None:
    """Run until ``stop`` is set; return why it ended earlier. A defect is named without content."""
    try:
        run(stop)
    except ConnectorError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a defect, or a failure that nobody foresaw
        return FatalError(describe(error))
    return None
