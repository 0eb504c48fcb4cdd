"""The demo in a shell whose environment names other servers: those of the tests."""

import re
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from connector.neo4j.database import Neo4jDatabase
from tests.programs import run_program

pytestmark = pytest.mark.servers
SIZE = "--subjects 10 --records 100 --seconds 1"


@pytest.fixture
def exported(environment: dict[str, str], study: str) -> dict[str, str]:
    """The environment of a shell that is set up for production."""
    return environment | {
        "KAFKA_EVENTS_TOPIC": f"{study}.production",
        "KAFKA_TOPIC_PARTITIONS": "nonsense",
        "SOURCE_STUDIES": study,
        "SOURCE_STATE_DIR": "/proc",
        "SINK_GROUP_ID": study,
        "IMEDNET_BASE_URL": "nowhere",
        "IMEDNET_API_KEY_FILE": "/none",
        "LOG_LEVEL": "nonsense",
        "KAFKA": "{nonsense",
    }


def topics_of(environment: dict[str, str]) -> set[str]:
    admin = AdminClient({"bootstrap.servers": environment["KAFKA_BOOTSTRAP_SERVERS"]})
    return set(admin.list_topics(timeout=10).topics or {})


def nodes_of(database: Neo4jDatabase) -> int:
    ((count,),) = database.read("MATCH (n) RETURN count(n)")
    assert isinstance(count, int)
    return count


def test_the_demo_starts_its_own_servers_whatever_the_shell_exports(
    exported: dict[str, str], database: Neo4jDatabase, tmp_path: Path
) -> None:
    """The demo starts its own servers and leaves the exported ones untouched."""
    before = topics_of(exported), nodes_of(database)
    done = run_program(f"demo {SIZE} --output {tmp_path / 'out'}", exported)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the graph equals the API" in done.stdout
    assert (topics_of(exported), nodes_of(database)) == before


def test_the_demo_uses_exported_servers_on_request_under_its_own_names(
    exported: dict[str, str], database: Neo4jDatabase, tmp_path: Path
) -> None:
    """``--use-environment`` uses exported servers with the demo's own topics and study."""
    del exported["KAFKA_TOPIC_PARTITIONS"]  # a server setting, so the demo would use it
    before = topics_of(exported)
    done = run_program(f"demo {SIZE} --use-environment --output {tmp_path / 'out'}", exported)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"study (demo-\w+) in the graph", done.stdout)
    assert found, done.stdout
    assert exported["KAFKA_BOOTSTRAP_SERVERS"] in done.stdout
    new = topics_of(exported) - before
    assert {f"{found[1]}.{each}" for each in ("events", "cursors", "events.dlq")} <= new
    assert all(name.startswith((found[1], "__")) for name in new)
    ((count,),) = database.read("MATCH (n:Record {study_key: $s}) RETURN count(n)", s=found[1])
    assert count > 0


def test_the_demo_refuses_a_folder_that_holds_files_of_somebody_else(tmp_path: Path) -> None:
    """``demo --output`` refuses a folder with other files and touches nothing in it."""
    (tmp_path / "logs").mkdir()
    mine = tmp_path / "logs" / "mine.log"
    mine.write_text("mine")
    done = run_program(f"demo {SIZE} --output {tmp_path}", {})
    assert done.returncode == 1
    assert "Nothing was changed" in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_servers_refuses_a_folder_that_holds_files_of_somebody_else(tmp_path: Path) -> None:
    """``servers --data`` refuses a folder with other files and touches nothing in it."""
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    done = run_program(f"servers --data {tmp_path}", {})
    assert done.returncode == 1
    assert "Nothing was changed" in done.stderr
    assert list(tmp_path.iterdir()) == [mine]
