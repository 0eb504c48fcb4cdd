import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from connector import logs
from connector.config import LogSettings
from connector.logs import RepeatedLines

LINE = "FAIL: host:9093/1: SASL authentication error (after %dms in state AUTH_REQ, %d identical error(s) suppressed)"


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def passed(filter_: RepeatedLines, text: str, *args: object, name: str = "confluent_kafka") -> str:
    """Return the line that passes the filter, or nothing if it is held back."""
    record = logging.LogRecord(name, logging.ERROR, "", 0, text, args, None)
    return record.getMessage() if filter_.filter(record) else ""


def test_a_librarys_line_comes_once_a_minute_and_says_how_many_were_held_back() -> None:
    """A library's repeated line is logged once a minute, with the number held back."""
    now = 0.0
    lines = RepeatedLines(lambda: now)
    logged = []
    for tick in range(3 * 121):  # three a second
        now = tick / 3
        logged.append(passed(lines, LINE, tick, tick))
    logged = [each for each in logged if each]
    assert len(logged) == 3
    assert "repeats suppressed" not in logged[0]
    assert logged[1].endswith("(179 repeats suppressed)")


def test_one_error_of_many_connections_is_one_line() -> None:
    """The driver names each connection of its pool by its port, and says the same of each."""
    lines = RepeatedLines(lambda: 0.0)
    text = "[#C5{:02X}]  _: <CONNECTION> error: Failed to read from defunct connection"
    assert [bool(passed(lines, text.format(number))) for number in range(3)] == [True, False, False]


def test_an_error_that_the_client_itself_has_held_back_is_the_same_line() -> None:
    """The client's first line has no count of identical errors, the next ones have."""
    lines = RepeatedLines(lambda: 0.0)
    text = (
        "FAIL [thrd:x:1/1]: x:1/1: Connect failed: Connection refused (after 0ms in state CONNECT"
    )
    assert passed(lines, f"{text})")
    assert not passed(lines, f"{text}, 3 identical error(s) suppressed)")


def test_lines_that_say_something_else_are_not_held_back() -> None:
    """Lines that differ are not held back."""
    lines = RepeatedLines(lambda: 0.0)
    for text in ("host:9092/1 is down", "host:9093/2 is down"):
        assert passed(lines, text) == text
    assert not passed(lines, "host:9092/1 is down")


def test_this_programs_own_lines_are_never_held_back() -> None:
    """This program's own lines are never held back."""
    lines = RepeatedLines(lambda: 0.0)
    for _ in range(3):
        assert passed(lines, "waiting", name="connector.sink") == "waiting"


def test_what_is_remembered_of_lines_is_bounded() -> None:
    """The memory of past lines is bounded."""
    lines = RepeatedLines(lambda: 0.0)
    for number in range(5000):
        assert passed(lines, f"line {number}")
    assert len(lines._seen) <= 1000


def test_the_filter_is_on_whatever_a_program_logs() -> None:
    """The filter applies to every library's log."""
    stream = io.StringIO()
    logs.configure(LogSettings(format="json"), stream)
    for number in range(10):
        logging.getLogger("confluent_kafka").error(LINE, number, number)
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == ["error"]
