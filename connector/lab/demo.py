"""The whole pipeline on real servers: simulator, source, Kafka, two sinks, Neo4j, comparison."""

import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console

from connector.config import Settings
from connector.errors import FatalError, RetryableError
from connector.kafka.group_offsets import GroupOffsets
from connector.lab.demo_report import conclude, report
from connector.lab.folders import owned, remove_within
from connector.lab.picture import draw_subject
from connector.lab.progress import DemoProgress, LogTail
from connector.lab.servers.local import local_servers, remove_data
from connector.lab.servers.processes import Child, free_port
from connector.lab.simulator.api import API_KEY, SECURITY_KEY
from connector.lab.surroundings import Names
from connector.neo4j.database import Neo4jDatabase
from connector.ops.compare import Comparison, compare

MARKER = ".imednet-connector-demo"
_PAGE = "subject.html"
_SINKS = 2
_EDITS_PER_SECOND = 100.0
_EDITS_KEPT_PER_SECOND = 5.0
_SETTLING_PASSES = 4
"""Passes to complete after the last edit: the pass count read from the log may be one behind, a
pass may have started before the last edit, and a row is deleted only when missed twice."""
_SETTLING_SECONDS_MAX = 600.0
_OWN_FILES = (
    _PAGE,
    "known",
    *(
        f"logs/{name}.log"
        for name in ("simulator", "setup", "source-0", "sink-0", "sink-1", "ui-0")
    ),
)
"""Files and folders that a demo writes to its output folder, besides the servers' folder."""
_PROGRAM = [sys.executable, "-m", "connector"]


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """The demo's size, duration and output folder."""

    subjects: int
    records: int
    seconds: float
    output: Path
    exported: Mapping[str, str] = field(default_factory=dict)
    """Settings of exported servers to use, with ``demo-...`` names. Empty: start own servers."""
    keep: bool = False
    """Keep everything running after the comparison, until Ctrl-C."""


@dataclass(slots=True)
class Programs:
    """The processes started by the demo."""

    simulator: Child
    source: Child
    sinks: list[Child]

    def check(self) -> None:
        """Check that all processes are still running.

        Raises:
            FatalError: one has ended; the message contains the end of its log.
        """
        for child in (self.simulator, self.source, *self.sinks):
            if child.poll() is not None:
                child.wait_until(lambda: False, 0)


LoadSettings = Callable[[Mapping[str, str]], Settings]


def run(plan: DemoPlan, console: Console, load_settings: LoadSettings) -> bool:
    """Run the demo and return whether the graph equals the API; stops every process it started.

    ``load_settings`` returns the settings that the given variables result in.

    Raises:
        FatalError: a program or server failed, or the output folder contains other files.
    """
    output = plan.output.absolute()
    names = Names.beginning_with(f"demo-{uuid.uuid4().hex[:8]}") if plan.exported else Names()
    with owned(output, MARKER):
        remove_within(output, _OWN_FILES)
        comparison = _run(plan, names, console, load_settings)
    if plan.exported:
        topics = [value for name, value in names.environment.items() if name.endswith("_TOPIC")]
        console.print(
            f"not removed: topics {', '.join(topics)}; group {names.group}; study {names.study} in"
            " the graph",
            soft_wrap=True,
        )
    return comparison.different == 0


def _run(plan: DemoPlan, names: Names, console: Console, load_settings: LoadSettings) -> Comparison:
    started_at = time.monotonic()
    output = plan.output.absolute()
    logs = output / "logs"
    with ExitStack() as stack:
        _announce(plan, names, console)
        api = f"http://127.0.0.1:{free_port()}"
        simulator = _start_simulator(stack, plan, api, names.study, logs)
        servers = stack.enter_context(local_servers(output / "servers", plan.exported))
        stack.callback(remove_data, output / "servers")
        simulator.wait_until(lambda: _is_serving(api), 300)
        environment = servers.environment | _environment(api, output) | names.environment
        _run_setup(environment, logs)
        settings = load_settings(environment)
        source = _start(stack, "source", environment, logs)
        sinks = [_start(stack, "sink", environment, logs, index) for index in range(_SINKS)]
        programs = Programs(simulator, source, sinks)
        address = _start_page(stack, environment, logs)
        console.print(f"to watch it, open {address} in a browser")
        with DemoProgress(
            LogTail(source.log), [LogTail(sink.log) for sink in sinks], console
        ) as progress:
            edits = _edit_and_drain(plan, programs, progress, settings, api)
        for child in (source, *sinks):
            child.stop()
        progress.read(0)
        console.print("comparing the graph with the API ...")
        comparison = compare(settings.imednet, settings.neo4j, names.study)
        page = output / _PAGE
        with Neo4jDatabase(settings.neo4j) as database:
            draw_subject(database, names.study, page)
        report(console, comparison, progress, source, sinks, edits)
        console.print(f"picture of a subject: {page}", soft_wrap=True)
        console.print(f"logs: {logs}", soft_wrap=True)
        conclude(console, comparison, time.monotonic() - started_at)
        if plan.keep:
            source = _start(stack, "source", environment, logs)
            sinks = [_start(stack, "sink", environment, logs, index) for index in range(_SINKS)]
            _set_edit_rate(api, _EDITS_KEPT_PER_SECOND)
            _linger(Programs(simulator, source, sinks), console, address)
        else:
            console.print("to explore the graph in a browser, run: imednet-connector demo --keep")
    return comparison


