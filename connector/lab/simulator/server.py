"""The simulator's HTTP server: in the foreground until stopped, or on a thread for tests."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from connector.lab.simulator.api import Simulation, make_app

_START_SECONDS_MAX = 30.0


def _server(simulation: Simulation) -> uvicorn.Server:
    config = uvicorn.Config(
        make_app(simulation), log_level="critical", access_log=False, http="httptools",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address; port 0 picks a free port.

    Raises:
        OSError: the address is in use or not available.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def serve(simulation: Simulation, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; blocks."""
    _server(simulation).run(sockets=[listener])


@contextmanager
def serving(simulation: Simulation) -> Iterator[str]:
    """Serve on a thread while the block runs; yields the base URL."""
    listener = listen("127.0.0.1", 0)
    server = _server(simulation)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_SECONDS_MAX
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS_MAX)
        listener.close()
