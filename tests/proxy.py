"""A TCP proxy that loses acknowledgements: the request arrives, the answer does not."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_GRACE_SECONDS = 0.5


class CuttingProxy:
    """Passes everything on, until a client's data holds ``marker`` and there are ``cuts`` left."""

    def __init__(self, target: tuple[str, int], marker: bytes) -> None:
        self._target, self._marker = target, marker
        self.cuts = 0
        self.done = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                cut = threading.Event()
                for each in (
                    threading.Thread(target=self._up, args=(client, server, cut), daemon=True),
                    threading.Thread(target=self._down, args=(server, client, cut), daemon=True),
                ):
                    each.start()

    def _up(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        tail = b""
        with suppress(OSError):
            while data := client.recv(65_536):
                if self.cuts > 0 and self._marker in tail + data:
                    self.cuts -= 1
                    self.done += 1
                    cut.set()
                    threading.Thread(target=self._end, args=(client, server), daemon=True).start()
                server.sendall(data)
                tail = data[-len(self._marker) :]
            server.shutdown(socket.SHUT_WR)

    def _down(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if not cut.is_set():
                    client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    @staticmethod
    def _end(client: socket.socket, server: socket.socket) -> None:
        """Once the server has had the time to do what it was asked for."""
        time.sleep(_GRACE_SECONDS)
        for each in (client, server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def cutting(uri: str, marker: bytes) -> Iterator[tuple[CuttingProxy, str]]:
    """A proxy before the server of a Bolt address; the address through it."""
    host, _, port = uri.removeprefix("bolt://").partition(":")
    proxy = CuttingProxy((host, int(port)), marker)
    try:
        yield proxy, f"bolt://127.0.0.1:{proxy.port}"
    finally:
        proxy.close()