def _announce(plan: DemoPlan, names: Names, console: Console) -> None:
    kafka, neo4j = plan.exported.get("KAFKA_BOOTSTRAP_SERVERS"), plan.exported.get("NEO4J_URI")
    started = [name for name, address in (("Kafka", kafka), ("Neo4j", neo4j)) if not address]
    console.print(
        f"starting the API simulator with {plan.subjects:,} subjects and about"
        f" {plan.records:,} records{''.join(f', {name}' for name in started)}"
        f"{' (on first use, Maven downloads them)' if started else ''} ...",
        soft_wrap=True,
    )
    for name, address in (("Kafka", kafka), ("Neo4j", neo4j)):
        if address:
            console.print(
                f"using the exported {name} at {address}; names of topics, group and study start"
                f" with {names.study}",
                soft_wrap=True,
            )


def _environment(api: str, output: Path) -> dict[str, str]:
    return {
        "IMEDNET_BASE_URL": api,
        "IMEDNET_API_KEY": API_KEY,
        "IMEDNET_SECURITY_KEY": SECURITY_KEY,
        "SOURCE_POLL_INTERVAL_SECONDS": "0.5",
        "SOURCE_LIST_INTERVAL_SECONDS": "6",
        "SOURCE_METADATA_INTERVAL_SECONDS": "6",
        "IMEDNET_REQUESTS_PER_MINUTE_MAX": "100000",
        "SOURCE_SWEEP_INTERVAL_SECONDS": "15",
        "SOURCE_OVERLAP_SECONDS": "5",
        "SOURCE_STATE_DIR": str(output / "known"),
        "LOG_FORMAT": "json",
        "LOG_PROGRESS_INTERVAL_SECONDS": "0.5",
        "NO_PROXY": "127.0.0.1",
    }


def _start_simulator(stack: ExitStack, plan: DemoPlan, api: str, study: str, logs: Path) -> Child:
    port = api.rpartition(":")[2]
    command = [*_PROGRAM, "simulate", f"--port={port}", f"--subjects={plan.subjects}",
               f"--records={plan.records}", f"--study={study}"]  # fmt: skip
    child = Child("the API simulator", command, logs / "simulator.log")
    stack.callback(child.stop)
    return child


def _is_serving(api: str) -> bool:
    try:
        return httpx.get(f"{api}/simulator", trust_env=False).is_success
    except httpx.TransportError:
        return False


def _run_setup(environment: dict[str, str], logs: Path) -> None:
    child = Child("setup", [*_PROGRAM, "setup"], logs / "setup.log", environment)
    while child.poll() is None:
        time.sleep(0.05)
    if child.poll():
        tail = child.log.read_text(encoding="utf-8", errors="replace")[-600:]
        raise FatalError(f"setup failed. Its log {child.log} ends with:\n{tail}")


def _start(
    stack: ExitStack, command: str, environment: dict[str, str], logs: Path, index: int = 0
) -> Child:
    log = logs / f"{command}-{index}.log"
    child = Child(f"{command} {index}", [*_PROGRAM, command], log, environment)
    stack.callback(child.stop)
    return child


def _start_page(stack: ExitStack, environment: dict[str, str], logs: Path) -> str:
    """Start the web page; return its address."""
    port = free_port()
    _start(stack, "ui", environment | {"UI_PORT": str(port)}, logs)
    return f"http://127.0.0.1:{port}"


def _linger(programs: Programs, console: Console, address: str) -> None:
    """Keep everything running until Ctrl-C."""
    text = f"everything keeps running: open {address} in a browser; Ctrl-C stops it"
    console.print(text, soft_wrap=True)
    with suppress(KeyboardInterrupt):
        while True:
            programs.check()
            time.sleep(0.5)


def _edit_and_drain(
    plan: DemoPlan, programs: Programs, progress: DemoProgress, settings: Settings, api: str
) -> dict[str, int]:
    """Make live edits, stop, wait until the graph has caught up; return the edit counts by kind."""
    _set_edit_rate(api, _EDITS_PER_SECOND)
    offsets = GroupOffsets(settings.kafka, settings.sink.group_id)
    end = time.monotonic() + plan.seconds
    while time.monotonic() < end:
        programs.check()
        progress.update("loading with live edits", _lag(offsets))
        time.sleep(0.25)
    edits = _set_edit_rate(api, 0)
    passes_needed = progress.update("edits stopped", _lag(offsets)).passes + _SETTLING_PASSES
    deadline = time.monotonic() + _SETTLING_SECONDS_MAX
    while True:
        programs.check()
        now = progress.update("catching up", _lag(offsets))
        # In this order: the lag must be read after the last pass, to include what it published.
        if now.passes >= passes_needed and _lag(offsets) == 0:
            progress.update("caught up", 0)
            return edits
        if time.monotonic() > deadline:
            raise FatalError(
                f"The sinks did not catch up with the source within {_SETTLING_SECONDS_MAX:.0f} s"
            )
        time.sleep(0.25)


def _lag(offsets: GroupOffsets) -> int | None:
    """Return the group's lag, or None while a new broker cannot name its coordinator yet."""
    try:
        return offsets.lag()
    except RetryableError:
        return None


def _set_edit_rate(api: str, per_second: float) -> dict[str, int]:
    """Set the simulator's edit rate; return the number of edits so far by kind."""
    body = {"edits_per_second": per_second}
    answer = httpx.post(f"{api}/simulator", json=body, trust_env=False).raise_for_status()
    edits: dict[str, int] = answer.json()["edits"]
    return edits
