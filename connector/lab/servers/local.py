"""A real Kafka and a real Neo4j as plain Java processes on free loopback ports."""

import secrets
import subprocess
import threading
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from connector.config import KafkaSettings, Neo4jSettings
from connector.errors import FatalError
from connector.kafka.topics import Topics
from connector.lab.folders import owned, remove_within
from connector.lab.servers.jars import class_path
from connector.lab.servers.processes import Child, free_port, is_open
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.driver import set_first_password

MARKER = ".imednet-connector-servers"
_READY_SECONDS_MAX = 600.0
"""Far more than a busy machine needs; a server that ends is noticed at once."""
_KAFKA_PROPERTIES = """
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
"""
_NEO4J_CONF = """
server.bolt.listen_address=127.0.0.1:{port}
server.http.enabled=false
server.https.enabled=false
server.memory.pagecache.size=256m
dbms.usage_report.enabled=false
db.tx_log.rotation.retention_policy=2 files
internal.dbms.bolt.netty_server_shutdown_quiet_period=0
"""
QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""For short runs: half the CPU of a start, and a lower rate in the long run."""
_OPENED_MODULES = ("java.base/java.nio", "java.base/java.io", "java.base/sun.nio.ch")


@dataclass(slots=True)
class LocalKafka:
    """A single Kafka node, both broker and controller."""

    folder: Path
    port: int
    process: Child | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a client needs to connect."""
        return {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.port}"}

    def start(self, extra_settings: str = "") -> None:
        """Start, or restart on the same data and settings, without waiting until it is ready."""
        jars = class_path("kafka")
        properties = self.folder / "server.properties"
        if not properties.exists():
            self._format(jars, properties, extra_settings)
        logging = Path(__file__).with_name("log4j2.properties")
        command = ["java", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                   f"-Dlog4j2.configurationFile={logging}", "-cp", jars,
                   "kafka.Kafka", str(properties)]  # fmt: skip
        self.process = Child("Kafka", command, self.folder / "kafka.log")

    def wait(self) -> None:
        """Block until the broker answers.

        Raises:
            FatalError: the process ended, or the broker did not answer in time.
        """
        settings = KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{self.port}", connect_timeout_seconds=10
        )
        if self.process:
            self.process.wait_until(lambda: _succeeds(Topics(settings).check), _READY_SECONDS_MAX)

    def _format(self, jars: str, properties: Path, extra_settings: str) -> None:
        data = self.folder / "data"
        properties.parent.mkdir(parents=True, exist_ok=True)
        properties.write_text(
            _KAFKA_PROPERTIES.format(port=self.port, controller=free_port(), data=data)
            + extra_settings,
            encoding="utf-8",
        )
        # A cluster id with a leading "-" would be parsed as an option: the first byte 0 avoids it.
        cluster_id = urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        command = ["java", "-cp", jars, "kafka.tools.StorageTool", "format", "-t", cluster_id,
                   "-c", str(properties)]  # fmt: skip
        completed = subprocess.run(command, capture_output=True, text=True, check=False)
        if completed.returncode:
            raise FatalError(f"Cannot format Kafka's storage: {completed.stderr[-400:]}")


@dataclass(slots=True)
class LocalNeo4j:
    """A Neo4j Community server."""

    folder: Path
    port: int
    password: str
    process: Child | None = None
    has_password: bool = False
    java_options: Sequence[str] = QUICK_START

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a client needs to connect."""
        return {"NEO4J_URI": f"bolt://127.0.0.1:{self.port}", "NEO4J_USERNAME": "neo4j",
                "NEO4J_PASSWORD": self.password, "NEO4J_DATABASE": "neo4j"}  # fmt: skip

    def start(self, extra_settings: str = "") -> None:
        """Start, or restart on the same data, without waiting until it is ready."""
        conf = self.folder / "conf" / "neo4j.conf"
        conf.parent.mkdir(parents=True, exist_ok=True)
        conf.write_text(_NEO4J_CONF.format(port=self.port) + extra_settings, encoding="utf-8")
        command = ["java", "-Xms512m", "-Xmx1g", *self.java_options, "-cp", class_path("neo4j"),
                   *(f"--add-opens={module}=ALL-UNNAMED" for module in _OPENED_MODULES),
                   "org.neo4j.server.CommunityEntryPoint",
                   f"--home-dir={self.folder}", f"--config-dir={conf.parent}"]  # fmt: skip
        self.process = Child("Neo4j", command, self.folder / "neo4j.out.log")

    def wait(self) -> None:
        """Set the password at the first start, and block until the database answers.

        The driver is only asked once the port is open: its own waits grow to many seconds.

        Raises:
            FatalError: the process ended, or the database did not answer in time.
        """
        settings = Neo4jSettings(
            uri=f"bolt://127.0.0.1:{self.port}",
            password=SecretStr(self.password),
            connect_timeout_seconds=10,
        )
        if self.process is None:
            return
        self.process.wait_until(lambda: is_open(self.port), _READY_SECONDS_MAX)
        if not self.has_password:
            self.process.wait_until(
                lambda: _succeeds(lambda: set_first_password(settings)), _READY_SECONDS_MAX
            )
            self.has_password = True
        self.process.wait_until(
            lambda: _succeeds(lambda: Neo4jDatabase(settings).close()), _READY_SECONDS_MAX
        )


def _succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except FatalError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class LocalServers:
    """The running servers and their connection variables; None is a server that was not started."""

    kafka: LocalKafka | None
    neo4j: LocalNeo4j | None
    environment: dict[str, str]


@contextmanager
def local_servers(
    folder: Path, exported: Mapping[str, str], neo4j_options: Sequence[str] = QUICK_START
) -> Iterator[LocalServers]:
    """Start the servers whose address is not ``exported``, and stop them after the block.

    The folder must be new, empty or from an earlier run, whose data and logs are removed.

    Raises:
        FatalError: the folder contains other files (nothing is changed), Java or Maven is missing,
            or a server does not start.
    """
    folder = folder.absolute()
    kafka = neo4j = None
    if "KAFKA_BOOTSTRAP_SERVERS" not in exported:
        kafka = LocalKafka(folder / "kafka", free_port())
    if "NEO4J_URI" not in exported:
        neo4j = LocalNeo4j(
            folder / "neo4j", free_port(), secrets.token_urlsafe(12), java_options=neo4j_options
        )
    with ExitStack() as stack:
        stack.enter_context(owned(folder, MARKER))
        remove_within(folder, ("kafka", "neo4j"))
        for server in (kafka, neo4j):
            if server is not None:
                stack.callback(_stop, server)
                server.start()
        for server in (kafka, neo4j):
            if server is not None:
                server.wait()
        environment: dict[str, str] = {}
        for server in (kafka, neo4j):
            environment |= server.environment if server is not None else {}
        yield LocalServers(kafka, neo4j, environment)


def _stop(server: LocalKafka | LocalNeo4j) -> None:
    if server.process is not None:
        server.process.stop()


def remove_data(folder: Path) -> None:
    """Remove the servers' data from their folder and keep the logs."""
    remove_within(folder, ("kafka/data", "neo4j/data"))


def run_until(stop: threading.Event, servers: LocalServers) -> None:
    """Block until ``stop`` is set.

    Raises:
        FatalError: a server ended on its own.
    """
    while not stop.wait(0.5):
        for server in (servers.kafka, servers.neo4j):
            if server and server.process and server.process.poll() is not None:
                raise FatalError(
                    f"{server.process.name} ended unexpectedly. See {server.process.log}"
                )
