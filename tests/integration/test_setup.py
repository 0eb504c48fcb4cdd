"""`setup` verifies what it creates; these tests follow the remedies that it prints."""

import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connector.config import KafkaSettings
from connector.kafka.event_log import KafkaEventLog
from connector.model.cursor import Cursor
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from connector.neo4j.schema import SchemaError, SchemaItem, schema
from tests.builders import upsert
from tests.fault.load import messages, publish_load
from tests.oracle import assert_equal, fold
from tests.programs import consumed_all, run_program, running, wait_until

pytestmark = pytest.mark.servers
KEY = next(item for item in schema() if item.name == "imednet_visit_key")
INDEX = next(item for item in schema() if not item.is_constraint)
OURS = {"my-own", *(item.name for item in schema())}
"""The items that these tests create; a database named by the environment may have others."""
STEP = "    "


@pytest.fixture
def variables(
    environment: dict[str, str], topics: dict[str, str], without: SchemaItem
) -> dict[str, str]:
    assert without
    return environment | topics


@pytest.fixture(params=[KEY], ids=lambda item: item.name)
def without(request: pytest.FixtureRequest, database: Neo4jDatabase) -> Iterator[SchemaItem]:
    """Drop this schema item; restore the whole schema afterwards."""
    item: SchemaItem = request.param
    run(database, f"DROP {'CONSTRAINT' if item.is_constraint else 'INDEX'} {item.name}")
    yield item
    for each in database._existing_schema():
        if each.name in OURS and not any(each.serves(wanted) for wanted in schema()):
            run(database, each.drop)
    database.create_schema(database.missing_schema())


def run(database: Neo4jDatabase, cypher: str) -> None:
    with database._session("WRITE") as session:
        session.run(cypher).consume()


