"""The programs that are measured, each started the same way: topic and group in, graph out."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from connector.lab.servers.processes import Child

ROOT = Path(__file__).parent.parent
QUIX_PYTHON = ROOT / ".venv-quix" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to bring the topic into the graph."""

    name: str
    kind: str
    processes: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, servers: str, topic: str, group: str) -> list[str]:
        """What starts one process of it."""
        if self.kind == "usual":
            return [sys.executable, "-m", "benchmarks.usual", servers, topic, group]
        if self.kind == "quix":
            interval = self.environment.get("QUIX_COMMIT_INTERVAL", "5.0")
            script = str(ROOT / "benchmarks" / "quix" / "sink.py")
            return [str(QUIX_PYTHON), script, servers, topic, group, interval]
        return [sys.executable, "-m", "connector", "sink"]


SINK = Contender("this sink", "sink")
USUAL = Contender("usual way", "usual")
QUIX = Contender("Quix Neo4jSink", "quix")
SINK_2 = Contender("this sink, 2 processes", "sink", 2)
SINK_4 = Contender("this sink, 4 processes", "sink", 4)


@contextmanager
def running(
    contender: Contender, environment: Mapping[str, str], topic: str, logs: Path
) -> Iterator[list[Child]]:
    """Its processes, from start to end of the block. The group is named as the topic."""
    servers = environment["KAFKA_BOOTSTRAP_SERVERS"]
    own = {
        **environment, **contender.environment,
        "KAFKA_EVENTS_TOPIC": topic, "KAFKA_DEAD_LETTER_TOPIC": f"{topic}.dlq",
        "SINK_GROUP_ID": topic, "LOG_FORMAT": "json",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    with ExitStack() as stack:
        children = []
        for number in range(contender.processes):
            command = contender.command(servers, topic, topic)
            child = Child(contender.name, command, logs / f"{topic}-{number}.log", own)
            stack.callback(child.stop)
            children.append(child)
        yield children


def cpu_seconds(children: list[Child]) -> float:
    """User and system time of these processes so far (Linux)."""
    total = 0.0
    for child in children:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def peak_memory_mb(child: Child) -> float:
    """The most that it has had resident so far, in MB (Linux)."""
    for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
