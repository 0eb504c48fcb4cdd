"""A webhook that keeps what it receives."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

Received = list[tuple[str, dict[str, Any]]]
"""Content types and bodies."""


@contextmanager
def receiving(failures: int = 0) -> Iterator[tuple[str, Received]]:
    """Yield a URL and what was posted to it; the first ``failures`` posts get HTTP 503."""
    received: Received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append((self.headers["Content-Type"], body))
            self.send_response(503 if len(received) <= failures else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/canary-token", received
        server.shutdown()
