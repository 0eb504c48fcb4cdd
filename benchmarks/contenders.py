"""The measured programs. Each is started with a topic and a group, and fills the graph."""

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
    """A program that applies the topic to the graph."""

    name: str
    kind: str
    processes: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, servers: str, topic: str, group: str) -> list[str]:
        """Return the command that starts one process."""
        if self.kind == "merge":
            return [sys.executable, "-m", "benchmarks.plain_merge", servers, topic, group]
        if self.kind == "quix":
            interval = self.environment.get("QUIX_COMMIT_INTERVAL", "5.0")
            script = str(ROOT / "benchmarks" / "quix" / "sink.py")
            return [str(QUIX_PYTHON), script, servers, topic, group, interval]
        return [sys.executable, "-m", "connector", "sink"]


SINK = Contender("this sink", "sink")
PLAIN_MERGE = Contender("plain MERGE", "merge")
QUIX = Contender("Quix Neo4jSink", "quix")
SINK_2 = Contender("this sink, 2 processes", "sink", 2)
SINK_4 = Contender("this sink, 4 processes", "sink", 4)


@contextmanager
def running(
    contender: Contender, environment: Mapping[str, str], topic: str, logs: Path
) -> Iterator[list[Child]]:
    """Run the contender's processes during the block. The group has the topic's name."""
    servers = environment["KAFKA_BOOTSTRAP_SERVERS"]
    child_environment = {
        **environment, **contender.environment,
        "KAFKA_EVENTS_TOPIC": topic, "KAFKA_DEAD_LETTER_TOPIC": f"{topic}.dlq",
        "SINK_GROUP_ID": topic, "LOG_FORMAT": "json",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    with ExitStack() as stack:
        children = []
        for number in range(contender.processes):
            command = contender.command(servers, topic, topic)
            log = logs / f"{topic}-{number}.log"
            child = Child(contender.name, command, log, child_environment)
            stack.callback(child.stop)
            children.append(child)
        yield children


def cpu_seconds(children: list[Child]) -> float:
    """Return the processes' user and system time so far (Linux)."""
    total = 0.0
    for child in children:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def peak_memory_mb(child: Child) -> float:
    """Return the process's peak resident memory in MB (Linux)."""
    for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
