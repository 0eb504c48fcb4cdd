"""A power cut takes the end of the events topic, and other studies make it grow again.

Offsets then look as if nothing had happened; only the leader epochs tell.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Producer

from connector.config import ImednetSettings, KafkaSettings, Neo4jSettings
from connector.interfaces import Position
from connector.kafka.topic_log import mark_of, read_to_end
from connector.kafka.topics import Topics
from connector.kafka.truncation import truncated
from connector.lab.servers.local import LocalKafka
from connector.lab.servers.processes import Child, free_port
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.model.cursor import TopicMark
from connector.model.serde import encode
from connector.neo4j import checkpoints
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.statement import Statement
from connector.ops.compare import compare
from tests.builders import record_row, upsert
from tests.programs import (
    consumed_all,
    imednet,
    passes,
    running,
    source_environment,
    started,
    wait_until,
)

pytestmark = [pytest.mark.servers, pytest.mark.timeout(0)]


@dataclass
class Cut:
    """A separate broker that holds the events of one study, and the programs' settings."""

    broker: LocalKafka
    kafka: KafkaSettings
    imednet: ImednetSettings
    variables: dict[str, str]

    def power_off(self) -> TopicMark:
        """Kill the broker, and take what it had not written to disk; return the former mark."""
        before = mark_of(self.kafka, self.kafka.events_topic)
        assert self.broker.process is not None
        self.broker.process.kill()
        for partition in range(len(before.ends)):
            folder = self.broker.folder / "data" / f"{self.kafka.events_topic}-{partition}"
            for index in (*folder.glob("*.index"), *folder.glob("*.timeindex")):
                index.unlink()
            (log,) = folder.glob("*.log")
            os.truncate(log, log.stat().st_size * 6 // 10)
        return before

    def power_on(self, study: str, ends: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        """Start the broker, and let another study's events pass the former ends.

        Return the ends between, and the number of these events.
        """
        self.broker.start()
        self.broker.wait()
        now = mark_of(self.kafka, self.kafka.events_topic)
        assert all(end < before for end, before in zip(now.ends, ends, strict=True)), now
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap_servers})
        count = 0
        for partition, end in enumerate(now.ends):
            for _ in range(end, ends[partition] + 20):
                count += 1
                key, value, headers = encode(upsert(record_row(count, studyKey=study)))
                producer.produce(self.kafka.events_topic, value, key, partition, headers=headers)
        assert producer.flush(60) == 0
        return now.ends, count


@pytest.fixture
def cut(
    environment: dict[str, str], database: Neo4jDatabase, study: str, tmp_path: Path
) -> Iterator[Cut]:
    """A study of 400 records, streamed into the graph by programs that have stopped."""
    assert database
    broker = LocalKafka(tmp_path / "kafka", free_port())
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{broker.port}", topic_partitions=2)
    simulation = Simulation({study: build_study(study, 10, 400, 5)}, edits_per_second=0)
    with started(broker):
        Topics(kafka).ensure(create=True)
        with serving(simulation) as api:
            variables = environment | broker.environment | source_environment(api, study, tmp_path)
            variables |= {"SINK_GROUP_ID": study, "SINK_CHECK_INTERVAL_SECONDS": "1"}
            with (
                running("source", variables, tmp_path / "source.log") as source,
                running("sink", variables, tmp_path / "sink.log"),
            ):
                done = passes(source.log)
                wait_until(lambda: done() >= 2, 60, "two passes")
                wait_until(consumed_all(kafka, study), 60, "the first load")
            yield Cut(broker, kafka, imednet(api), variables)


def test_a_truncated_log_that_has_grown_again_is_recognized(cut: Cut, study: str) -> None:
    """A truncated log is recognized by its leader epochs, although its bounds look intact."""
    topic, before = cut.kafka.events_topic, cut.power_off()
    ends = {each: Position(end, before.epochs[each]) for each, end in enumerate(before.ends)}
    kept, _ = cut.power_on(f"{study}X", before.ends)
    now = mark_of(cut.kafka, topic)
    assert before.loss(now) is None
    assert truncated(cut.kafka, topic, ends) == {0, 1}
    intact = {each: Position(end, before.epochs[each]) for each, end in enumerate(kept)}
    assert truncated(cut.kafka, topic, intact) == set()
    later = {each: Position(end, now.epochs[each]) for each, end in enumerate(now.ends)}
    assert truncated(cut.kafka, topic, later) == set()
    assert before.epochs_left_by(now) == dict(enumerate(before.epochs))


