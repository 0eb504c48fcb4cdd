"""Child processes that end when this process ends, however it ends."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from connector.errors import FatalError

_PR_SET_PDEATHSIG = 1
_STOP_SECONDS_MAX = 20.0
_LOG_TAIL = 600


def free_port() -> int:
    """Return a loopback port that is free at this moment."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    """Whether something listens on this loopback port."""
    with contextlib.closing(socket.socket()) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end_with_parent() -> None:
    """On Linux, have the kernel terminate the child when the thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A process in a separate session (Ctrl-C reaches only the parent) that logs to a file."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})}, start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - no threads exist yet
            )  # fmt: skip
        self.peak_memory_mb = 0.0

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        if self._process.returncode is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._record_end(status, usage.ru_maxrss)
        return self._process.returncode

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if the process is still running."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def stop(self) -> int:
        """Send SIGTERM, and SIGKILL if it has no effect within 20 s; return the exit code."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS_MAX
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.kill()

    def kill(self) -> int:
        """Send SIGKILL and return the exit code."""
        self.signal(signal.SIGKILL)
        if self._process.returncode is None:
            _, status, usage = os.wait4(self.pid, 0)
            self._record_end(status, usage.ru_maxrss)
        return self._process.returncode or 0

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Block until ``ready`` returns true.

        Raises:
            FatalError: the process ended first, or ``seconds`` have passed; the message contains
                the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self.poll() is not None or time.monotonic() > deadline:
                problem = (
                    "ended unexpectedly"
                    if self.poll() is not None
                    else f"was not ready within {seconds:.0f} s"
                )
                tail = self.log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
                raise FatalError(f"{self.name} {problem}. Its log {self.log} ends with:\n{tail}")
            time.sleep(0.1)

    def _record_end(self, status: int, peak_kilobytes: int) -> None:
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.peak_memory_mb = round(peak_kilobytes / 1024, 1)
