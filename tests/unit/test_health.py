"""Liveness and readiness, and the HTTP endpoint that serves them."""

import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.registry import CollectorRegistry

from connector.errors import RetryableError
from connector.heartbeat import Heartbeat
from connector.telemetry.health import DependencyCheck, Failing, Health
from connector.telemetry.server import Endpoint, serving
from connector.telemetry.source_metrics import ApiRequests
from tests.fakes.clock import FakeClock


def test_a_server_is_down_after_two_failures_and_up_after_one_answer() -> None:
    """One failure may be a connection that was cut; the reason never quotes a foreign error."""
    clock = FakeClock()
    answers: list[Exception | None] = [KeyError("canary"), RetryableError("gone"), None]

    def ask() -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    check = DependencyCheck("neo4j", ask, clock)
    began_ms = clock.now_ms()
    found = []
    for _ in range(3):
        check.ask()
        found.append(check.failing)
        clock.advance(5)
    assert found == [None, Failing("neo4j", began_ms, "gone"), None]


def test_a_server_that_never_answers_is_down() -> None:
    """A frozen server lets a request hang; the check need not end to show it."""
    clock, asked, release = FakeClock(), threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        release.wait(30)

    check = DependencyCheck("kafka", hang, clock)
    thread = threading.Thread(target=check.ask)
    thread.start()
    try:
        assert asked.wait(30)
        assert check.failing is None
        began_ms = clock.now_ms()
        clock.advance(16)
        assert check.failing == Failing("kafka", began_ms, "no answer")
    finally:
        release.set()
        thread.join()


def test_a_loop_is_stuck_only_if_it_should_run() -> None:
    """A loop that has not gone round for too long is stuck; one that ended on purpose is not."""
    clock = FakeClock()
    beats = [Heartbeat(name, clock) for name in ("runs", "hangs", "ended")]
    health = Health(beats, 60, [], list)
    clock.advance(61)
    beats[0].beat()
    beats[2].is_expected = False
    assert health.stuck() == ["hangs"]


def test_what_fails_is_named_once_the_longest_first() -> None:
    """The program's own calls and the check of one server are one failure, since the earlier."""
    clock = FakeClock()
    check = DependencyCheck("neo4j", lambda: None, clock)
    check._failures.failed(500)
    check._failures.failed(501)
    own = [Failing("neo4j", 200, "own"), Failing("kafka", 300, "own")]
    assert Health([], 60, [check], lambda: own).failing() == [own[0], own[1]]


def test_the_api_fails_after_two_requests_without_an_answer() -> None:
    """Refusals are answers: a rate limit or a denied study does not mean that the API is down."""
    requests = ApiRequests(CollectorRegistry(), FakeClock())
    is_failing = []
    for status in ("none", "503", "429"):
        requests.observe(status, 0.1)
        is_failing.append(requests.failing is not None)
    assert is_failing == [False, True, False]
    assert requests.by_status == {"200": 0, "none": 1, "503": 1, "429": 1}


@pytest.fixture
def address() -> Iterator[str]:
    found = [Failing("kafka", 1_700_000_000_000, "no answer")]
    beats = [Heartbeat("sink", FakeClock())]
    endpoint = Endpoint(CollectorRegistry(), Health(beats, 60, [], lambda: found), dict)
    with serving(endpoint, "127.0.0.1", 19_464) as port:
        yield f"http://127.0.0.1:{port}"


def test_the_endpoint_names_what_fails_and_refuses_everything_else(address: str) -> None:
    """Unready is 503 with the reason; other paths and methods are refused with a hint."""
    with httpx.Client(base_url=address, trust_env=False) as client:
        live, ready = client.get("/livez"), client.get("/readyz?verbose")
        assert (live.status_code, live.json()) == (200, {"status": "ok", "stuck": []})
        assert ready.status_code == 503
        assert ready.json()["failing"] == [
            {"what": "kafka", "since": "2023-11-14T22:13:20+00:00", "reason": "no answer"}
        ]
        assert client.get("/status").json()["failing"] == ready.json()["failing"]
        assert client.get("/metrics").status_code == 200
        other = client.get("/secrets")
        assert other.status_code == 404
        assert "/readyz" in other.text
        assert client.post("/metrics").status_code == 501
        assert live.headers["x-content-type-options"] == "nosniff"


def test_a_client_that_stays_silent_keeps_no_other_from_being_answered(address: str) -> None:
    """Each connection has its own thread, and is closed after some seconds of silence."""
    import socket

    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))):
        started = time.monotonic()
        assert httpx.get(f"{address}/livez", trust_env=False).status_code == 200
        assert time.monotonic() - started < 10
