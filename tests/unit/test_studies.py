"""Studies heal themselves: a failed one starts again by itself, and never ends the others."""

import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from connector.errors import ConnectorError, FatalError, RetryableError, TakenOverError
from connector.interfaces import Page, PageRequest
from connector.lab.simulator.study import build_study
from connector.model.entity import Entity
from connector.retry import Backoff
from connector.source import changes
from connector.source.changes import Changes
from connector.source.ports import SourceOptions, SourcePorts
from connector.source.reading import ReadPage
from connector.source.source_task import SourceTask
from connector.source.studies import Studies
from connector.store.known_store import SqliteKnownStore
from tests.fakes.clock import FakeClock
from tests.fakes.in_memory_kafka import InMemoryEventLog, InMemoryTopic
from tests.fakes.page_stream import PagesAhead
from tests.fakes.simulated_api import SimulatedApi
from tests.property.source_world import PACE

NOW_MS = int(datetime(2024, 6, 1, tzinfo=UTC).timestamp() * 1000)


class Api(SimulatedApi):
    """An API that fails with ``failures`` first, and then answers."""

    def __init__(self, key: str, *failures: Exception) -> None:
        super().__init__(build_study(key, 2, 5, 1), FakeClock(NOW_MS))
        self.failures = list(failures)

    def read(self, request: PageRequest) -> Page:
        if self.failures:
            raise self.failures.pop(0)
        return super().read(request)


def task_of(api: Api, clock: FakeClock) -> SourceTask:
    api.clock = clock

    def stream(pages: Iterator[ReadPage]) -> PagesAhead:
        return PagesAhead(pages, random.Random(1))

    key = api.study.key
    log = InMemoryEventLog(InMemoryTopic(), key, {})
    ports = SourcePorts(api, log, SqliteKnownStore(":memory:"), clock, stream)
    return SourceTask(key, ports, PACE, SourceOptions(0.5, lambda: Backoff(1.0)))


def run(*apis: Api, until: Callable[[list[SourceTask]], bool]) -> list[SourceTask]:
    """Run the studies until the condition holds or they end; raise what they raise."""
    clock, stop = FakeClock(NOW_MS), threading.Event()
    tasks = {api.study.key: task_of(api, clock) for api in apis}
    studies = Studies(tasks, clock, 60.0)

    def watch() -> None:
        while not stop.wait(0.01):
            if until(list(tasks.values())):
                stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        studies.run(stop)
    finally:
        stop.set()
        watcher.join()
    return list(tasks.values())


def full_passes(task: SourceTask) -> int:
    """How often the kind that was read least often was read to its end."""
    by_track = task._completed.by_track
    return min(count for name, count in by_track.items() if name.endswith(".full"))


def all_but(kind: str) -> Callable[[list[SourceTask]], bool]:
    """Return a condition: every other kind of the first study was read to its end."""

    def are_read(tasks: list[SourceTask]) -> bool:
        by_track = tasks[0]._completed.by_track.items()
        full = (each for each in by_track if each[0].endswith(".full"))
        return all(count for name, count in full if name != f"{kind}.full")

    return are_read


def all_streamed(tasks: list[SourceTask]) -> bool:
    return all(full_passes(task) > 0 for task in tasks)


@pytest.mark.parametrize("error", [FatalError("HTTP 403"), KeyError("canary"), MemoryError()])
def test_a_study_that_fails_at_the_start_is_streamed_later(error: Exception) -> None:
    """Whatever a study fails with before its first page, it starts again once it can be read."""
    (failed, other) = run(Api("A", error, error, error), Api("B"), until=all_streamed)
    assert failed.progress.events
    assert other.outage.failures == 0
    assert not failed.outage.is_ongoing


def test_a_study_is_not_called_recovered_before_it_could_be_read() -> None:
    """Each attempt recovers the known states first, which says nothing about the API."""
    refused = [FatalError("Cannot read study ONE: HTTP 403") for _ in range(5)]
    with capture_logs() as lines:
        run(Api("ONE", *refused), Api("TWO"), until=lambda tasks: full_passes(tasks[0]) > 0)
    found = [each["event"] for each in lines if each.get("what") == "study"]
    assert found.count("recovered") == 1
    assert found[-1] == "recovered"


