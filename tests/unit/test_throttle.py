"""Requests are spread, limited, and held back at the API's request. Time is fake."""

import threading
from datetime import UTC, datetime

import pytest

from connector.errors import RetryableError
from connector.imednet.reader import retry_after_seconds
from connector.imednet.throttle import Throttle
from connector.retry import Backoff
from tests.fakes.clock import FakeClock


def at(throttle: Throttle, clock: FakeClock, count: int) -> list[float]:
    """Send this many requests as fast as possible and return when each was sent."""
    times = []
    for _ in range(count):
        with throttle.turn():
            times.append(clock.monotonic())
    return times


def test_no_minute_has_more_requests_than_the_budget_and_a_short_burst() -> None:
    """No minute has more requests than the budget plus a short burst."""
    clock = FakeClock()
    times = at(Throttle(clock, per_minute=60, at_once=4), clock, 200)
    for start in times:
        assert sum(start <= each < start + 60 for each in times) <= 60 + 3


def test_a_hold_delays_every_request_until_it_expires() -> None:
    """A hold delays every request until it expires."""
    clock = FakeClock()
    throttle = Throttle(clock, per_minute=6000, at_once=4)
    at(throttle, clock, 3)
    throttle.hold(7)
    throttle.hold(2)  # the longer hold counts
    assert at(throttle, clock, 1)[0] == pytest.approx(7, abs=0.1)


def test_concurrent_requests_are_limited() -> None:
    """No more requests are in flight than allowed."""
    throttle = Throttle(FakeClock(), per_minute=100_000, at_once=2)
    under_way, most, lock = 0, 0, threading.Lock()
    pause = threading.Event()

    def request() -> None:
        nonlocal under_way, most
        with throttle.turn():
            with lock:
                under_way += 1
                most = max(most, under_way)
            pause.wait(0.02)
            with lock:
                under_way -= 1

    threads = [threading.Thread(target=request) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None), ("7", 7), (" 0 ", 0), ("soon", None), ("-3", None), ("999999", 3600),
        ("Tue, 05 Nov 2024 10:00:30 GMT", 31), ("Tue, 05 Nov 2024 09:00:00 GMT", 0),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_forms(text: str | None, seconds: float | None) -> None:
    """Retry-After is read in both of its forms, and bounded."""
    assert retry_after_seconds(text, datetime(2024, 11, 5, 10, tzinfo=UTC)) == seconds


def test_waits_grow_with_full_jitter_and_are_never_shorter_than_requested() -> None:
    """Waits grow with full jitter and are never shorter than the server requested."""
    waits = [Backoff(60.0).next_delay() for _ in range(500)]
    assert min(waits) < 0.02
    assert 0.18 < max(waits) <= 0.2
    backoff = Backoff(8.0)
    assert max(backoff.next_delay() for _ in range(200)) <= 8.0
    assert backoff.next_delay(RetryableError("busy", retry_after_seconds=9.0)) == 9.0
