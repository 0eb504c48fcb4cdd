"""The commands of the dead letter queue on a real Kafka and Neo4j."""

import json
from pathlib import Path

import pytest

from connector.config import KafkaSettings
from connector.kafka.dead_letter_topic import read_letters
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.statement import Statement
from tests.brokers import publish_all, publish_raw
from tests.builders import record_row, upsert
from tests.programs import consumed_all, run_program, running, wait_until

pytestmark = pytest.mark.servers
LETTERS = 500


@pytest.fixture
def variables(environment: dict[str, str], topics: dict[str, str], study: str) -> dict[str, str]:
    return environment | topics | {"SINK_GROUP_ID": study}


def dead_letters(
    variables: dict[str, str], kafka: KafkaSettings, database: Neo4jDatabase, study: str, log: Path
) -> None:
    """Dead-letter 500 records: half break a constraint, half have a value too long to index.

    Any one of those with the same value is applied, whichever partition is written first.
    """
    label = f"T{study}"
    schema = [
        f"CREATE CONSTRAINT {study}_a FOR (n:Record) REQUIRE (n.{label}_a) IS UNIQUE",
        f"CREATE INDEX {study}_b FOR (n:Record) ON (n.{label}_b)",
    ]
    for each in schema:
        database.write(Statement(each, []), {})
    rows = []
    for number in range(1, LETTERS // 2 + 1):
        rows.append(record_row(number, studyKey=study, recordData={f"{label}_a": "same"}))
        rows.append(
            record_row(1000 + number, studyKey=study, recordData={f"{label}_b": "x" * 9000})
        )
    first = record_row(5000, studyKey=study, recordData={f"{label}_a": "same"})
    publish_all(kafka, [upsert(first, 3), *(upsert(row, 3) for row in rows)])
    publish_raw(kafka, f"{study}/record/canary-key".encode(), b"canary-value")
    with running("sink", variables, log):
        wait_until(consumed_all(kafka, study), 120, "every message is applied or dead-lettered")


def test_500_mixed_letters_are_applied_once_when_their_cause_is_fixed(
    variables: dict[str, str], kafka_settings: KafkaSettings, database: Neo4jDatabase, study: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    """List, show, dry run, redrive, again, drop: on letters of three causes, two of them fixed."""
    try:
        dead_letters(variables, kafka_settings, database, study, tmp_path / "sink.log")
        assert sum(1 for _ in read_letters(kafka_settings)) == LETTERS + 1
        listed = run_program("dlq list --limit 3", variables)
        assert "ConstraintValidationFailed" in listed.stdout
        assert "index_size" in listed.stdout
        assert "498 more" in listed.stdout
        unfixed = run_program("dlq redrive --study " + study, variables)
        assert unfixed.returncode == 1
        assert "applied:  0" in unfixed.stdout
        assert f"still refused: {LETTERS // 2} index_size" in unfixed.stdout
        planned = run_program("dlq redrive --dry-run", variables)
        assert f"to apply: {LETTERS}" in planned.stdout
        assert not [mark for _, mark in read_letters(kafka_settings) if mark]
    finally:
        database.write(Statement(f"DROP CONSTRAINT {study}_a IF EXISTS", []), {})
        database.write(Statement(f"DROP INDEX {study}_b IF EXISTS", []), {})
    assert records(database, study) == 1
    # An entity has moved on since its letter: redriving must not take it back.
    newer = record_row(1001, studyKey=study, recordStatus="newer")
    publish_all(kafka_settings, [upsert(newer, 9)])
    with running("sink", variables, tmp_path / "again.log"):
        wait_until(consumed_all(kafka_settings, study), 60, "the newer state")
    done = run_program("dlq redrive", variables)
    assert done.returncode == 1, "one letter is still refused"
    assert f"applied:  {LETTERS - 1}" in done.stdout
    assert "obsolete: 1 " in done.stdout
    assert "still refused: 1 key" in done.stdout
    assert records(database, study) == LETTERS + 1
    assert versions(database, study) == {1001: 9}
    again = run_program("dlq redrive", variables)
    assert "applied:  0" in again.stdout
    assert sum(mark is not None for _, mark in read_letters(kafka_settings)) == LETTERS
    (left,) = json.loads(run_program("dlq list --json", variables).stdout)["letters"]
    assert (left["reason"], left["state"]) == ("key", "pending")
    shown = run_program(f"dlq show {left['letter']}", variables)
    assert "canary" not in listed.stdout + shown.stdout + shown.stderr
    assert "canary-value" in run_program(f"dlq show {left['letter']} --show-data", variables).stdout
    assert run_program("dlq drop --why known", variables).returncode == 1, (
        "neither filter nor --all"
    )
    assert "No letter matches" in run_program("dlq list --reason other", variables).stdout
    staging = variables | {"SINK_GROUP_ID": study[:-1]}  # our letters' group begins with its name
    for command in ("redrive", "drop --all --why known"):
        others = run_program(f"dlq {command}", staging)
        assert "of other sinks: 1 " in others.stdout
    dropped = run_program("dlq drop --reason key --why known", variables)
    assert "1 letters dropped" in dropped.stdout
    assert "No dead letters wait" in run_program("dlq list", variables).stdout
    assert "dropped" in run_program("dlq list --all --reason key", variables).stdout
    replayed_letters_do_not_wait(variables, kafka_settings)


def replayed_letters_do_not_wait(variables: dict[str, str], kafka: KafkaSettings) -> None:
    """A replay dead-letters a dropped message again, but the new letter does not wait."""
    written = sum(1 for _ in read_letters(kafka))
    assert run_program("replay --from beginning", variables).returncode == 0
    assert sum(1 for _ in read_letters(kafka)) > written
    assert "No dead letters wait" in run_program("dlq list", variables).stdout


def records(database: Neo4jDatabase, study: str) -> int:
    query = "MATCH (n:Record {study_key: $study}) WHERE n._version > 0 RETURN count(n)"
    return int(database.read(query, study=study)[0][0])


def versions(database: Neo4jDatabase, study: str) -> dict[int, int]:
    """Return the versions other than 3, by record."""
    query = (
        "MATCH (n:Record {study_key: $study}) WHERE n._version <> 3 RETURN n.record_id, n._version"
    )
    return dict(database.read(query, study=study))


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("dlq show 0:99", "There is no letter 0:99"),
        ("dlq redrive 0:99", "There is no letter 0:99"),
        ("dlq show nine", "nine is not a letter"),
        ("dlq list --kind visits", "Unknown kind visits"),
        ("dlq list --since yesterday", "is not a time"),
        ("dlq drop --all --why ", "--why"),
    ],
)
def test_bad_input_gets_one_line_that_says_what_to_do(
    variables: dict[str, str], command: str, text: str
) -> None:
    """Wrong letters, kinds and times: one line, and nothing happens."""
    done = run_program(command, variables)
    assert done.returncode != 0
    assert text in done.stderr
