"""Notifications: one CloudEvent per state change, without content, and never in the way."""

import logging
import threading
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog
from pydantic import SecretStr

from connector import logs
from connector.config import LogSettings, TelemetrySettings
from connector.errors import RetryableError
from connector.outage import LogPace, Outage
from connector.telemetry.notifications import StateChanges, notifying
from tests.fakes.clock import FakeClock
from tests.webhooks import Received, receiving


def types(changes: StateChanges, *events: dict[str, Any]) -> list[str]:
    found = (changes.of(event) for event in events)
    return [each.type.rpartition(".")[2] for each in found if each is not None]


def test_an_outage_is_notified_once_when_it_begins_and_once_when_it_ends() -> None:
    """The lines that repeat each minute are not notified, nor is an end without a beginning."""
    waiting = {"event": "waiting", "what": "neo4j", "reason": "gone"}
    recovered = {"event": "recovered", "what": "neo4j"}
    kafka = waiting | {"what": "kafka"}
    changes = StateChanges()
    assert types(changes, recovered, waiting, waiting, kafka, waiting, recovered, recovered) == [
        "failed", "failed", "recovered",
    ]  # fmt: skip
    assert types(changes, waiting) == ["failed"]
    unseen = {"event": "server does not answer", "what": "neo4j", "reason": "gone"}
    assert types(changes, unseen, {"event": "server answers again", "what": "neo4j"}) == [
        "recovered"
    ], "the program's own calls have noticed it first"


def test_studies_are_told_apart() -> None:
    """Two studies that fail are two changes, and each one's end is its own."""
    one, two = ({"event": "waiting", "what": "study", "study": key} for key in ("ONE", "TWO"))
    changes = StateChanges()
    assert types(changes, one, two, one) == ["failed", "failed"]
    assert types(changes, {"event": "recovered", "what": "study", "study": "TWO"}) == ["recovered"]
    assert types(changes, one) == []


def test_what_has_no_end_is_notified_once_an_hour() -> None:
    """Dead letters by reason, refused sweeps by kind, gaps by partition."""
    now = [0.0]
    changes = StateChanges(lambda: now[0])
    letter = {"event": "message dead-lettered", "reason": "key", "partition": 1, "offset": 2}
    sweep = {"event": "sweep deleted nothing", "study": "S", "entity": "record"}
    gap = {"event": "gap accepted", "partition": 1}
    assert types(changes, letter, letter, sweep, gap, gap) == [
        "dead_letter",
        "sweep_refused",
        "gap",
    ]
    assert types(changes, letter | {"reason": "value"}, sweep | {"study": "T"}) == [
        "dead_letter", "sweep_refused",
    ]  # fmt: skip
    now[0] = 3601.0
    assert types(changes, letter, {"event": "progress"}) == ["dead_letter"]


@pytest.fixture
def receiver() -> Iterator[tuple[str, Received]]:
    """A webhook whose first answer is an error, and what it has received."""
    with receiving(failures=1) as found:
        yield found


@pytest.mark.parametrize("shown", ["info", "error"])
def test_a_change_reaches_the_webhook_as_a_cloudevent(
    receiver: tuple[str, Received],
    capsys: pytest.CaptureFixture[str],
    shown: Literal["info", "error"],
) -> None:
    """A failed delivery is repeated; the URL reaches no log; what the log shows does not matter."""
    url, received = receiver
    root, level = logging.getLogger(), logging.getLogger("connector").level
    handlers = list(root.handlers)
    try:
        logs.configure(LogSettings(format="json", level=shown))
        clock = FakeClock()
        outage = Outage(
            "neo4j", clock, structlog.stdlib.get_logger("connector.sink"), LogPace(clock)
        )
        with notifying(TelemetrySettings(webhook_url=SecretStr(url)), "sink"):
            outage.failed(RetryableError("no connection"))
            outage.failed(RetryableError("no connection"))
            outage.succeeded()
            for _ in range(500):
                if len(received) == 3:
                    break
                threading.Event().wait(0.02)
    finally:
        root.handlers = handlers
        logging.getLogger("connector").setLevel(level)
    assert [body["type"] for _, body in received] == [
        "imednet.connector.failed", "imednet.connector.failed", "imednet.connector.recovered",
    ]  # fmt: skip
    content_type, failed = received[1]
    assert content_type == "application/cloudevents+json"
    assert failed["data"] == {"what": "neo4j", "reason": "no connection"}
    assert failed["specversion"] == "1.0"
    assert failed["subject"] == "neo4j"
    assert received[0][1]["id"] == failed["id"], "a repeated delivery is the same event"
    output = str(capsys.readouterr())
    assert "canary" not in output
    assert ("recovered" in output) == (shown == "info")


def test_a_webhook_that_does_not_answer_delays_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The program neither waits nor fails if the receiver is gone."""
    with notifying(TelemetrySettings(webhook_url=SecretStr("http://127.0.0.1:9/canary")), "sink"):
        log = structlog.stdlib.get_logger("connector.sink")
        for number in range(500):
            log.warning("message dead-lettered", reason=f"reason {number}")
    threads = [each for each in threading.enumerate() if each.name == "notifications"]
    for each in threads:
        each.join(20)
        assert not each.is_alive(), "what waited is dropped when the program ends"
    assert "canary" not in str(capsys.readouterr())
