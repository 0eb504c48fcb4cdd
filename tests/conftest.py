"""Real servers for the tests that need them: started once, or named by the environment."""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from connector.config import KafkaSettings, Neo4jSettings
from connector.errors import FatalError, RetryableError
from connector.kafka.topic_log import bounds
from connector.kafka.topics import Topics
from connector.lab.servers.jars import class_path
from connector.lab.servers.local import LocalServers, local_servers
from connector.neo4j.database import Neo4jDatabase
from tests.brokers import kafka_with, topic_names
from tests.programs import wait_until

LOGS = Path("test-logs")


def pytest_configure(config: pytest.Config) -> None:
    """Download the servers before the workers start, or each worker would do it."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        for server in ("kafka", "neo4j"):
            with contextlib.suppress(FatalError):  # the tests that need it report this
                class_path(server)


@pytest.fixture(scope="session")
def servers() -> Iterator[LocalServers]:
    LOGS.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="servers-", dir=LOGS.absolute()))
    with local_servers(folder, os.environ) as running:
        yield running
    for server in ("kafka", "neo4j"):  # the logs stay
        shutil.rmtree(folder / server / "data", ignore_errors=True)


@pytest.fixture(scope="session")
def environment(servers: LocalServers) -> dict[str, str]:
    """The environment variables that point a program at the servers."""
    names = ("KAFKA_BOOTSTRAP_SERVERS", "NEO4J_URI", "NEO4J_USERNAME", "NEO4J_PASSWORD")
    given = {name: os.environ[name] for name in names if name in os.environ}
    return given | servers.environment


@pytest.fixture(scope="session")
def neo4j_settings(environment: dict[str, str]) -> Neo4jSettings:
    return Neo4jSettings(
        uri=environment["NEO4J_URI"],
        username=environment.get("NEO4J_USERNAME", "neo4j"),
        password=SecretStr(environment["NEO4J_PASSWORD"]),
    )


@pytest.fixture(scope="session")
def database(neo4j_settings: Neo4jSettings) -> Iterator[Neo4jDatabase]:
    """The database with the connector's constraints; each test uses its own study key."""
    with Neo4jDatabase(neo4j_settings) as connected:
        connected.create_schema(connected.missing_schema())
        yield connected


@pytest.fixture
def study() -> str:
    """A study key that no other test uses."""
    return f"T{uuid.uuid4().hex[:8]}"


@pytest.fixture
def topics(environment: dict[str, str], study: str) -> dict[str, str]:
    """Topics that no other test uses, as environment variables."""
    names = topic_names(study)
    settings = kafka_with(environment, names)
    Topics(settings).ensure(create=True)
    wait_until(lambda: _have_leaders(settings, names.values()), 60, "leaders of the topics")
    return names


def _have_leaders(settings: KafkaSettings, topics: Iterable[str]) -> bool:
    """Return whether new partitions have leaders. Programs retry until then; tests wait here."""
    try:
        for topic in topics:
            bounds(settings, topic)
    except RetryableError:
        return False
    return True


@pytest.fixture
def kafka_settings(environment: dict[str, str], topics: dict[str, str]) -> KafkaSettings:
    return kafka_with(environment, topics)