def test_the_source_ends_only_when_no_study_can_be_read() -> None:
    """If every study fails before it can be read, the source ends with the first one's reason."""
    denied = [FatalError("A is denied")] * 1000
    with pytest.raises(FatalError, match="denied"):
        run(Api("A", *denied), Api("B", *denied), until=lambda _: False)


def test_the_source_waits_while_one_study_may_still_work() -> None:
    """An API that does not answer may answer later: the source does not end."""
    outage = [RetryableError("no response")] * 50
    denied = [FatalError("A is denied")] * 50
    run(Api("A", *denied), Api("B", *outage), until=all_streamed)


def test_a_study_that_was_taken_over_is_not_taken_back() -> None:
    """Two sources of one study would otherwise fence each other for ever."""
    taken = TakenOverError("Another source of this study has taken over")
    (ended, _) = run(Api("A", taken), Api("B"), until=lambda tasks: full_passes(tasks[1]) > 0)
    assert ended.progress.pages == 0
    assert ended.outage.is_ongoing
    with pytest.raises(TakenOverError):
        run(Api("A", taken), until=lambda _: False)


def test_a_study_that_has_recovered_keeps_the_source_running() -> None:
    """A failure that is long over is no reason to end when another study is taken over."""
    taken = [TakenOverError("Another source of this study has taken over")]
    (healed, _) = run(
        Api("A", FatalError("A is denied")),
        Late("B", *taken),
        until=lambda tasks: full_passes(tasks[0]) > 0 and tasks[1].outage.is_ongoing,
    )
    assert healed.progress.events


class Late(Api):
    """An API whose failures come only after other studies have had time to work."""

    def read(self, request: PageRequest) -> Page:
        if self.failures:
            threading.Event().wait(1.0)
        return super().read(request)


def test_a_defect_in_reading_a_kind_stops_no_other_kind() -> None:
    """An exception of any type while a page is read holds up its kind only."""

    class Defective(Api):
        def read(self, request: PageRequest) -> Page:
            if request.resource == "subjects":
                raise TypeError("canary")
            return super().read(request)

    (task,) = run(Defective("A"), until=all_but("subject"))
    assert task.track_outages["subject.full"].reason.startswith("internal error: TypeError at ")


def test_a_study_that_waits_for_its_next_attempt_is_not_stuck() -> None:
    """The longest delay may be a day: the program must not be restarted because of it."""
    clock, stop = FakeClock(NOW_MS), threading.Event()
    task = task_of(Api("A", *[FatalError("A is denied")] * 9), clock)
    working = task_of(Api("B"), clock)
    working.progress.pages = 1
    ages: list[float] = []
    wait = clock.wait

    def waiting(until: threading.Event, seconds: float) -> None:
        wait(until, seconds)
        ages.append(task.heartbeat.age_seconds)
        if not task._ports.reader.failures:  # type: ignore[attr-defined]
            stop.set()

    clock.wait = waiting  # type: ignore[method-assign]
    Studies({"A": task, "B": working}, clock, 86_400.0).run(stop)
    assert clock.monotonic() > 60
    assert max(ages) < 60


def test_a_row_that_nobody_foresaw_holds_up_its_kind_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A defect in one kind's rows does not stop the kinds after it; its reason has no content."""
    detect = changes.detect

    def defective(entity: Entity, *arguments: Any) -> Changes:
        if entity.name == "site":
            raise KeyError("canary-content")
        return detect(entity, *arguments)

    monkeypatch.setattr(changes, "detect", defective)

    (task,) = run(Api("A"), until=all_but("site"))
    outage = task.track_outages["site.full"]
    assert outage.is_ongoing
    assert outage.reason.startswith("internal error: KeyError at ")
    assert "canary" not in outage.reason + str(capsys.readouterr())


def test_a_task_that_failed_starts_from_the_committed_cursor() -> None:
    """A task can run again after any error: it reads back where it was."""
    clock, stop = FakeClock(NOW_MS), threading.Event()
    api = Api("A")
    task = task_of(api, clock)
    publish, calls = task._ports.event_log.publish, []

    def failing(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise ConnectorError("once")
        return publish(*arguments)

    task._ports.event_log.publish = failing  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectorError, match="once"):
        task.run(stop)
    before = task.progress.events
    api.after = lambda _: stop.set() if full_passes(task) else None
    task.run(stop)
    assert task.progress.events > before