@pytest.mark.parametrize("runs_meanwhile", [False, True])
def test_a_truncated_log_that_has_grown_again_is_completed_and_so_is_the_graph(
    cut: Cut,
    neo4j_settings: Neo4jSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
    runs_meanwhile: bool,  # noqa: FBT001
) -> None:
    """The sink rereads a truncated log, and the source publishes again what it has lost.

    A sink that runs meanwhile ends with an error, so that its restart rereads the log.
    """
    other = f"{study}X"
    if runs_meanwhile:
        with running("sink", cut.variables, tmp_path / "meanwhile.log") as sink:
            wait_until(lambda: "partitions assigned" in logged(sink), 60, "an assignment")
            before = cut.power_off()
            _, count = cut.power_on(other, before.ends)
            wait_until(lambda: sink.poll() is not None, 120, "the sink's end")
            assert "Restart" in logged(sink)
    else:
        before = cut.power_off()
        _, count = cut.power_on(other, before.ends)
    with (
        running("sink", cut.variables, tmp_path / "again.log") as sink,
        running("source", cut.variables, tmp_path / "source-again.log") as source,
    ):
        done = passes(source.log)
        wait_until(lambda: done() >= 3, 120, "passes")
        wait_until(lambda: records_of(database, other) == count, 60, "the other study's events")
        wait_until(consumed_all(cut.kafka, study), 60, "the group's lag is 0")
        assert "log was truncated, rereading events" in logged(sink)
        assert "missing ones will be republished" in logged(source)
    records = {
        message.key()
        for message in read_to_end(cut.kafka, cut.kafka.events_topic)
        if (message.key() or b"").startswith(f"{study}/record/".encode())
    }
    assert len(records) == 400
    result = compare(cut.imednet, neo4j_settings, study)
    assert result.different == 0, result.examples


def test_a_graph_restored_from_before_a_truncation_is_completed(
    cut: Cut, database: Neo4jDatabase, study: str, tmp_path: Path
) -> None:
    """A graph restored from a backup that is older than a truncation is completed.

    The backup's checkpoints lie beyond the cut, where the log holds other events now.
    """
    other, group = f"{study}X", f"/{study}/"
    checkpoint = f"(c:{checkpoints.LABEL})"
    backup = database.read(
        f"MATCH {checkpoint} WHERE c.{checkpoints.KEY_PROPERTY} CONTAINS $batch.rows[0]"
        f" RETURN c.{checkpoints.KEY_PROPERTY}, c.offset",
        [group],
    )
    assert len(backup) == 2
    before = cut.power_off()
    _, count = cut.power_on(other, before.ends)
    for log in ("reread.log", "restored.log"):
        with (
            running("sink", cut.variables, tmp_path / log),
            # It ends a transaction whose end was cut off: no reader would pass that.
            running("source", cut.variables, tmp_path / f"source-{log}"),
        ):
            wait_until(lambda: records_of(database, other) == count, 120, "the log's events")
            wait_until(consumed_all(cut.kafka, study), 60, "the group's lag is 0")
        write(
            database, "UNWIND $batch.rows AS row MATCH (n {study_key: row}) DETACH DELETE n", other
        )
        write(
            database,
            f"UNWIND $batch.rows AS row MATCH {checkpoint}"
            f" WHERE c.{checkpoints.KEY_PROPERTY} CONTAINS row DELETE c",
            group,
        )
        write(database, checkpoints.SET, *({"key": key, "offset": at} for key, at in backup))


def records_of(database: Neo4jDatabase, study: str) -> int:
    query = "MATCH (r:Record {study_key: $batch.rows[0]}) RETURN count(r)"
    return int(database.read(query, [study])[0][0])


def write(database: Neo4jDatabase, cypher: str, *rows: object) -> None:
    database.write(Statement(cypher, list(rows)), {})


def logged(program: Child) -> str:
    return program.log.read_text()
