"""Outages: what is logged when a server or a task fails several times in a row."""

import threading
from unittest.mock import ANY

import pytest
import structlog
from structlog.testing import capture_logs

from connector.errors import FatalError, RetryableError
from connector.outage import LogPace, Outage, UntilDone
from connector.retry import AbandonedError
from tests.fakes.clock import FakeClock

LOG = structlog.stdlib.get_logger("connector.test")


def test_an_outage_is_logged_once_when_it_begins_and_once_when_it_ends() -> None:
    """The second failure in a row begins an outage; it is repeated once a minute."""
    clock = FakeClock()
    outage = Outage("Neo4j", clock, LOG)
    with capture_logs() as lines:
        for _ in range(130):
            outage.failed(RetryableError("no connection"))
            clock.advance(1)
        outage.succeeded()
        outage.succeeded()
    events = [(line["event"], line.get("for_seconds", line.get("after_seconds"))) for line in lines]
    assert events == [
        ("retrying", None), ("waiting", 0), ("waiting", 60), ("waiting", 120), ("recovered", 129),
    ]  # fmt: skip
    assert {line["what"] for line in lines} == {"Neo4j"}


def test_a_new_outage_is_logged_at_once() -> None:
    """An outage soon after another one is logged, too, and one failure between successes is not."""
    clock = FakeClock()
    outage, was_ongoing = Outage("Neo4j", clock, LOG), list[bool]()
    with capture_logs() as lines:
        for _ in range(2):
            outage.failed(RetryableError("no connection"))
            was_ongoing.append(outage.is_ongoing)
            outage.failed(RetryableError("no connection"))
            was_ongoing.append(outage.is_ongoing)
            outage.succeeded()
            was_ongoing.append(outage.is_ongoing)
    assert was_ongoing == [False, True, False] * 2
    assert [line["event"] for line in lines].count("waiting") == 2


def test_a_failure_that_does_not_pass_by_itself_is_an_outage_at_once() -> None:
    """A denied access is not tried twice before it is shown."""
    outage = Outage("study", FakeClock(), LOG)
    with capture_logs() as lines:
        outage.failed(FatalError("HTTP 403"), delay_seconds=1.23)
    assert outage.is_ongoing
    assert lines == [
        {"event": "waiting", "log_level": "warning", "what": "study", "reason": "HTTP 403",
         "for_seconds": 0, "delay_seconds": 1.2},
    ]  # fmt: skip


def test_one_cause_of_many_outages_is_logged_once() -> None:
    """Outages with a common pace: one line a minute, and an end only for what was logged."""
    clock = FakeClock()
    pace = LogPace(clock)
    outages = [Outage(f"kind {number}", clock, LOG, pace) for number in range(20)]
    with capture_logs() as lines:
        for _ in range(3):
            for outage in outages:
                outage.failed(RetryableError("no response"))
        for outage in outages:
            outage.succeeded()
    assert [(line["event"], line["what"]) for line in lines] == [
        ("retrying", "kind 0"), ("waiting", "kind 0"), ("recovered", "kind 0"),
    ]  # fmt: skip
    assert lines[-1] == {
        "event": "recovered", "what": "kind 0", "after_seconds": ANY, "log_level": "info",
    }  # fmt: skip


def test_a_caller_that_is_stuck_is_an_outage_although_others_succeed() -> None:
    """One partition may fail for ever while the others advance."""
    outage, seen = Outage("neo4j", FakeClock(), LOG), []
    with capture_logs() as lines:
        for _ in range(3):
            outage.failed(RetryableError("lock"), caller="stuck")
            outage.succeeded("other")
            seen.append(outage.is_ongoing)
        outage.succeeded("stuck")
        seen.append(outage.is_ongoing)
    assert seen == [False, True, True, False]
    assert [line["event"] for line in lines] == ["retrying", "waiting", "recovered"]


def test_callers_that_fail_once_each_are_no_outage() -> None:
    """Deadlocks hit different transactions; each succeeds at its next attempt."""
    outage = Outage("neo4j", FakeClock(), LOG)
    with capture_logs() as lines:
        for caller in range(10):
            outage.failed(RetryableError("deadlock"), caller=caller)
            outage.succeeded(caller)
    assert not outage.is_ongoing
    assert [line["event"] for line in lines] == ["retrying"]


def test_an_outage_of_a_caller_that_gives_up_ends_without_a_word() -> None:
    """Its partition went to another sink: whether the server works is not known."""
    outage, abandoned = Outage("neo4j", FakeClock(), LOG), threading.Event()
    until_done = UntilDone(outage, FakeClock(), 1.0, abandoned)

    def step() -> None:
        if outage.failures == 3:
            abandoned.set()
        raise RetryableError("gone")

    with capture_logs() as lines, pytest.raises(AbandonedError):
        until_done(step)
    assert not outage.is_ongoing
    assert [line["event"] for line in lines] == ["retrying", "waiting"]
