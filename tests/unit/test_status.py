"""The state of the pipeline, from what its parts say."""

import contextlib
import io
import json
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rich.console import Console

from connector.cli.status import _as_json, _counted, _screen
from connector.config import Settings, TelemetrySettings
from connector.ops import status
from connector.ops.status import Severity, Surroundings
from connector.telemetry.client import _is_ours, program_statuses
from connector.ui.snapshot import Snapshot
from connector.ui.views import pipeline

FAILING = {"what": "study B", "since": "2026-01-31T08:00:00+00:00", "reason": "HTTP 403"}


def source(*studies: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "role": "source",
        "topic": "imednet.events",
        "cluster": "c",
        "address": "one:9464",
        "studies": list(studies),
        "failing": [],
        "notifications": [],
    } | fields


def study(key: str, **fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "study": key,
        "failing": None,
        "read_ms": 5,
        "rows": 0,
        "events": 0,
        "snapshot": None,
    }
    return usual | fields


def sink(address: str, partitions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"role": "sink", "topic": "imednet.events", "cluster": "c", "address": address, "group": "g", "partitions": partitions,
             "applied_ms": None, "consumed": 0, "failing": [], "notifications": []}  # fmt: skip
    return usual | fields


def test_studies_come_the_worst_first_and_say_what_they_do() -> None:
    """Failing, then those that no source reads, then snapshots, then the others."""
    snapshot = {"kind": "record", "rows": 40, "total": 100}
    programs = [
        source(
            study("WELL"), study("BUSY", snapshot=snapshot), study("BAD", failing=FAILING, read_ms=None),
        )
    ]  # fmt: skip
    around = Surroundings(
        cursors={"GONE": 7, "WELL": 6, "BAD": 4},
        letters_by_study=Counter({"BAD": 3}),
        is_asked=True,
    )
    found = status.studies(programs, around)
    assert [(each.study, each.severity) for each in found] == [
        ("BAD", Severity.FAILING), ("GONE", Severity.STOPPED), ("BUSY", Severity.BUSY),
        ("WELL", Severity.WELL),
    ]  # fmt: skip
    bad, gone, busy, well = found
    assert (bad.state, bad.since, bad.dead_letters) == ("failing: HTTP 403", FAILING["since"], 3)
    assert (bad.read_ms, gone.read_ms, well.read_ms) == (4, 7, 5)
    assert busy.state == "snapshot of record: 40 % (40 of 100)"


@pytest.mark.parametrize("failing", [{"kafka", "neo4j"}, set()])
def test_what_is_not_known_is_not_shown_as_none(failing: set[str]) -> None:
    """A server that does not answer has not said that nothing waits, lags or is there."""
    lag = {} if failing else {0: 0}
    around = Surroundings(cursors={"A": 1}, failing=failing, is_asked=True, lag=lag)
    taken = Snapshot([source(study("A"), requests_left=1, requests_per_minute_max=2)], around, 0, 0)
    console = Console(file=io.StringIO(), width=200)
    console.print(_screen(Settings(), taken))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    known = _as_json(Settings(), taken)
    unknown = bool(failing)
    assert ("lag unknown" in shown, "lag 0" in shown) == (unknown, not unknown)
    assert ("waiting: unknown" in shown, "waiting: none" in shown) == (unknown, not unknown)
    assert ("graph: unknown" in shown, "graph: empty" in shown) == (unknown, not unknown)
    assert (known["lag"], known["dead_letters"], known["nodes"]) == (
        (None, None, None) if unknown else (0, {}, {})
    )
    page = pipeline(taken)
    assert page["are_letters_known"] is page["are_nodes_known"] is not unknown


def test_the_lag_of_some_partitions_is_not_the_topics() -> None:
    """If Kafka does not say, the lag of the partitions that a sink has is not the topic's."""
    around = Surroundings(lag={0: 0}, failing={"kafka"}, is_asked=True)
    assert around.total_lag is None
    assert Surroundings(lag={0: 0, 1: 4}, is_asked=True).total_lag == 4


def test_partitions_come_with_their_sink_the_largest_lag_first() -> None:
    """A partition that no sink here reads is listed, too; sinks of other groups are not asked."""
    programs = [
        sink("a", {"0": {"lag": 9, "lag_seconds": 1.5}}),
        sink("b", {"2": {"lag": 0, "lag_seconds": 0.0}}),
        sink("replay", {"1": {"lag": 0, "lag_seconds": 0.0}}, group="other"),
    ]
    found = status.partitions(programs, Surroundings(lag={0: 5, 1: 70, 2: 0}), "g")
    assert found == [(1, 70, None, None), (0, 5, 1.5, "a"), (2, 0, 0.0, "b")]


def test_what_fails_is_listed_once() -> None:
    """Studies have lines of their own; servers are named by those that miss them."""
    kafka = {"what": "kafka", "since": "2026-01-31T08:00:00+00:00", "reason": "gone"}
    programs = [source(study("B", failing=FAILING), failing=[FAILING, kafka])]
    lines = status.failing(programs, Surroundings(problems=["No broker answers"]))
    assert lines == [
        "No broker answers", "source one:9464: kafka since 2026-01-31T08:00:00+00:00: gone",
    ]  # fmt: skip


