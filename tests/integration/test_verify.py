"""``verify`` on real servers: it names what was planted in the graph, and nothing else."""

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connector.config import KafkaSettings, Settings, SinkSettings
from connector.kafka.topic_log import bounds
from connector.kafka.topics import Topics
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.model.entities import READ_KINDS
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.statement import Statement
from connector.ops.wanted import TopicStates
from connector.store.wanted_states import WantedStates
from tests.brokers import kafka_with, topic_names
from tests.programs import (
    FAST_EDITS,
    consumed_all,
    passes,
    run_program,
    running,
    source_environment,
    stream_until_quiet,
    wait_until,
)

pytestmark = pytest.mark.servers


@dataclass
class World:
    """A study whose stream is at rest, and its graph."""

    study: str
    simulation: Simulation
    kafka: KafkaSettings
    variables: dict[str, str]
    database: Neo4jDatabase

    def verify(self, options: str = "", code: int = 0) -> dict[str, Any]:
        found, returned = self.verify_at_any_time(f"--wait 2 {options}")
        assert returned == code, found
        return found

    def verify_at_any_time(self, options: str) -> tuple[dict[str, Any], int]:
        done = run_program(f"verify --study {self.study} --json {options}", self.variables)
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["result"] == ("equal", "different", "inconclusive")[done.returncode]
        return found, done.returncode


