"""A graph that an earlier version wrote becomes the graph that this version writes.

``graph_before_models.json.gz`` was written by the code before node models had revisions (commit
93fefae), after live edits, moves and deletes of a small simulated study: its messages, its nodes
with labels and properties, and its relationships by the indexes of their nodes.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from connector.config import KafkaSettings
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from tests.fault.load import messages
from tests.oracle import assert_equal, fold
from tests.programs import run_program

pytestmark = pytest.mark.servers
STUDY = "OLD-GRAPH"
FIXTURE = Path(__file__).parents[1] / "fixtures" / "graph_before_models.json.gz"


@pytest.fixture
def older() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(FIXTURE.read_bytes()))
    return found


def publish(kafka: KafkaSettings, older: dict[str, Any]) -> None:
    """Publish the messages as that version's source did."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for key, value, headers in older["messages"]:
        producer.produce(kafka.events_topic, key=key, value=value, headers=headers)
    assert producer.flush(60) == 0


def restore(database: Neo4jDatabase, older: dict[str, Any]) -> None:
    """Write the graph as it was."""
    with database._session("WRITE") as session:
        for index, (labels, properties) in enumerate(older["nodes"]):
            cypher = f"CREATE (n:{':'.join(labels)}) SET n = $properties, n.x_index = $index"
            session.run(cypher, properties=properties, index=index).consume()
        for start, kind, properties, end in older["relationships"]:
            session.run(
                f"MATCH (a {{study_key: $study, x_index: $start}}), (b {{study_key: $study,"
                f" x_index: $end}}) CREATE (a)-[r:{kind}]->(b) SET r = $properties",
                study=STUDY, start=start, end=end, properties=properties,
            ).consume()  # fmt: skip


def test_a_graph_of_an_earlier_version_equals_a_fresh_one_after_setup_and_the_advised_replay(
    older: dict[str, Any],
    environment: dict[str, str],
    topics: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
) -> None:
    """After the upgrade, `setup` and the replay that it advises make the graph a fresh one.

    What users have added (``x_`` properties) stays.
    """
    variables = environment | topics
    publish(kafka_settings, older)
    restore(database, older)
    expected = fold(messages(kafka_settings))
    before = read_graph(database, STUDY)
    assert before.settled().digest() != expected.settled().digest()

    said = run_program("setup", variables).stdout
    (line,) = [each for each in said.splitlines() if "earlier graph model" in each]
    assert all(kind in line for kind in ("sites", "subjects", "visits", "records"))
    advice = line.partition("run: imednet-connector ")[2].partition(" (or")[0]
    done = run_program(advice, variables)
    assert done.returncode == 0, done.stdout + done.stderr

    assert_equal(expected, read_graph(database, STUDY))
    kept = "MATCH (n {study_key: $study}) WHERE n.x_index IS NOT NULL RETURN count(n)"
    assert database.read(kept, study=STUDY) == [[len(older["nodes"])]]
    outdated = "MATCH (n {study_key: $study}) WHERE n._version IS NOT NULL AND n._model IS NULL"
    assert database.read(f"{outdated} RETURN count(n)", study=STUDY) == [[0]]
    assert run_program(advice, variables).returncode == 0  # and again: nothing to do
    assert_equal(expected, read_graph(database, STUDY))
