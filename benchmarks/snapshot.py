"""The source's first snapshot of a study, against reading the same pages and discarding them."""

import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
from imednet.core import Client

from benchmarks.contenders import cpu_seconds, peak_memory_mb
from benchmarks.report import AT_ONCE, READ_ONLY, SOURCE, SPEEDS, Figures
from benchmarks.sections import Bench
from connector.interfaces import Page
from connector.lab.progress import LogTail
from connector.lab.servers.processes import Child, free_port
from connector.lab.simulator.api import API_KEY, PREFIX, SECURITY_KEY
from connector.model.cursor import Cursor
from connector.model.entities import READ_KINDS
from connector.source import window
from connector.source.schedule import Pace
from connector.source.tracks import Mode, Track

STUDY, PAGE = "BENCH", 500
_PACE = Pace(3600, 3600, 3600, 86_400, overlap=60, page_size=PAGE)
_BIG_STUDY = 1_000_000
_PROGRAM = [sys.executable, "-m", "connector"]


def snapshot(bench: Bench) -> Figures:
    """Measure rows/s, with an API that answers at once and with slower ones."""
    figures: Figures = {name: defaultdict(list) for name in (READ_ONLY, SOURCE)}
    with simulator(bench, bench.events) as api:
        for number in range(bench.rounds):
            for name, speed in SPEEDS.items():
                set_speed(api, speed)
                figures[READ_ONLY][name].append(_read_only(api))
                _snapshot(bench, api, figures[SOURCE], name)
            bench.log(f"round {number + 1}: {last(figures)}")
    return figures


def big_study(bench: Bench) -> Figures:
    """Measure the source's memory for a million records and a revision of each."""
    figures: Figures = {SOURCE: defaultdict(list)}
    with simulator(bench, _BIG_STUDY) as api:
        _snapshot(bench, api, figures[SOURCE], AT_ONCE)
    bench.log(f"big study: {last(figures)}")
    return figures


@contextmanager
def simulator(bench: Bench, records: int) -> Iterator[str]:
    """Run the API simulator in its own process, with this many records; yield its address."""
    api = f"http://127.0.0.1:{free_port()}"
    command = [*_PROGRAM, "simulate", f"--port={api.rpartition(':')[2]}", f"--study={STUDY}",
               f"--records={records}", f"--subjects={records // 50}"]  # fmt: skip
    child = Child("the API simulator", command, bench.logs / "simulator.log")
    try:
        child.wait_until(lambda: _answers(api), 600)
        yield api
    finally:
        child.stop()


def _answers(api: str) -> bool:
    try:
        return httpx.get(f"{api}/simulator", trust_env=False).is_success
    except httpx.TransportError:
        return False


def set_speed(api: str, speed: dict[str, float]) -> None:
    """Set the simulator's speed from now on."""
    httpx.post(f"{api}/simulator", json=speed, trust_env=False).raise_for_status()


def _read_only(api: str) -> float:
    """Read the same pages with the SDK's client and orjson, discard them, and return rows/s."""
    client = Client(api_key=API_KEY, security_key=SECURITY_KEY, base_url=api, retries=1)
    rows, started = 0, time.monotonic()
    for entity in READ_KINDS.values():
        track, cursor = Track(entity, Mode.FULL), Cursor(study_key=STUDY)
        while cursor.position(track.name).passes == 0:
            request = window.next_request(track, cursor, PAGE)
            path = f"{PREFIX}/{STUDY}/{request.resource}" if request.resource else PREFIX
            query = {"page": request.page, "size": request.size, "sort": request.sort}
            if request.filter:
                query["filter"] = request.filter
            response = orjson.loads(client.get(path, query).content)
            total, offset = response["pagination"]["totalElements"], request.page * request.size
            page = Page(0, total, response["data"], offset)
            rows += len(page.rows)
            position = window.advance(track, cursor.position(track.name), page, _PACE, 0)
            cursor = cursor.moved(track.name, position)
    client.close()
    return rows / (time.monotonic() - started)


def _snapshot(bench: Bench, api: str, figures: dict[str, list[float]], name: str) -> None:
    """Measure a first snapshot into new topics, from the first transaction to the last."""
    topic = f"s{uuid.uuid4().hex[:8]}"
    folder = bench.logs / topic
    environment = {
        **bench.environment,
        "IMEDNET_BASE_URL": api, "IMEDNET_API_KEY": API_KEY, "IMEDNET_SECURITY_KEY": SECURITY_KEY,
        "IMEDNET_REQUESTS_PER_MINUTE_MAX": "1000000", "SOURCE_STUDIES": STUDY,
        "SOURCE_STATE_DIR": str(folder), "KAFKA_EVENTS_TOPIC": topic,
        "KAFKA_CURSORS_TOPIC": f"{topic}.cursors", "KAFKA_DEAD_LETTER_TOPIC": f"{topic}.dlq",
        "LOG_FORMAT": "json", "LOG_PROGRESS_INTERVAL_SECONDS": "0.1",
    }  # fmt: skip
    setup = Child("setup", [*_PROGRAM, "setup"], folder / "setup.log", environment)
    while setup.poll() is None:
        time.sleep(0.02)
    child = Child("source", [*_PROGRAM, "source"], folder / "source.log", environment)
    try:
        _measure(child, folder, figures, name)
    finally:
        child.stop()


def _measure(child: Child, folder: Path, figures: dict[str, list[float]], name: str) -> None:
    tail, started, first = LogTail(child.log), 0.0, 0
    while True:
        progress = tail.read()
        if started == 0.0 and progress.get("rows"):
            started, first = time.monotonic(), int(progress["rows"])
        if progress.get("passes"):
            break
        if child.poll() is not None:
            raise RuntimeError(f"The source has exited. See {child.log}")
        time.sleep(0.02)
    rows = int(progress["rows"])
    size = sum(each.stat().st_size for each in folder.glob("*.sqlite*"))
    figures[name].append((rows - first) / (time.monotonic() - started))
    figures[f"{name}: CPU s / 100 000"].append(cpu_seconds([child]) / rows * 100_000)
    figures["peak memory MB"].append(peak_memory_mb(child))
    figures["cache, bytes a row"].append(size / rows)


def last(figures: Figures) -> str:
    """Return the latest value of each figure, as one line."""
    return "; ".join(
        f"{contender}: "
        + ", ".join(f"{name} {values[-1]:,.4g}" for name, values in rates.items() if values)
        for contender, rates in figures.items()
    )
