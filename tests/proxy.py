"""A TCP proxy that loses acknowledgements: the server gets the request, the client no answer."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_GRACE_SECONDS = 0.5


class CuttingProxy:
    """Forwards traffic; cuts a connection whose request contains ``marker``, ``cuts`` times."""

    def __init__(self, target: tuple[str, int], marker: bytes) -> None:
        self._target, self._marker = target, marker
        self.cuts = 0
        self.done = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        self._listener.close()
        self._accepting.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        cut = threading.Event()
        with suppress(OSError), client, socket.create_connection(self._target) as server:
            down = threading.Thread(target=self._down, args=(server, client, cut), daemon=True)
            down.start()
            with suppress(OSError):
                self._up(client, server, cut)
            if cut.is_set():
                time.sleep(_GRACE_SECONDS)  # the server executes the request
            for each in (server, client):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            down.join(10)

    def _up(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        """Forward the client's data; after a cut, only the rest of that request."""
        tail = b""
        while data := client.recv(65_536):
            if self.cuts > 0 and self._marker in tail + data:
                self.cuts -= 1
                self.done += 1
                cut.set()
                client.settimeout(_GRACE_SECONDS)
            server.sendall(data)
            tail = data[-len(self._marker) :]

    def _down(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if not cut.is_set():
                    client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(uri: str, marker: bytes) -> Iterator[tuple[CuttingProxy, str]]:
    """Yield a proxy in front of this Bolt server, and the address of the proxy."""
    host, _, port = uri.removeprefix("bolt://").partition(":")
    proxy = CuttingProxy((host, int(port)), marker)
    try:
        yield proxy, f"bolt://127.0.0.1:{proxy.port}"
    finally:
        proxy.close()
