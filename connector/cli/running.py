"""What long-running commands share: signals, and progress lines."""

import contextlib
import ctypes
import dataclasses
import gc
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

log = structlog.stdlib.get_logger("connector.progress")

_ENDED_BY_SIGNAL = 130
_MALLOPT = {-8: 1, -1: 32 << 20, -3: 16 << 20}
"""M_ARENA_MAX, M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""


class SystemClock:
    """`connector.interfaces.Clock` of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def wait(self, until: threading.Event, seconds: float) -> None:
        """Return when ``until`` is set, or after this many seconds."""
        until.wait(seconds)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets; a second one ends the process at once."""
    stop = threading.Event()

    def handle(signum: int, _: object) -> None:
        if stop.is_set():
            os._exit(_ENDED_BY_SIGNAL)
        log.info("stopping", signal=signal.Signals(signum).name)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def tune_memory() -> None:
    """For programs whose threads pass batches on: one heap, that keeps what it will need again.

    By default glibc gives threads heaps of their own, and what one allocates and another frees
    stays in all of them (600 MB where 350 MB will do). Call it before threads are started.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc: nothing to tune
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _MALLOPT.items():
            mallopt(option, value)


def tune_interpreter() -> None:
    """For programs whose threads decode events: what is alive stays, what comes goes at once.

    Nothing in the flow of events is cyclic, so the collector only walks through batches in vain
    (a quarter of the sink's CPU); and threads that take turns less often lose less of it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 100, 100)
    sys.setswitchinterval(0.02)


def peak_memory_mb() -> float:
    """The most memory that this process has had resident, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage also counts what the parent had before exec
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return round(int(found[1]) / 1024, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


@contextlib.contextmanager
def progress_lines(interval_seconds: float, read: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Log what ``read`` returns every so often while it changes, and once at the end."""
    done = threading.Event()

    def report() -> None:
        before: dict[str, Any] = {}
        while not done.wait(interval_seconds):
            if (now := read()) != before:
                log.info("progress", **now)
                before = now

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        log.info("progress", **read(), peak_memory_mb=peak_memory_mb())


def counts(progress: Any) -> dict[str, Any]:
    """A progress dataclass as log fields."""
    return dataclasses.asdict(progress)