def setup(variables: dict[str, str], code: int, options: str = "") -> str:
    done = run_program(f"setup {options}", variables)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def follow(output: str, variables: dict[str, str], database: Neo4jDatabase) -> None:
    """Run each step of a remedy exactly as printed; the last one must succeed."""
    steps = [line.strip() for line in output.splitlines() if line.startswith(STEP)]
    assert steps, output
    for step in steps:
        if step.endswith(";"):
            run(database, step)
        else:
            _, *arguments = shlex.split(step)
            done = run_program(shlex.join(arguments), variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert database.missing_schema() == []


@pytest.mark.parametrize(
    ("without", "taken_by", "drop"),
    [
        (KEY, "CREATE CONSTRAINT {} FOR (n:Other) REQUIRE n.x IS UNIQUE", "DROP CONSTRAINT {};"),
        (KEY, "CREATE INDEX {} FOR ()-[r:Visit]-() ON (r.study_key, r.visit_id)", "DROP INDEX {};"),
        (INDEX, "CREATE INDEX {} FOR (n:Other) ON (n.x)", "DROP INDEX {};"),
        (INDEX, "CREATE CONSTRAINT {} FOR (n:Other) REQUIRE n.x IS UNIQUE", "DROP CONSTRAINT {};"),
    ],
    indirect=["without"],
)
def test_a_name_that_something_else_has_is_reported_with_a_remedy_that_works(
    without: SchemaItem,
    taken_by: str,
    drop: str,
    variables: dict[str, str],
    database: Neo4jDatabase,
) -> None:
    """A name that something else has is reported with a remedy that works."""
    run(database, taken_by.format(without.name))
    output = setup(variables, code=1)
    assert without.cypher in output
    assert "its name is taken by the" in output
    assert drop.format(without.name) in output
    assert drop.format(without.name) in setup(variables, 1, "--check")
    follow(output, variables, database)


def test_an_index_in_the_way_is_named_and_all_other_items_are_made(
    variables: dict[str, str], database: Neo4jDatabase
) -> None:
    """An index in the way is named, and all other items are created."""
    run(database, "CREATE INDEX `my-own` FOR (n:Visit) ON (n.study_key, n.visit_id)")
    run(database, f"DROP INDEX {INDEX.name}")
    output = setup(variables, code=1)
    assert f"graph: created {INDEX.name}" in output
    assert database.missing_schema() == [KEY]
    assert "blocked by the index my-own on Visit (study_key, visit_id)" in output
    assert "DROP INDEX `my-own`;" in output
    follow(output, variables, database)


@pytest.mark.parametrize("without", [INDEX], indirect=True, ids=lambda item: item.name)
def test_an_index_that_could_not_be_populated_is_reported_without_the_data(
    without: SchemaItem, variables: dict[str, str], database: Neo4jDatabase, study: str
) -> None:
    """An index that could not be populated is reported without quoting the data."""
    name = without.properties[1]
    run(
        database,
        f"CREATE (n:{without.label} {{study_key: '{study}'}}) WITH n"
        f" SET n.{name} = reduce(text = '', _ IN range(1, 4000) | text + 'canary-{{}}')",
    )
    output = setup(variables, code=1)
    assert "FAILED" in output
    assert "canary" not in output
    run(database, f"MATCH (n:{without.label} {{study_key: '{study}'}}) DELETE n")
    follow(output, variables, database)


def test_programs_that_create_the_schema_at_once_all_succeed(database: Neo4jDatabase) -> None:
    """Sinks and exports started together on a new database do not fail each other by deadlocks."""
    for _ in range(3):
        for each in database._existing_schema():
            if each.name in OURS and (each.is_constraint or each.owning_constraint is None):
                run(database, each.drop)
        with ThreadPoolExecutor(4) as programs:
            for done in [programs.submit(database.create_schema, schema()) for _ in range(4)]:
                done.result()
        assert database.missing_schema() == []


def test_duplicate_keys_are_listed_and_the_remedy_restores_the_graph(
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """Duplicate keys are listed, and the remedy restores the graph."""
    setup(variables, code=0)
    publish_load(kafka_settings, study, 300)
    given = variables | {"SINK_GROUP_ID": study}
    with running("sink", given, tmp_path / "sink.log"):
        wait_until(consumed_all(kafka_settings, study), 60, "the load")
    run(database, f"DROP CONSTRAINT {KEY.name}")
    run(
        database,
        f"MATCH (n:Visit {{study_key: '{study}'}})-[r:HAS_RECORD]->(record) WITH n, r, record"
        " LIMIT 1 CREATE (m:Visit)-[:HAS_RECORD]->(record) SET m = properties(n) DELETE r",
    )
    output = setup(variables, code=1)
    assert f"keys with more than one node: 1 (study_key '{study}', visit_id" in output
    assert ": 2 nodes)" in output
    with pytest.raises(SchemaError, match="more than one node"):
        database.create_schema([KEY])
    follow(output, given, database)
    assert_equal(fold(messages(kafka_settings)), read_graph(database, study))


def test_setup_reports_nodes_of_an_earlier_model_and_the_replay_that_it_advises_updates_them(
    environment: dict[str, str],
    topics: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
) -> None:
    """After an upgrade ``setup`` says which kinds need a replay; that replay is enough."""
    row = {"studyKey": study, "visitId": 1, "subjectId": 2, "intervalId": 3}
    log = KafkaEventLog(kafka_settings, study)
    log.open()
    log.publish([(upsert(row, 5, "visit"), 2)], [], Cursor(study_key=study))
    run(database, f"CREATE (:Visit {{study_key: '{study}', visit_id: 1, _version: 5, _hash: 'x'}})")
    said = setup(environment | topics, 0, "--check")
    (line,) = [each for each in said.splitlines() if "earlier graph model" in each]
    assert "visits" in line
    advice = line.partition("run: imednet-connector ")[2].partition(" (or")[0]
    done = run_program(advice, environment | topics)
    assert done.returncode == 0, done.stdout + done.stderr
    linked = (
        "MATCH (s:Subject)-[:HAS_VISIT]->(n:Visit {study_key: $s})-[:IN_INTERVAL]->(i:Interval)"
        " RETURN s.subject_id, n._model, i.interval_id"
    )
    assert database.read(linked, s=study) == [[2, 1, 3]]
