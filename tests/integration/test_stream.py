"""The whole pipeline on real servers: simulated API, source, Kafka, sink, Neo4j."""

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Producer

from connector.config import ImednetSettings, KafkaSettings, Neo4jSettings
from connector.interfaces import Message, TopicPartition
from connector.kafka.topic_log import read_to_end
from connector.kafka.topics import Topics
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.model.graph_state import GraphState
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from connector.neo4j.statement import Statement
from connector.ops.compare import compare
from tests.brokers import kafka_with, topic_names
from tests.oracle import assert_equal, fold
from tests.programs import (
    FAST_EDITS,
    consumed_all,
    imednet,
    running,
    source_environment,
    stream_until_quiet,
    wait_until,
)

pytestmark = pytest.mark.servers
HARD_DELETES = 3


@dataclass
class Stream:
    """A study that has been published and applied, and no longer changes."""

    study: str
    kafka: KafkaSettings
    imednet: ImednetSettings
    environment: dict[str, str]
    edits: dict[str, int]

    def messages(self) -> list[Message]:
        return [
            Message(
                TopicPartition(raw.topic() or "", raw.partition() or 0),
                raw.offset() or 0,
                raw.key(),
                raw.value(),
                raw,
            )
            for raw in read_to_end(self.kafka, self.kafka.events_topic)
        ]


@pytest.fixture(scope="module")
def stream(
    environment: dict[str, str],
    database: Neo4jDatabase,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stream]:
    """Stream a snapshot and live edits, including deletes and moves, until all is quiet."""
    assert database
    study, folder = f"T{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("stream")
    names = topic_names(study)
    kafka = kafka_with(environment, names)
    Topics(kafka).ensure(create=True)
    simulation = Simulation({study: build_study(study, 40, 1500, 7)}, edits_per_second=60)
    with serving(simulation) as api:
        variables = environment | names | source_environment(api, study, folder) | FAST_EDITS
        sink = variables | {"SINK_GROUP_ID": study}
        stream_until_quiet(simulation, kafka, sink, folder, hard_deletes=HARD_DELETES)
        edits = dict(simulation.workloads[0].done)
        yield Stream(study, kafka, imednet(api), variables, edits)


def test_the_graph_equals_the_api_property_by_property(
    stream: Stream, neo4j_settings: Neo4jSettings
) -> None:
    """After a snapshot and live edits, the graph equals the API property by property."""
    result = compare(stream.imednet, neo4j_settings, stream.study)
    assert result.different == 0, result.examples
    assert result.expected["Record"] > 1400
    assert result.deleted >= HARD_DELETES
    assert all(stream.edits[kind] for kind in ("edit_twice", "move_to_subject", "toggle_deleted"))


def test_the_graph_equals_the_independent_fold_of_the_topic(
    stream: Stream, database: Neo4jDatabase
) -> None:
    """The graph equals the independent fold of the topic."""
    messages = stream.messages()
    assert len(messages) > 1800  # the snapshot plus edits
    assert_equal(fold(messages), read_graph(database, stream.study))


def test_no_version_of_a_key_is_in_the_topic_twice(stream: Stream) -> None:
    """The topic contains no version of a key twice."""
    seen = [(message.key, dict(message.headers)["version"]) for message in stream.messages()]
    assert len(seen) == len(set(seen))


def test_a_replay_of_the_whole_topic_onto_its_own_graph_changes_nothing(
    stream: Stream, database: Neo4jDatabase, tmp_path: Path
) -> None:
    """Replaying the whole topic onto its own graph is a no-op."""
    before = read_graph(database, stream.study).digest()
    group = stream.study + "-again"
    with running("sink", stream.environment | {"SINK_GROUP_ID": group}, tmp_path / "sink.log"):
        wait_until(consumed_all(stream.kafka, group), 60, "the replay's lag is 0")
    assert read_graph(database, stream.study).digest() == before


def test_the_topic_shuffled_within_and_across_keys_gives_the_same_graph(
    stream: Stream, database: Neo4jDatabase, tmp_path: Path
) -> None:
    """A topic shuffled within and across keys gives the same graph."""
    before = read_graph(database, stream.study).digest()
    shuffled = stream.messages()
    random.Random(3).shuffle(shuffled)
    topic = stream.kafka.model_copy(update={"events_topic": stream.study + ".shuffled"})
    Topics(topic).ensure(create=True)
    producer = Producer({"bootstrap.servers": topic.bootstrap_servers})
    for number, message in enumerate(shuffled):
        producer.produce(
            topic.events_topic, message.value, message.key, number % 4, headers=message.headers
        )
    producer.flush(30)
    forget(database, stream.study)
    variables = stream.environment | {
        "KAFKA_EVENTS_TOPIC": topic.events_topic, "SINK_GROUP_ID": stream.study + "-shuffled"
    }  # fmt: skip
    with running("sink", variables, tmp_path / "sink.log"):
        done = consumed_all(topic, stream.study + "-shuffled")
        wait_until(done, 60, "the shuffled topic's lag is 0")
    assert read_graph(database, stream.study).digest() == before


def forget(database: Neo4jDatabase, study: str) -> None:
    rows = [{"study": study}]
    match = "UNWIND $batch.rows AS row MATCH (n {study_key: row.study}) DETACH DELETE n"
    database.write(Statement(match, rows), {})
    assert read_graph(database, study) == GraphState()