@pytest.fixture(scope="module")
def world(
    environment: dict[str, str], database: Neo4jDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    study, folder = f"T{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("verify")
    names = topic_names(study)
    kafka = kafka_with(environment, names)
    Topics(kafka).ensure(create=True)
    simulation = Simulation({study: build_study(study, 15, 300, 7)}, edits_per_second=40)
    with serving(simulation) as api:
        variables = environment | names | FAST_EDITS | {"SINK_GROUP_ID": study}
        variables |= source_environment(api, study, folder)
        stream_until_quiet(simulation, kafka, variables, folder, hard_deletes=3)
        yield World(study, simulation, kafka, variables, database)


@pytest.mark.parametrize("against", ["topic", "api"])
def test_a_graph_that_the_stream_wrote_is_equal(world: World, against: str) -> None:
    """The graph that the stream wrote equals the topic and the API, some of whose requests fail."""
    world.simulation.faults.shares = {"server_error": 0.2}
    found = world.verify(f"--against {against}")
    world.simulation.faults.shares = {}
    assert found["result"] == "equal"
    assert found["nodes"]["record"] > 290
    assert set(found["nodes"]) == set(READ_KINDS)
    assert not found["examples"]


RECORD = "UNWIND $batch.rows AS row MATCH (n:Record {study_key: row.study, record_id: row.id}) "
STUDY = "UNWIND $batch.rows AS row "
EXTRA = 987_654_321
PLANTS = [
    # the statement, and the kind and the problem that must be reported
    (f"{RECORD} SET n.AGE = 'planted'", "record", "different"),
    (f"{RECORD} SET n.visit_id = toString(n.visit_id)", "record", "different"),
    (f"{RECORD} REMOVE n.form_key", "record", "different"),
    (f"{RECORD} SET n:Deleted", "record", "different"),
    (f"{RECORD} SET n._version = n._version - 1, n.form_key = 'old'", "record", "stale"),
    (f"{RECORD} REMOVE n._model", "record", "stale"),
    (f"{RECORD} MATCH (p)-[r:HAS_RECORD]->(n) DELETE r", "record", "wrongly linked"),
    (f"{RECORD} MATCH (p)-[:HAS_RECORD]->(n) CREATE (p)-[:HAS_RECORD]->(n)", "record",
     "wrongly linked"),
    ((f"{RECORD} MATCH (:Visit)-[r:HAS_RECORD]->(n) MATCH (s:Study {{study_key: row.study}})"
     " DELETE r CREATE (s)-[:HAS_RECORD]->(n)"), "record", "wrongly linked"),
    (f"{RECORD} SET n.x_note = 'kept', n._own = 1", "record", ""),
    (f"{STUDY} MATCH (n:RecordRevision {{study_key: row.study}}) WITH n LIMIT 1 DETACH DELETE n",
     "record_revision", "missing"),
    ((f"{STUDY} MATCH (:Query {{study_key: row.study}})-[:HAS_COMMENT]->(c) WITH c LIMIT 1"
     " DETACH DELETE c"), "query", "different"),
    (f"{STUDY} CREATE (:Record {{study_key: row.study, record_id: {EXTRA}, _version: 5}})",
     "record", "extra"),
    (f"{STUDY} CREATE (:Site {{study_key: row.study, site_id: {EXTRA}, site_name: 'X'}})",
     "site", "extra"),
    (f"{STUDY} CREATE (:Visit {{study_key: row.study, visit_id: {EXTRA}}})", "visit", ""),
]  # fmt: skip


@pytest.mark.parametrize("against", ["topic", "api"])
def test_what_is_planted_is_named_and_repaired(world: World, against: str) -> None:
    """All that is planted is reported, and nothing else; a repair fixes it.

    User properties, stubs and what the connector reserves are no differences.
    """
    before = world.verify(f"--against {against}")["digest"]
    records = world.database.read(
        "MATCH (:Visit)-[:HAS_RECORD]->(n:Record {study_key: $study}) WHERE NOT n:Deleted"
        " AND n.form_key IS NOT NULL RETURN n.record_id LIMIT $count",
        study=world.study,
        count=len(PLANTS),
    )
    planted = Counter[tuple[str, str]]()
    for (statement, kind, problem), (record_id,) in zip(PLANTS, records, strict=True):
        rows = [{"study": world.study, "id": record_id}]
        world.database.write(Statement(statement, rows), {})
        # The API has no versions: what is older there is different.
        is_seen_as = (
            "different" if (against, "_version -" in statement) == ("api", True) else problem
        )
        planted[kind, is_seen_as] += bool(problem)
    found = world.verify(f"--against {against} --limit 100", code=1)
    named = Counter((each["kind"], each["problem"]) for each in found["examples"])
    assert named == +planted
    assert all(each["confirmed"] for each in found["examples"])
    assert {"AGE"} in [set(each["names"]) for each in found["examples"]]
    fixed = world.verify(f"--against {against} --repair")
    assert fixed["repaired"] == {"applied": len(PLANTS) - 4, "deleted": 2, "notes": []}
    again = world.verify(f"--against {against}")
    extras = again["nodes"]["record"] + again["nodes"]["site"]
    assert extras == found["nodes"]["record"] + found["nodes"]["site"] + 1  # one had no version
    clear = "UNWIND $batch.rows AS row MATCH (n {study_key: row.study}) WHERE n.record_id = row.id"
    for name in ("record_id", "site_id", "visit_id"):
        statement = f"{clear.replace('record_id', name)} DETACH DELETE n"
        world.database.write(Statement(statement, [{"study": world.study, "id": EXTRA}]), {})
    assert world.verify(f"--against {against}")["digest"] == before


STRAYS = (
    "CREATE (:Record {study_key: $batch.rows[0], record_id: 2.5, form_key: 'planted'})",
    "CREATE (:Record {study_key: $batch.rows[0], form_key: 'planted', _version: 5})",
    "CREATE (:Record {study_key: $batch.rows[0], record_id: '7', form_key: 'planted'})",
    "CREATE (:Site {study_key: $batch.rows[0], site_id: -1, site_name: 'planted'})",
    "CREATE (:QueryComment {study_key: $batch.rows[0], position: 1, comment: 'planted'})",
)


def test_nodes_that_no_event_describes_are_named_and_left_to_their_owner(world: World) -> None:
    """Nodes without a valid id, and parts without an owner, are extra; a repair leaves them."""
    for statement in STRAYS:
        world.database.write(Statement(statement, [world.study]), {})
    try:
        found = world.verify(code=1)
        repaired = world.verify("--repair", code=1)
    finally:
        for label, name in (
            ("Record", "form_key"),
            ("Site", "site_name"),
            ("QueryComment", "comment"),
        ):
            planted = f"MATCH (n:{label} {{study_key: $batch.rows[0], {name}: 'planted'}}) DETACH DELETE n"
            world.database.write(Statement(planted, [world.study]), {})
    kinds = {"record": {"extra": 3}, "site": {"extra": 1}, "query": {"extra": 1}}
    assert (found["differences"], repaired["differences"]) == (kinds, kinds)
    assert found["unconfirmed"] == 0
    notes = repaired["repaired"]["notes"]
    assert any(note.startswith("records: 3 nodes have no valid id") for note in notes), notes
    assert world.verify()["result"] == "equal"


def test_a_rebuild_of_an_emptied_study_reproduces_the_digest(world: World) -> None:
    """A rebuild fills an emptied study with the same graph, and refuses one that is not empty."""
    digest = world.verify()["digest"]
    refused = run_program(f"rebuild --study {world.study}", world.variables)
    assert refused.returncode == 1
    assert "verify --repair" in refused.stderr
    clear = "UNWIND $batch.rows AS row MATCH (n {study_key: row.study}) DETACH DELETE n"
    world.database.write(Statement(clear, [{"study": world.study}]), {})
    rebuilt = run_program(f"rebuild --study {world.study}", world.variables)
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    assert digest in rebuilt.stdout
    assert "equal: all" in rebuilt.stdout


def test_a_rebuild_is_compared_with_the_events_that_were_there_when_it_began(world: World) -> None:
    """Otherwise a live source would make each rebuild look different."""
    settings = Settings.model_construct(kafka=world.kafka, sink=SinkSettings())
    found = bounds(world.kafka, world.kafka.events_topic)
    first = {partition: start for partition, (start, _) in found.items()}
    for ends_max, studies in ((None, {world.study}), (first, set())):
        with closing(WantedStates()) as states:
            TopicStates(settings, world.study, lambda *_: None, ends_max).load(states)
            assert states.studies() == studies


def test_a_newer_node_is_repaired_if_the_api_has_the_topics_state(world: World) -> None:
    """A state that an export wrote, and the API has taken back, is replaced; no event would do it.

    One that the API does not confirm is left alone.
    """
    newer = (
        "MATCH (n:Record {study_key: $batch.rows[0]}) WHERE NOT n:Deleted AND n.form_key IS NOT NULL"
        " WITH n ORDER BY n.record_id LIMIT 2 SET n._version = n._version + 5, n.form_key = 'newer'"
    )
    deleted = (
        "MATCH (n:Visit {study_key: $batch.rows[0]}) WHERE NOT n:Deleted AND n._version IS NOT NULL"
        " WITH n ORDER BY n.visit_id LIMIT 1 SET n:Deleted, n._version = n._version + 5"
    )
    for statement in (newer, deleted):
        world.database.write(Statement(statement, [world.study]), {})
    found = world.verify(code=1)
    assert found["differences"] == {"record": {"newer": 2}, "visit": {"newer": 1}}
    repaired = world.verify("--repair")
    assert (repaired["result"], repaired["repaired"]["applied"]) == ("equal", 3)
    assert world.verify("--against api")["result"] == "equal"


def test_differences_that_only_mean_that_the_graph_is_being_written_are_not_confirmed(
    world: World, tmp_path: Path
) -> None:
    """During live edits nothing is confirmed as different; nor while no sink runs."""
    with (
        running("source", world.variables, tmp_path / "source.log") as source,
        running("sink", world.variables, tmp_path / "sink.log") as sink,
    ):
        world.simulation.edits_per_second = 20
        done = passes(source.log)
        wait_until(lambda: done() >= 2, 60, "two passes during edits")
        # Against the API, a busy machine must be able to apply a change within the wait.
        for options in ("--against topic --wait 10", "--against api --wait 60", "--wait 10"):
            found, code = world.verify_at_any_time(options)
            assert code in {0, 2}, found
        assert sink.stop() == 0
        wanted = done() + 2
        wait_until(lambda: done() >= wanted, 60, "passes without a sink")
        world.simulation.edits_per_second = 0
        found = world.verify(code=2)
        assert found["unconfirmed"] == sum(
            sum(each.values()) for each in found["differences"].values()
        )
        wanted = done() + 4
        wait_until(lambda: done() >= wanted, 60, "passes after the edits")
    with running("sink", world.variables, tmp_path / "again.log"):
        wait_until(consumed_all(world.kafka, world.study), 60, "the group's lag is 0")
    assert world.verify()["result"] == "equal"
    assert world.verify("--against api")["result"] == "equal"


def test_wrong_arguments_get_one_line_that_says_what_to_do(world: World) -> None:
    """Unknown studies and missing arguments are explained in one line."""
    for options, text in (
        ("--study NOWHERE", "Neither the graph nor the topic has study NOWHERE"),
        ("--against api", "Give the study to compare with the API: --study KEY"),
        ("--against both", "Give topic or api"),
        ("", "Check NEO4J_URI and that the server is running"),
    ):
        refused = {} if options else {"NEO4J_URI": "bolt://127.0.0.1:1"}
        done = run_program(f"verify --wait 0 {options}", world.variables | refused)
        assert done.returncode == 2
        assert text in done.stderr
