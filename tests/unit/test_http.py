"""The HTTP client against real sockets."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from connector.clock import SystemClock
from connector.config import ImednetSettings
from connector.errors import BatchTooLargeError, FatalError, RetryableError
from connector.imednet.http import is_loopback
from connector.imednet.reader import ImednetReader
from connector.imednet.throttle import Throttle
from connector.interfaces import PageRequest

REQUEST = PageRequest("S1", "records", None, "recordId,asc", 500, 0)


@pytest.fixture
def trickling() -> Iterator[str]:
    """A server that trickles bytes forever, so that no single read times out."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with closing(connection):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while True:
                try:
                    connection.sendall(b" ")
                except OSError:
                    return
                time.sleep(0.05)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def settings(**changed: object) -> ImednetSettings:
    keys = {"api_key": SecretStr("k"), "security_key": SecretStr("s")}
    return ImednetSettings.model_validate(keys | changed)


def test_an_answer_that_trickles_ends_at_the_deadline_of_its_request(trickling: str) -> None:
    """An answer that trickles in ends at the deadline of its request."""
    reader = ImednetReader(settings(base_url=trickling, request_timeout_seconds=0.5), SystemClock())
    began = time.monotonic()
    with pytest.raises(BatchTooLargeError, match="no response in time"):
        reader.read(REQUEST)
    assert time.monotonic() - began < 5
    reader.close()


def test_a_missing_key_or_key_file_is_reported_at_startup() -> None:
    """A missing key or key file is reported at startup."""
    with pytest.raises(FatalError, match="Cannot read key file /nowhere"):
        ImednetReader(settings(api_key_file="/nowhere"), SystemClock())
    with pytest.raises(FatalError, match="must both be set"):
        ImednetReader(settings(security_key=None), SystemClock())


@pytest.fixture
def limiting() -> Iterator[tuple[str, list[float]]]:
    """An API that answers every request with 429, and when each request arrived."""
    arrived: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            arrived.append(time.monotonic())
            self.send_response(429)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", arrived
        server.shutdown()


def test_a_request_that_waits_for_its_slot_also_waits_out_a_429(
    limiting: tuple[str, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that waits for its slot starts only after the hold of the 429 before it.

    It started at once if it got the slot before the hold was set.
    """
    url, arrived = limiting
    hold = Throttle.hold

    def hold_late(throttle: Throttle, seconds: float) -> None:
        time.sleep(0.2)
        hold(throttle, seconds)

    monkeypatch.setattr(Throttle, "hold", hold_late)
    reader = ImednetReader(settings(base_url=url, requests_at_once_max=1), SystemClock())

    def read() -> None:
        with pytest.raises(RetryableError):
            reader.read(REQUEST)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.close()
    assert arrived[1] - arrived[0] >= 1


@pytest.mark.parametrize(
    ("url", "is_it"),
    [
        ("http://127.0.0.1:80", True), ("http://[::1]:80", True), ("http://localhost", True),
        ("https://edc.prod.imednetapi.com", False), ("http://128.0.0.1", False),
    ],
)  # fmt: skip
def test_loopback_is_this_machine(url: str, is_it: bool) -> None:  # noqa: FBT001
    """Only loopback addresses count as this machine."""
    assert is_loopback(url) is is_it
