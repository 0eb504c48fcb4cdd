"""Shared by long-running commands: signal handling, memory tuning and progress lines."""

import contextlib
import ctypes
import dataclasses
import gc
import os
import re
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

log = structlog.stdlib.get_logger("connector.progress")

_ENDED_BY_SIGNAL = 130
_NOT_LOGGED = {"newest_version", "read_ms"}
"""Times, which are metrics; a progress line is logged when a counter has changed."""
_MALLOPT = {-8: 1, -1: 32 << 20, -3: 16 << 20}
"""M_ARENA_MAX, M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""


def stop_on_signals(
    seconds_max: float | None = None, on_user_signal: Callable[[], None] | None = None
) -> threading.Event:
    """Return an event that SIGTERM or SIGINT sets; a second signal exits immediately.

    ``on_user_signal`` is called on a separate thread for each SIGUSR1 received before that.

    ``seconds_max`` after the first signal the process exits in any case, because a client may hang
    in a call to an unresponsive server. Nothing is lost: uncommitted events are redelivered.
    """
    stop = threading.Event()
    # A Python handler would run only when the main thread returns from a client call, which may
    # hang. The interpreter writes to this socket immediately, and a dedicated thread reads it.
    signals, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.detach(), warn_on_full_buffer=False)  # stays open until exit
    user_signals = [signal.SIGUSR1] if on_user_signal else []
    for each in (signal.SIGTERM, signal.SIGINT, *user_signals):
        signal.signal(each, _do_nothing)

    def handle() -> None:
        while (received := signal.Signals(signals.recv(1)[0])) in user_signals:
            if on_user_signal:
                on_user_signal()
        log.info("stopping", signal=received.name)
        stop.set()
        signals.settimeout(seconds_max)
        try:
            signals.recv(1)
        except TimeoutError:
            log.warning("shutdown timed out; uncommitted events are redelivered", limit=seconds_max)
            os._exit(1)
        os._exit(_ENDED_BY_SIGNAL)

    threading.Thread(target=handle, name="signals", daemon=True).start()
    return stop


def _do_nothing(_signum: int, _frame: object) -> None:
    """Replace the default action, which would end the process."""


def tune_memory() -> None:
    """Make glibc use one heap for all threads and keep freed memory for reuse.

    By default each thread gets its own heap. Where threads hand batches to one another, memory that
    one allocates and another frees stays in all of them (600 MB instead of 350 MB). Call it before
    starting threads. Without glibc it is a no-op.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _MALLOPT.items():
            mallopt(option, value)


def tune_interpreter(collect_after: int = 10_000) -> None:
    """Tune garbage collection and thread switching for programs whose threads decode events.

    Events contain no reference cycles, but the driver's results do, about 100 objects per call.
    Collecting every 10 000 new objects has no measurable cost; every 200 000 pauses all threads for
    150 ms; the default of 700 spends a quarter of the CPU scanning batches in vain. Objects alive
    now are exempt from collection, and threads switch less often, which costs less time.

    ``collect_after`` is the number of new objects between collections. Raise it for batch programs
    that hold many rows and have no latency target: most rows are then freed before they are
    scanned.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(collect_after, 100, 100)
    sys.setswitchinterval(0.02)


def peak_memory_mb() -> float:
    """Return this process's peak resident memory in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # On Linux, getrusage also counts the parent's memory before exec
        found = re.search(
            r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii", errors="replace")
        )
        if found:
            return round(int(found[1]) / 1024, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


@contextlib.contextmanager
def repeating(interval_seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Call ``action`` every ``interval_seconds`` on a separate thread while the block runs."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(interval_seconds):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def progress_lines(interval_seconds: float, read: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Log the result of ``read`` at each interval if it has changed, and once at the end."""
    last: dict[str, Any] = {}

    def report() -> None:
        nonlocal last
        if (now := read()) != last:
            log.info("progress", **now)
            last = now

    try:
        with repeating(interval_seconds, report):
            yield
    finally:
        log.info("progress", **read(), peak_memory_mb=peak_memory_mb())


def counts(progress: Any) -> dict[str, Any]:
    """Return the counters of a progress dataclass as log fields."""
    fields = dataclasses.asdict(progress)
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, int) and name not in _NOT_LOGGED
    }
