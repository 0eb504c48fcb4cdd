"""``imednet-connector ui``: the web page."""

import socket
import threading
import time
from collections import deque
from collections.abc import Sequence

import typer

from connector import logs
from connector.config import Settings
from connector.errors import FatalError
from connector.kafka.dead_letter_topic import read_letters
from connector.model.letters import Letter, LetterFilter
from connector.neo4j.database import Neo4jDatabase

_FAILURE_SECONDS = 3.0


class _Graph:
    """One connection to the graph, opened when the first page needs it."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._lock = settings, threading.Lock()
        self._database: Neo4jDatabase | None = None
        self._failure, self._failed_at = "", 0.0

    def __call__(self) -> Neo4jDatabase:
        """Return the database.

        Raises:
            FatalError: the server does not answer, or refuses the credentials.
        """
        with self._lock:
            # Pages that wait for the lock get the answer of the attempt before.
            if self._failure and time.monotonic() - self._failed_at < _FAILURE_SECONDS:
                raise FatalError(self._failure)
            if self._database is None:
                try:
                    self._database = Neo4jDatabase(self._settings.neo4j)
                except FatalError as error:
                    self._failure, self._failed_at = str(error), time.monotonic()
                    raise
            self._failure = ""
            return self._database

    def close(self) -> None:
        if self._database is not None:
            self._database.close()


def run(settings: Settings) -> None:
    """Serve the page until stopped. Blocks.

    Raises:
        FatalError: a library is missing, the port is taken, or the address is open to other
            machines and no token is set.
    """
    try:
        import uvicorn

        from connector.ui.explorer import Explorer
        from connector.ui.monitor import Monitor
        from connector.ui.pages import Pages
        from connector.ui.security import is_loopback
        from connector.ui.views import LETTERS_SHOWN
    except ImportError:
        raise FatalError(
            "The page needs more packages: pip install 'imednet-connector[ui]'"
        ) from None
    logs.configure(settings.log)
    ui = settings.ui
    token = ui.token.get_secret_value() if ui.token else None
    if token is None and not is_loopback(ui.host):
        raise FatalError(
            f"Other machines can reach {ui.host}, and the page shows patient data. Set UI_TOKEN to"
            " a secret of 16 characters or more, or UI_HOST to 127.0.0.1"
        )
    graph, monitor = _Graph(settings), Monitor(settings)

    def letters(wanted: LetterFilter) -> tuple[Sequence[Letter], int]:
        newest: deque[Letter] = deque(maxlen=LETTERS_SHOWN)  # they hold content: keep only a few
        count = 0
        for letter, mark in read_letters(settings.kafka):
            if mark is None and wanted.takes(letter):
                newest.append(letter)
                count += 1
        return list(reversed(newest)), count

    pages = Pages(monitor, lambda: Explorer(graph()), letters, token)
    config = uvicorn.Config(
        pages.app(), host=ui.host, port=ui.port, log_config=None, access_log=False,
        server_header=False,
    )  # fmt: skip
    listener = _listener(ui.host, ui.port)
    shown = f"[{ui.host}]" if ":" in ui.host else ui.host
    typer.echo(f"open http://{shown}:{ui.port} in a browser; to stop, press Ctrl-C")
    try:
        with monitor.running():
            uvicorn.Server(config).run([listener])
    except KeyboardInterrupt:
        pass  # uvicorn has shut down, and raises it again
    finally:
        graph.close()


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise FatalError(
            f"Cannot listen on {host}:{port} ({error.strerror}). Set UI_PORT to a free port"
        ) from error
