"""The HTTP endpoint of a program: metrics, liveness, readiness and status. Read-only."""

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from connector.telemetry.health import Health, as_json

log = structlog.stdlib.get_logger("connector.telemetry")

PORTS_TRIED = 20
_REQUEST_SECONDS_MAX = 10
_JSON = "application/json"


class Endpoint:
    """What the server answers with."""

    def __init__(
        self, registry: CollectorRegistry, health: Health, status: Callable[[], dict[str, Any]]
    ) -> None:
        self._registry, self._health, self._status = registry, health, status

    def answer(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        """Return the status, content type and body for a GET request of this path."""
        match path:
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                return HTTPStatus.OK, content_type, encode(self._registry)
            case "/livez":
                return _report("stuck", self._health.stuck())
            case "/readyz":
                return _report("failing", [as_json(each) for each in self._health.failing()])
            case "/status":
                failing = [as_json(each) for each in self._health.failing()]
                body = self._status() | {"failing": failing}
                return HTTPStatus.OK, _JSON, json.dumps(body).encode()
            case _:
                paths = "Use /metrics, /livez, /readyz or /status\n"
                return HTTPStatus.NOT_FOUND, "text/plain", paths.encode()


def _report(name: str, found: list[Any]) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if found else HTTPStatus.OK
    body = {"status": "failing" if found else "ok", name: found}
    return status, _JSON, json.dumps(body).encode()


def _handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_SECONDS_MAX
        server_version = "imednet-connector"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            status, content_type, body = endpoint.answer(path, self.headers.get("Accept", ""))
            self.send_response(status)
            headers = {
                "Content-Type": content_type,
                "Content-Length": str(len(body)),
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
            }
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Log nothing: probes arrive every few seconds."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without looking up this machine's name, which may take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: a client that disconnects is not our failure."""


@contextmanager
def serving(endpoint: Endpoint, host: str, port: int) -> Iterator[int]:
    """Serve on threads while the block runs; yields the port, 0 if there is none.

    If the port is taken, the next free one is used, so that several programs run on one machine.
    The program runs without the endpoint if none is free.
    """
    server = _bound(endpoint, host, port) if port else None
    if server is None:
        if port:
            log.warning("metrics not served: no free port", host=host, port=port)
        yield 0
        return
    found = server.server_address[1]
    log.info("metrics served", address=f"http://{host}:{found}/metrics")
    thread = threading.Thread(target=server.serve_forever, name="telemetry", daemon=True)
    thread.start()
    try:
        yield int(found)
    finally:
        server.shutdown()
        server.server_close()


def _bound(endpoint: Endpoint, host: str, port: int) -> _Server | None:
    for candidate in range(port, min(port + PORTS_TRIED, 65_536)):
        try:
            return _Server((host, candidate), _handler(endpoint))
        except OSError:
            continue
    return None