def test_rates_and_the_time_to_catch_up() -> None:
    """Rates are differences; a restarted program does not make them negative."""
    before = [source(study("A", events=10)), sink("a", {}, consumed=100)]
    after = [source(study("A", events=30)), sink("a", {}, consumed=500)]
    assert status.rate(before, after, 2.0) == (10.0, 200.0)
    assert status.rate(after, before, 2.0) == (0.0, 0.0)
    assert status.rate([], after, 2.0) == (0.0, 0.0), "one that was not there has no rate yet"
    assert status.rate([after[0]], [*after, sink("b", {}, consumed=10**9)], 2.0) == (0.0, 0.0)
    assert status.catch_up_seconds(1900, 10.0, 200.0) == 10.0
    assert status.catch_up_seconds(1900, 200.0, 200.0) is None
    assert status.catch_up_seconds(0, 0.0, 0.0) is None


def test_freshness_is_that_of_the_newest_sink() -> None:
    """Sinks that have applied nothing yet do not count."""
    assert status.freshness_ms([sink("a", {}), sink("b", {}, applied_ms=5)]) == 5
    assert status.freshness_ms([sink("a", {})]) is None


def test_of_two_sources_of_a_study_the_one_that_reads_it_counts() -> None:
    """The other has been taken over, whatever the order in which they answer."""
    reads, taken = study("A"), study("A", failing=FAILING | {"reason": "taken over"})
    for order in ([reads, taken], [taken, reads]):
        (found,) = status.studies([source(each) for each in order], Surroundings())
        assert found.state == "polling"


class Answer(BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    "body",
    [
        b"", b"not json", b"[" * 100_000, b"[]", b'{"role":"source"}', b'{"role":"sink"}',
        b'{"role":"sink","failing":[],"partitions":{"x":{}},"group":"g","consumed":1}',
        b'{"role":"source","failing":[{}],"studies":[]}',
        b'{"role":"source","failing":[],"studies":[{"study":"A"}],"requests_left":1,"requests_per_minute_max":1}',
        b"x" * 11_000_000,
    ],
    ids=range(10),
)  # fmt: skip
def test_what_other_programs_answer_is_ignored(body: bytes) -> None:
    """Anything may listen on the ports that are tried."""
    handler = type("Handler", (Answer,), {"body": body})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        assert program_statuses(TelemetrySettings(programs=(address,))) == []
        server.shutdown()


def test_a_programs_own_answer_is_understood() -> None:
    """The forms that the client checks are those that the programs send."""
    good = [
        source(study("A"), study("B", failing=FAILING, snapshot={"kind": "x", "rows": 1, "total": 2}),
               requests_left=5, requests_per_minute_max=6),
        sink("a", {"0": {"lag": None, "lag_seconds": 0}}),
    ]  # fmt: skip
    assert all(map(_is_ours, good))


@pytest.mark.parametrize(
    "changed",
    [
        {"applied_ms": 10**400}, {"partitions": {"9" * 5000: {"lag": 1, "lag_seconds": 0}}},
        {"partitions": {"0": {"lag": 1, "lag_seconds": float("inf")}}}, {"notifications": [{}]},
        {"notifications": [{"at": "x", "type": "a", "subject": "b"}]}, {"group": "\ud800"},
        {"failing": [FAILING | {"since": "2026-01-31T08:00:00"}]}, {"notifications": None},
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_shown_is_not_a_programs(changed: dict[str, Any]) -> None:
    """Anything may listen on the ports that are tried."""
    assert _is_ours(sink("a", {}))
    assert not _is_ours(sink("a", {}) | changed)


def test_an_answer_that_trickles_in_is_given_up() -> None:
    """However many parts it comes in, and however slowly, the question ends after two seconds."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stop.wait(0.2):
                    connection.sendall(b"x")  # one header without an end

        thread = threading.Thread(target=trickle)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        found = program_statuses(TelemetrySettings(programs=(address,)))
        stop.set()
        thread.join()
    assert found == []


@pytest.mark.parametrize(
    ("count", "plural", "text"),
    [
        (1, "studies", "1 study"),
        (2000, "recordRevisions", "2,000 record revisions"),
        (1, "queries", "1 query"),
        (1, "sites", "1 site"),
    ],
)
def test_counts_of_nodes_are_shown_in_words(count: int, plural: str, text: str) -> None:
    """A count is followed by the kind as people write it."""
    assert _counted(count, plural) == text


class SinkAnswer(Answer):
    body = json.dumps(sink("a", {})).encode()


@pytest.mark.parametrize("addresses", [["127.0.0.1", "127.0.0.2", "::1"], ["127.0.0.1", "::1"]])
def test_a_name_with_several_addresses_stands_for_several_programs(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So do the replicas of a container; a program reached by IPv4 and by IPv6 counts once."""
    ipv4 = [each for each in addresses if ":" not in each]
    with contextlib.ExitStack() as stack:
        port = 0
        for address in ipv4:
            server = stack.enter_context(HTTPServer((address, port), SinkAnswer))
            port = server.server_address[1]
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        found = [(0, 0, 0, "", (address, port)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_args, **_named: (
            found if host == "sink" else [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))]
        ))  # fmt: skip
        name = f"sink:{port}"
        statuses = program_statuses(TelemetrySettings(programs=(name,)))
    shown = [name] if len(ipv4) == 1 else [f"{each}:{port}" for each in ipv4]
    assert [each["address"] for each in statuses] == shown
