"""The metrics, health and status of the real programs."""

import json
from pathlib import Path

import httpx
import pytest

from connector.config import KafkaSettings
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.neo4j.database import Neo4jDatabase
from connector.telemetry import metrics
from connector.telemetry.metrics import Kind, Metric
from tests.brokers import publish_raw
from tests.programs import (
    consumed_all,
    not_ready,
    passes,
    run_program,
    running,
    scraped,
    source_environment,
    telemetry_of,
    wait_until,
)

pytestmark = pytest.mark.servers


def test_every_metric_is_there_from_the_start_and_counts_what_happens(
    environment: dict[str, str],
    topics: dict[str, str],
    kafka_settings: KafkaSettings,
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """All metrics exist from the start; after a stream they have its counts, and no content."""
    assert database
    simulation = Simulation({study: build_study(study, 10, 200, 5)})
    with serving(simulation) as api:
        variables = environment | topics | source_environment(api, study, tmp_path)
        variables |= {"SINK_GROUP_ID": study}
        with (
            running("sink", variables, tmp_path / "sink.log") as sink,
            running("source", variables, tmp_path / "source.log") as source,
        ):
            addresses = {"sink": telemetry_of(sink), "source": telemetry_of(source)}
            for role, expected in (("sink", metrics.SINK), ("source", metrics.SOURCE)):
                wait_until(lambda role=role: scraped(addresses[role]), 10, "the first answer")  # type: ignore[misc]
                missing = absent(addresses[role], (*metrics.COMMON, *expected))
                assert missing <= {metrics.LAG_EVENTS.name, metrics.LAG_SECONDS.name}
            done = passes(source.log)
            wait_until(lambda: done() >= 2, 90, "two passes")
            publish_raw(kafka_settings, b"not a key", b"{}")
            wait_until(consumed_all(kafka_settings, study), 60, "the group's lag is 0")
            wait_until(lambda: not absent(addresses["sink"], metrics.SINK), 30, "the lag")
            found = {role: scraped(address) for role, address in addresses.items()}
            texts = [
                httpx.get(f"{address}/{path}", trust_env=False).text
                for address in addresses.values()
                for path in ("metrics", "status", "readyz", "livez")
            ]
            assert not_ready(addresses["source"]) == not_ready(addresses["sink"]) == []
            named = ",".join(each.removeprefix("http://") for each in addresses.values())
            variables |= {"TELEMETRY_PROGRAMS": named}
            shown, as_json = (
                run_program(f"status {option}", variables) for option in ("", "--json")
            )
    assert shown.returncode == as_json.returncode == 0, shown.stdout
    for text in ("sources 1, sinks 1", study, "polling", "1 key", "subjects"):
        assert text in " ".join(shown.stdout.split())
    state = json.loads(as_json.stdout)
    assert [each["state"] for each in state["studies"]] == ["polling"]
    assert state["problems"] == []
    assert state["dead_letters"] == {"key": 1}
    assert {each["lag"] for each in state["partitions"]} == {0}
    texts += [shown.stdout, as_json.stdout]
    subjects = [row["subjectKey"] for row in simulation.studies[study].table("subjects").rows()]
    for text in (*texts, source.log.read_text(), sink.log.read_text()):
        assert not [key for key in subjects if key in text]
    events = found["source"][f'imednet_source_events_total{{study="{study}"}}']
    assert found["sink"]["imednet_sink_consumed_events_total"] == events + 1
    assert found["sink"]['imednet_sink_dead_letters_total{reason="key"}'] == 1
    assert found["sink"]["imednet_sink_batch_events_sum"] == events + 1
    changes = found["sink"]["imednet_sink_transaction_changes_sum"]
    assert changes >= found["sink"]["imednet_sink_written_events_total"] > 0
    assert found["sink"]['imednet_sink_neo4j_updates_total{update="nodes_created"}'] > 0
    assert found["sink"]["imednet_sink_applied_timestamp_seconds"] > 1.7e9
    assert found["source"]['imednet_api_requests_total{status="200"}'] >= 17
    assert found["source"]["imednet_api_request_duration_seconds_count"] >= 17
    for dependency, role in (("kafka", "source"), ("imednet", "source"), ("neo4j", "sink")):
        assert found[role][f'imednet_dependency_up{{dependency="{dependency}"}}'] == 1


def absent(address: str, expected: tuple[Metric, ...]) -> set[str]:
    """Return the metrics of which the program serves no series."""
    series = {name.partition("{")[0] for name in scraped(address)}
    suffix = {Kind.HISTOGRAM: "_count"}
    return {each.name for each in expected if each.name + suffix.get(each.kind, "") not in series}


def test_a_taken_port_does_not_keep_a_program_from_running(
    environment: dict[str, str],
    topics: dict[str, str],
    database: Neo4jDatabase,
    study: str,
    tmp_path: Path,
) -> None:
    """Two sinks on one machine serve on two ports; a port of 0 serves nothing."""
    assert database
    variables = environment | topics | {"SINK_GROUP_ID": study}
    with (
        running("sink", variables, tmp_path / "one.log") as one,
        running("sink", variables, tmp_path / "two.log") as two,
        running("sink", variables | {"TELEMETRY_SINK_PORT": "0"}, tmp_path / "none.log") as none,
    ):
        assert telemetry_of(one) != telemetry_of(two)
        wait_until(lambda: "partitions assigned" in none.log.read_text(), 60, "the assignment")
        assert "metrics served" not in none.log.read_text()
