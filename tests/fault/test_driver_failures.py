"""Failures that the Neo4j driver raises as ValueError or OSError are treated as outages."""

import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from connector.config import KafkaSettings
from connector.kafka.topic_log import read_to_end
from connector.lab.progress import LogTail
from connector.lab.servers.processes import Child
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from tests.fault.load import how_many, live_edits, messages
from tests.oracle import assert_equal, fold
from tests.programs import consumed_all, running, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(0)]
FAILURE_SECONDS = how_many("FAULT_DRIVER_SECONDS", 10)

# The program; its name resolution fails permanently (EAI_FAIL) while the switch file exists.
PROGRAM = """
import os, socket, sys
switch, sys.argv = sys.argv[1], ["imednet-connector", *sys.argv[2:]]
ask = socket.getaddrinfo
def answer(*arguments, **named):
    if os.path.exists(switch):
        raise socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution")
    return ask(*arguments, **named)
socket.getaddrinfo = answer
from connector.cli import main
main()
"""


class Relay:
    """A relay to the database that can cut connections, or answer new ones with junk."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.sends_junk = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            if self.sends_junk:
                client.recv(20)
                client.sendall(b"\xde\xad\xbe\xef" * 8)
                return
            with socket.create_connection(self._target) as server:
                self._open |= {client, server}
                threading.Thread(target=_pump, args=(server, client), daemon=True).start()
                _pump(client, server)
        self._open.discard(client)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


Failing = Callable[[Child, Relay, Path], AbstractContextManager[None]]


@contextmanager
def names_do_not_resolve(_: Child, relay: Relay, switch: Path) -> Iterator[None]:
    switch.touch()
    relay.cut()
    yield
    switch.unlink()


@contextmanager
def descriptors_run_out(sink: Child, relay: Relay, _: Path) -> Iterator[None]:
    before = resource.prlimit(sink.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(sink.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    relay.cut()
    yield
    resource.prlimit(sink.pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def handshakes_are_junk(_: Child, relay: Relay, __: Path) -> Iterator[None]:
    relay.sends_junk = True
    relay.cut()
    yield
    relay.sends_junk = False


@pytest.mark.parametrize(
    "failing", [names_do_not_resolve, descriptors_run_out, handshakes_are_junk]
)
def test_a_failure_of_the_driver_under_load_is_waited_out_and_dead_letters_nothing(
    failing: Failing,
    kafka_settings: KafkaSettings,
    environment: dict[str, str],
    topics: dict[str, str],
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """The sink waits out a failure of the driver under load and dead-letters nothing."""
    host, _, port = environment["NEO4J_URI"].removeprefix("bolt://").partition(":")
    relay, switch = Relay((host, int(port))), tmp_path / "no-names"
    variables = environment | topics | {
        "NEO4J_URI": f"bolt://localhost:{relay.port}", "SINK_GROUP_ID": study,
        "SINK_RETRY_WAIT_SECONDS_MAX": "2",
    }  # fmt: skip
    program = [sys.executable, "-c", PROGRAM, str(switch)]
    with running("sink", variables, tmp_path / "sink.log", program) as sink:
        tail = LogTail(sink.log)
        with live_edits(kafka_settings, study):
            wait_until(lambda: tail.read().get("written", 0) > 0, 60, "a first batch")
            with failing(sink, relay, switch):
                time.sleep(FAILURE_SECONDS)
            time.sleep(1)
        assert sink.poll() is None, sink.log.read_text()[-2000:]
        wait_until(consumed_all(kafka_settings, study), 120, "the load")
    assert '"waiting"' in sink.log.read_text(), "the failure had no effect"
    assert list(read_to_end(kafka_settings, kafka_settings.dead_letter_topic)) == []
    assert_equal(fold(messages(kafka_settings)), read_graph(database, study))
    relay.close()
