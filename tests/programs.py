"""Helpers that run the real programs as processes and wait for them."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from pydantic import SecretStr

from connector.config import ImednetSettings, KafkaSettings
from connector.errors import RetryableError
from connector.kafka.group_offsets import GroupOffsets
from connector.lab.progress import LogTail
from connector.lab.servers.local import LocalKafka, LocalNeo4j
from connector.lab.servers.processes import Child
from connector.lab.simulator.api import API_KEY, SECURITY_KEY, Simulation

PROGRAM = [sys.executable, "-m", "connector"]

FAST_EDITS = {"SOURCE_MAX_DELETE_RATIO": "1"}
"""For sources of studies with many edits per second: while a busy machine completes a pass, they
delete a fifth of a kind, which the source takes for a fault of the API."""
_PATIENCE = 5
_LOG_SHOWN = 10_000
"""Characters of a program's log that a failed test shows."""


def wait_until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for what takes less than ``seconds`` on a free machine; five times as long at most.

    On a busy machine everything takes several times as long; only what hangs takes longer. What a
    promise says in seconds is not tested here, but measured by the benchmark.
    """
    end = time.monotonic() + seconds * _PATIENCE
    while not holds():
        assert time.monotonic() < end, f"not within {seconds * _PATIENCE} s: {what}"
        time.sleep(0.05)


@contextmanager
def started(server: LocalKafka | LocalNeo4j) -> Iterator[None]:
    """Start a server of the test's own, and stop it after the block."""
    server.start()
    try:
        server.wait()
        yield
    finally:
        if server.process is not None:
            server.process.stop()


def imednet(api: str) -> ImednetSettings:
    """The settings of a client of the simulator."""
    return ImednetSettings(
        base_url=api, api_key=SecretStr(API_KEY), security_key=SecretStr(SECURITY_KEY)
    )


def source_environment(api: str, study: str, state_dir: Path) -> dict[str, str]:
    return {
        "IMEDNET_BASE_URL": api,
        "IMEDNET_API_KEY": API_KEY,
        "IMEDNET_SECURITY_KEY": SECURITY_KEY,
        "SOURCE_STUDIES": study,
        "SOURCE_STATE_DIR": str(state_dir),
        "SOURCE_POLL_INTERVAL_SECONDS": "0.3",
        "SOURCE_LIST_INTERVAL_SECONDS": "1",
        "SOURCE_METADATA_INTERVAL_SECONDS": "1",
        "IMEDNET_REQUESTS_PER_MINUTE_MAX": "100000",
        "SOURCE_SWEEP_INTERVAL_SECONDS": "1",
        "SOURCE_OVERLAP_SECONDS": "3",
    }


def run_program(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and assert that it printed no traceback."""
    done = subprocess.run(
        [*PROGRAM, *command.split()],
        env={**os.environ, "LOG_FORMAT": "json", **environment},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


@contextmanager
def running(
    command: str, environment: dict[str, str], log: Path, program: Sequence[str] = PROGRAM
) -> Iterator[Child]:
    common = {"LOG_FORMAT": "json", "LOG_PROGRESS_INTERVAL_SECONDS": "0.2"}
    child = Child(command, [*program, *command.split()], log, common | environment)
    try:
        yield child
    except BaseException:
        sys.stderr.write(f"--- the end of {log} ---\n{log.read_text()[-_LOG_SHOWN:]}")
        raise
    finally:
        child.stop()


def consumed_all(kafka: KafkaSettings, group: str) -> Callable[[], bool]:
    """Return a check whether the group has committed everything in the topic."""
    lag = GroupOffsets(kafka, group)

    def reads() -> bool:
        try:
            return lag.lag() == 0
        except RetryableError:
            return False

    return reads


def passes(log: Path) -> Callable[[], int]:
    tail = LogTail(log)
    return lambda: int(tail.read().get("passes", 0))


def telemetry_of(program: Child) -> str:
    """Wait for the address of the program's metrics and health, and return it without path."""

    def found() -> re.Match[str] | None:
        return re.search(r"(http://[^/\s]+)/metrics", program.log.read_text())

    wait_until(lambda: found() is not None, 60, "the program's telemetry")
    match = found()
    assert match is not None
    return match[1]


def scraped(address: str) -> dict[str, float]:
    """Return the samples of the program's metrics, by name and labels."""
    samples = {}
    for line in httpx.get(f"{address}/metrics", trust_env=False).text.splitlines():
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            samples[series] = float(value)
    return samples


def not_ready(address: str) -> list[str]:
    """Return what the program's readiness names as failing."""
    answer = httpx.get(f"{address}/readyz", trust_env=False)
    names = [each["what"] for each in answer.json()["failing"]]
    assert answer.status_code == (503 if names else 200)
    return names


def stream_until_quiet(
    simulation: Simulation, kafka: KafkaSettings, variables: dict[str, str], folder: Path,
    hard_deletes: int,
) -> None:  # fmt: skip
    """Run a source and a sink during live edits and deletes, until the graph has all of them."""
    with (
        running("source", variables, folder / "source.log"),
        running("sink", variables, folder / "sink.log"),
    ):
        done = passes(folder / "source.log")
        wait_until(lambda: done() >= 3, 90, "three passes during edits")
        simulation.edits_per_second = 0
        for _ in range(hard_deletes):
            simulation.workloads[0].hard_delete()
        wanted = done() + 4
        wait_until(lambda: done() >= wanted, 90, "passes after the edits")
        wait_until(consumed_all(kafka, variables["SINK_GROUP_ID"]), 60, "the group's lag is 0")
