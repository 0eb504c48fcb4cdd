"""Asks the pipeline for its state every two seconds, on one thread, whoever looks at the page."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from connector.config import Settings
from connector.ops import status
from connector.ops.status import Surroundings
from connector.ops.status_reading import ask_surroundings
from connector.ui.history import History, Sample
from connector.ui.snapshot import Snapshot, snapshot

log = structlog.stdlib.get_logger("connector.ui")

_SECONDS = 2.0
_SURROUNDINGS_SECONDS = 15.0
"""Reading Kafka's and Neo4j's side opens connections and reads topics, so it is done less often."""


class Monitor:
    """The newest snapshot, and the history of its figures."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._around = Surroundings()
        self.history = History()
        self.taken: Snapshot | None = None
        """None until the first answers have arrived."""
        self.taken_at = 0.0
        """When it was taken (seconds since the epoch)."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask while the block runs."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=work, args=(stop,), name=name, daemon=True)
            for work, name in ((self._watch_programs, "programs"), (self._watch_rest, "servers"))
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()

    def _watch_programs(self, stop: threading.Event) -> None:
        before: Sequence[Mapping[str, Any]] = []
        at = time.monotonic()
        while not stop.wait(_SECONDS):
            now = time.monotonic()
            try:
                taken = snapshot(before, self._settings, now - at, self._around)
                self.history.add(_sample(taken, time.time()))
            except Exception as error:  # noqa: BLE001 - the page must outlive any answer
                log.warning("cannot ask the programs", reason=type(error).__name__)
                continue
            before, at = taken.programs, now
            self.taken, self.taken_at = taken, time.time()

    def _watch_rest(self, stop: threading.Event) -> None:
        while True:
            try:
                self._around = ask_surroundings(self._settings)
            except Exception as error:  # noqa: BLE001 - the page must outlive any answer
                name = type(error).__name__
                self._around = Surroundings(
                    problems=[f"Cannot ask Kafka or Neo4j: {name}"],
                    failing={"kafka", "neo4j"},
                    is_asked=True,
                )
                log.warning("cannot ask the servers", reason=name)
            if stop.wait(_SURROUNDINGS_SECONDS):
                return


def _sample(taken: Snapshot, now_seconds: float) -> Sample:
    roles = {program["role"] for program in taken.programs}
    fresh_ms = status.freshness_ms(taken.programs)
    return Sample(
        round(now_seconds, 1),
        round(taken.published, 1) if "source" in roles else None,
        round(taken.applied, 1) if "sink" in roles else None,
        taken.around.total_lag,
        None if fresh_ms is None else round(max(0.0, now_seconds - fresh_ms / 1000), 1),
        taken.around.letters_by_reason.total(),
    )
