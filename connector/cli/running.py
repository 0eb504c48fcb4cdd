"""What long-running commands share: signals, and progress lines."""

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
_MALLOPT = {-8: 1, -1: 32 << 20, -3: 16 << 20}
"""M_ARENA_MAX, M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""


def stop_on_signals(
    seconds_max: float | None = None, on_user_signal: Callable[[], None] | None = None
) -> threading.Event:
    """An event that SIGTERM or SIGINT sets; a second one ends the process at once.

    ``on_user_signal`` is called, on a thread of its own, for each SIGUSR1 before that.

    After ``seconds_max`` the process ends in any case: a client may hang in a call to a server
    that does not answer. Nothing is lost by it: what is not committed comes again.
    """
    stop = threading.Event()
    # A handler in Python would wait for the main thread to come back from a client's call, which
    # may hang. The interpreter writes to this socket at once, and a thread of its own acts on it.
    signals, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.detach(), warn_on_full_buffer=False)  # open as long as the process
    user_signals = [signal.SIGUSR1] if on_user_signal else []
    for each in (signal.SIGTERM, signal.SIGINT, *user_signals):
        signal.signal(each, _acted_on_elsewhere)

    def act() -> None:
        while (received := signal.Signals(signals.recv(1)[0])) in user_signals:
            if on_user_signal:
                on_user_signal()
        log.info("stopping", signal=received.name)
        stop.set()
        signals.settimeout(seconds_max)
        try:
            signals.recv(1)
        except TimeoutError:
            log.warning("not ended in time: what was not committed comes again", limit=seconds_max)
            os._exit(1)
        os._exit(_ENDED_BY_SIGNAL)

    threading.Thread(target=act, name="signals", daemon=True).start()
    return stop


def _acted_on_elsewhere(_signum: int, _frame: object) -> None:
    """Only so that the signal does not end the process."""


def tune_memory() -> None:
    """For programs whose threads pass batches on: one heap, that keeps what it will need again.

    By default glibc gives threads heaps of their own, and what one allocates and another frees
    stays in all of them (600 MB where 350 MB will do). Call it before threads are started.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc: nothing to tune
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _MALLOPT.items():
            mallopt(option, value)


def tune_interpreter(collect_after: int = 10_000) -> None:
    """For programs whose threads decode events.

    Events hold no circles, but the driver's results do, some 100 objects a call: collected by
    10 000 they cost nothing that could be measured, by 200 000 they stopped all threads for 150 ms.
    By the default of 700 the collector walks through batches in vain (a quarter of the CPU). What
    is alive by now stays. And threads that take turns less often lose less time by it.

    ``collect_after``: so many new objects. Who lets many rows live at once, and keeps nobody
    waiting, takes more: then most of them are gone before the collector looks at them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(collect_after, 100, 100)
    sys.setswitchinterval(0.02)


def peak_memory_mb() -> float:
    """The most memory that this process has had resident, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage also counts what the parent had before exec
        found = re.search(
            r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii", errors="replace")
        )
        if found:
            return round(int(found[1]) / 1024, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


@contextlib.contextmanager
def repeating(interval_seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` every so often, on a thread of its own, while the block runs."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(interval_seconds):
            act()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def progress_lines(interval_seconds: float, read: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Log what ``read`` returns every so often while it changes, and once at the end."""
    before: dict[str, Any] = {}

    def report() -> None:
        nonlocal before
        if (now := read()) != before:
            log.info("progress", **now)
            before = now

    try:
        with repeating(interval_seconds, report):
            yield
    finally:
        log.info("progress", **read(), peak_memory_mb=peak_memory_mb())


def counts(progress: Any) -> dict[str, Any]:
    """A progress dataclass as log fields."""
    return dataclasses.asdict(progress)
