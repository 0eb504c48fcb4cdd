"""The source from the API's side: it keeps the limits, waits, and wastes no request."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector.config import KafkaSettings
from connector.kafka.topic_log import read_to_end
from connector.lab.simulator.api import API_KEY, SECURITY_KEY, Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from connector.source.tracks import TRACKS
from tests.programs import passes, run_program, running, source_environment, wait_until

pytestmark = pytest.mark.servers
TOLERANCE_SECONDS = 0.02


@pytest.fixture
def simulation(study: str) -> Simulation:
    return Simulation({study: build_study(study, 20, 300, 3)})


@pytest.fixture
def variables(
    simulation: Simulation,
    environment: dict[str, str],
    topics: dict[str, str],
    study: str,
    tmp_path: Path,
) -> Iterator[dict[str, str]]:
    with serving(simulation) as api:
        yield environment | topics | source_environment(api, study, tmp_path / "known") | {
            "SOURCE_POLL_INTERVAL_SECONDS": "3600", "SOURCE_LIST_INTERVAL_SECONDS": "3600",
            "SOURCE_METADATA_INTERVAL_SECONDS": "3600", "SOURCE_SWEEP_INTERVAL_SECONDS": "3600",
        }  # fmt: skip


def test_every_429_is_waited_out_and_no_request_is_wasted(
    simulation: Simulation, variables: dict[str, str], tmp_path: Path
) -> None:
    """After a 429, no request is sent before Retry-After has passed, and none is wasted."""
    simulation.faults.shares = {"rate_limit": 0.3}
    # One at a time: a request already in flight when another gets 429 would prove nothing.
    variables = variables | {"SOURCE_PAGE_SIZE": "50", "IMEDNET_REQUESTS_AT_ONCE_MAX": "1"}
    with running("source", variables, tmp_path / "source.log") as source:
        done = passes(source.log)
        wait_until(lambda: done() >= 1, 120, "every track once")
        assert source.stop() == 0
    answers = list(simulation.answered)
    refused = [place for place, answer in enumerate(answers) if answer.status == 429]
    needed = len(answers) - len(refused)
    assert needed >= 20
    assert refused
    assert len(answers) <= 1.5 * needed + 3  # a share of 0.3 gives 1.43 on average, plus chance
    for place in refused:
        for later in answers[place + 1 :]:
            assert later.at >= answers[place].at + 1 - TOLERANCE_SECONDS


def test_an_idle_cycle_costs_one_request_for_each_kind_that_is_due(
    simulation: Simulation, variables: dict[str, str], tmp_path: Path
) -> None:
    """An idle cycle costs one request for each kind that is due."""
    often = variables | {"SOURCE_POLL_INTERVAL_SECONDS": "1"}
    windows = [track for track in TRACKS if track.mode.value == "window"]
    due = [track.entity.resource for track in windows if not track.entity.is_metadata]
    with running("source", often, tmp_path / "source.log") as source:
        done = passes(source.log)
        wait_until(lambda: done() >= 1, 60, "every track once")
        before = len(simulation.answered)
        wait_until(lambda: len(simulation.answered) >= before + 4 * len(due), 30, "four cycles")
        assert source.stop() == 0
    asked = [answer.path.rpartition("/")[2] for answer in simulation.answered][before:]
    for name in due:
        assert abs(asked.count(name) - 4) <= 1
    assert set(asked) == set(due)


def test_a_rotated_key_is_picked_up_and_no_proxy_catches_loopback(
    simulation: Simulation, variables: dict[str, str], tmp_path: Path
) -> None:
    """A rotated key is used without a restart, and loopback requests bypass the proxy."""
    key = tmp_path / "api.key"
    key.write_text(API_KEY + "\n")
    given = {name: value for name, value in variables.items() if name != "IMEDNET_API_KEY"}
    given |= {
        "IMEDNET_API_KEY_FILE": str(key), "IMEDNET_SECURITY_KEY": SECURITY_KEY,
        "SOURCE_POLL_INTERVAL_SECONDS": "0.3", "HTTP_PROXY": "http://127.0.0.1:9",
        "SOURCE_RETRY_WAIT_SECONDS_MAX": "1",
    }  # fmt: skip
    with running("source", given, tmp_path / "source.log") as source:
        done = passes(source.log)
        wait_until(lambda: done() >= 1, 60, "every track once")
        key.write_text("revoked")
        wait_until(lambda: "Waiting for a new key" in source.log.read_text(), 30, "the refusal")
        key.write_text(API_KEY)
        refusals = [answer for answer in simulation.answered if answer.status == 401]
        answered = len(simulation.answered)
        wait_until(
            lambda: any(a.status == 200 for a in list(simulation.answered)[answered:]), 30, "a page"
        )
        assert refusals
        assert source.stop() == 0
        assert "revoked" not in source.log.read_text()


def test_a_sweep_on_demand_finds_and_confirms_vanished_rows(
    simulation: Simulation,
    variables: dict[str, str],
    kafka_settings: KafkaSettings,
    tmp_path: Path,
) -> None:
    """SIGUSR1 and ``--sweep`` find a vanished row, confirm it and delete it."""
    soon = variables | {"SOURCE_LIST_INTERVAL_SECONDS": "0.5"}
    with running("source", soon, tmp_path / "source.log") as source:
        done = passes(source.log)
        wait_until(lambda: done() >= 1, 60, "every track once")
        simulation.workloads[0].hard_delete()
        source.signal(signal.SIGUSR1)
        wait_until(lambda: deletes(kafka_settings) == 1, 60, "the delete")
        assert source.stop() == 0
    simulation.workloads[0].hard_delete()
    with running("source --sweep", soon, tmp_path / "again.log") as source:
        wait_until(lambda: deletes(kafka_settings) == 2, 60, "the other delete")
        assert source.stop() == 0


def deletes(kafka: KafkaSettings) -> int:
    events = read_to_end(kafka, kafka.events_topic)
    return sum(b'"op":"delete"' in (event.value() or b"") for event in events)


def test_a_study_that_fails_heals_itself_and_delays_no_other(
    environment: dict[str, str],
    topics: dict[str, str],
    kafka_settings: KafkaSettings,
    study: str,
    tmp_path: Path,
) -> None:
    """A study that the key may not read is retried, and delays no other; then it is streamed."""
    denied, other = f"{study}-denied", f"{study}-other"
    simulation = Simulation(
        {key: build_study(key, 5, 100, seed) for seed, key in enumerate((denied, other))},
        denied={denied},
    )

    def events(key: str) -> int:
        found = read_to_end(kafka_settings, kafka_settings.events_topic)
        return sum((event.key() or b"").startswith(f"{key}/".encode()) for event in found)

    def rows(key: str) -> int:
        resources = {track.entity.resource for track in TRACKS}
        return sum(len(simulation.studies[key].table(name).ids) for name in resources if name)

    with serving(simulation) as api:
        both = environment | topics | source_environment(api, f"{denied},{other}", tmp_path)
        with running("source", both, tmp_path / "source.log") as source:
            wait_until(lambda: events(other) > rows(other), 60, "the other study")
            wait_until(lambda: '"waiting"' in source.log.read_text(), 60, "the refusal")
            assert events(denied) == 0
            assert source.poll() is None
            simulation.denied = set()
            wait_until(lambda: events(denied) > rows(denied), 60, "the study that was denied")
            assert source.stop() == 0
    text = source.log.read_text()
    assert text.count("may not read it") <= 3, "an outage is logged once a minute"
    assert '"recovered"' in text


def test_a_source_whose_keys_are_refused_takes_nothing_over(
    variables: dict[str, str], tmp_path: Path
) -> None:
    """It would stop the source that works, and then wait for other keys."""
    variables = variables | {"SOURCE_POLL_INTERVAL_SECONDS": "0.2"}
    wrong = variables | {"IMEDNET_API_KEY": "wrong", "SOURCE_STATE_DIR": str(tmp_path / "other")}
    with running("source", variables, tmp_path / "source.log") as source:
        done = passes(source.log)
        wait_until(lambda: done() >= 1, 120, "every track once")
        refused = run_program("source", wrong)
        assert refused.returncode == 1
        assert "IMEDNET_API_KEY" in refused.stderr
        assert source.poll() is None
        assert source.stop() == 0
    assert "taken over" not in source.log.read_text()
