"""A broker that refuses a connection: programs report its reason and the setting to check."""

import json
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.config import KafkaSettings, SinkSettings
from connector.errors import FatalError, RetryableError
from connector.interfaces import PartitionStart, Position, TopicPartition
from connector.kafka.consumer import KafkaEventConsumer
from connector.kafka.group_offsets import CommittedOffset, GroupOffsets
from connector.kafka.topics import Topics
from connector.lab.servers.processes import free_port
from connector.neo4j.database import Neo4jDatabase
from tests.programs import run_program, running, wait_until
from tests.secured_kafka import PASSWORD, SecuredKafka, secured_kafka

pytestmark = pytest.mark.servers
SECONDS = 3


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with secured_kafka(tmp_path_factory.mktemp("secured")) as running:
        yield running


def settings_of(environment: dict[str, str], **changed: Any) -> KafkaSettings:
    given = {name.removeprefix("KAFKA_").lower(): value for name, value in environment.items()}
    return KafkaSettings.model_validate(given | changed)


def check(environment: dict[str, str]) -> None:
    Topics(settings_of(environment, connect_timeout_seconds=SECONDS)).check()


@pytest.mark.parametrize("listener", ["PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL", "SSL"])
def test_each_listener_lets_a_client_in_with_the_right_settings(
    kafka: SecuredKafka, listener: str
) -> None:
    """Each listener accepts a client with the right settings."""
    check(kafka.client(listener))


WRONG = {
    "password": (
        "SASL_PLAINTEXT", {"sasl_password": "canary-wrong"},
        ["Invalid username or password", "Check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"],
    ),
    "password over TLS": (
        "SASL_SSL", {"sasl_password": "canary-wrong"},
        ["Invalid username or password", "Check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"],
    ),
    "mechanism": (
        "SASL_SSL", {"sasl_mechanism": "SCRAM-SHA-512"},
        ["supported mechanisms: PLAIN", "Check KAFKA_SASL_MECHANISM"],
    ),
    "certificate authority": (
        "SASL_SSL", {"ssl_ca_location": "{other_ca}"},
        ["certificate verify failed", "KAFKA_SSL_CA_LOCATION"],
    ),
    "host name": (
        "SSL", {"bootstrap_servers": "127.0.0.1:{SSL}"},
        ["certificate verify failed", "valid for the host", "KAFKA_BOOTSTRAP_SERVERS"],
    ),
    "TLS to a plaintext listener": (
        "SSL", {"bootstrap_servers": "localhost:{PLAINTEXT}"},
        # "connecting to a PLAINTEXT broker listener?", or "closed by peer" if the broker was slower
        ["SSL", "Check KAFKA_SECURITY_PROTOCOL"],
    ),
    "plaintext to a TLS listener": (
        "PLAINTEXT", {"bootstrap_servers": "localhost:{SSL}"},
        ["Disconnected", "Check KAFKA_SECURITY_PROTOCOL"],
    ),
    "no login to a SASL listener": (
        "PLAINTEXT", {"bootstrap_servers": "localhost:{SASL_PLAINTEXT}"},
        ["Disconnected", "Check KAFKA_SECURITY_PROTOCOL"],
    ),
    "a login to a listener without": (
        "SASL_PLAINTEXT", {"bootstrap_servers": "localhost:{PLAINTEXT}"},
        ["handshake failed", "Check KAFKA_SECURITY_PROTOCOL"],
    ),
    "no client certificate": (
        "MUTUAL", {},
        ["requires a client certificate"],
    ),
    "host": (
        "PLAINTEXT", {"bootstrap_servers": "no-such-host.invalid:9092"},
        ["Failed to resolve", "Check KAFKA_BOOTSTRAP_SERVERS (the host name)"],
    ),
    "port": (
        "PLAINTEXT", {"bootstrap_servers": "127.0.0.1:{free}"},
        ["No Kafka broker answers", "Connection refused", "Check KAFKA_BOOTSTRAP_SERVERS"],
    ),
    "address": (
        "PLAINTEXT", {"bootstrap_servers": "http://localhost:9092"},
        ["parse error", "host:port"],
    ),
    "password, and another broker is down": (
        "SASL_SSL",
        {"sasl_password": "canary-wrong", "bootstrap_servers": "127.0.0.1:{free},localhost:{SASL_SSL}"},
        ["Invalid username or password", "Check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"],
    ),
    "no such mechanism": (
        "SASL_SSL", {"sasl_mechanism": "canary-mechanism"},
        ["KAFKA_SASL_MECHANISM must be"],
    ),
    "no mechanism": (
        "SASL_SSL", {"sasl_mechanism": ""},
        ["KAFKA_SASL_MECHANISM must be"],
    ),
    "no user": (
        "SASL_SSL", {"sasl_username": ""},
        ["KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD must both be set"],
    ),
    "no file of certificates": (
        "SSL", {"ssl_ca_location": "/none/ca.pem"},
        ["KAFKA_SSL_CA_LOCATION"],
    ),
    "timeout": (
        "PLAINTEXT", {"request_timeout_seconds": "301"},
        ["KAFKA_REQUEST_TIMEOUT_SECONDS must be"],
    ),
    "a file without certificates": (
        "SSL", {"ssl_ca_location": "/etc/passwd"},
        ["KAFKA_SSL_CA_LOCATION"],
    ),
}  # fmt: skip


def wrong(kafka: SecuredKafka, listener: str, changed: dict[str, str]) -> dict[str, str]:
    places = {name: str(port) for name, port in kafka.ports.items()}
    places |= {"free": str(free_port()), "other_ca": str(kafka.other_ca)}
    return kafka.client(
        listener, **{name: value.format_map(places) for name, value in changed.items()}
    )


@pytest.mark.parametrize(("listener", "changed", "expected"), WRONG.values(), ids=WRONG)
def test_a_refused_connection_is_reported_with_the_brokers_reason_and_the_setting_to_check(
    kafka: SecuredKafka, listener: str, changed: dict[str, str], expected: list[str]
) -> None:
    """A refused connection is reported with the broker's reason and the setting to check."""
    with pytest.raises(FatalError) as caught:
        check(wrong(kafka, listener, changed))
    message = str(caught.value)
    for text in expected:
        assert text in message
    assert "canary" not in message
    assert PASSWORD not in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["password", "no such mechanism", "no file of certificates"])
@pytest.mark.parametrize("command", ["sink", "setup", "replay --from beginning"])
def test_a_command_that_is_refused_ends_with_that_one_line(
    kafka: SecuredKafka, command: str, name: str
) -> None:
    """A command that Kafka refuses prints that one line and nothing else."""
    listener, changed, expected = WRONG[name]
    given = wrong(kafka, listener, changed) | {
        "KAFKA_CONNECT_TIMEOUT_SECONDS": "3", "NEO4J_PASSWORD": "none",
    }  # fmt: skip
    done = run_program(command, given)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for text in expected:
        assert text in line


def test_a_login_in_the_address_is_refused_without_being_shown(kafka: SecuredKafka) -> None:
    """A bootstrap address that contains a login is refused without being printed."""
    address = f"somebody:canary@localhost:{kafka.ports['PLAINTEXT']}"
    done = run_program("setup", {"KAFKA_BOOTSTRAP_SERVERS": address})
    assert done.returncode == 1
    assert "canary" not in done.stdout + done.stderr
    assert "KAFKA_BOOTSTRAP_SERVERS" in done.stderr


class Assignment:
    """A listener that notes what is assigned."""

    def __init__(self) -> None:
        self.owned: set[TopicPartition] = set()

    def assigned(self, starts: Mapping[TopicPartition, PartitionStart]) -> None:
        self.owned |= set(starts)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.owned -= set(partitions)

    lost = revoked


def test_a_commit_that_the_coordinator_does_not_answer_blocks_neither_polls_nor_the_end(
    kafka: SecuredKafka, study: str
) -> None:
    """A commit that the coordinator does not answer blocks neither polls nor `close`.

    The client's synchronous commit waits for as long as the coordinator refuses the login. So does
    moving a group's offsets, which ends with an error instead.
    """
    settings = settings_of(kafka.client("SASL_SSL"), request_timeout_seconds=SECONDS)
    Topics(settings).ensure(create=True)
    consumer = KafkaEventConsumer(settings, SinkSettings(group_id=study, close_timeout_seconds=6))
    consumer.subscribe(at := Assignment())
    wait_until(lambda: consumer.poll(1, 0.1) and at.owned, 60, "an assignment")
    offsets = GroupOffsets(settings, f"{study}-replay")
    try:
        kafka.change_password()
        consumer.commit(dict.fromkeys(at.owned, Position(0, None)))
        end, longest = time.monotonic() + 12, 0.0
        while (began := time.monotonic()) < end:
            assert consumer.poll(1, 0.1).commits == []
            longest = max(longest, time.monotonic() - began)
        assert longest < 8
        began = time.monotonic()
        consumer.close()
        assert time.monotonic() - began < 10
        with pytest.raises(RetryableError):
            offsets.move({0: CommittedOffset(0)})
        assert time.monotonic() - began < 30
    finally:
        kafka.change_password(PASSWORD)


def test_a_sink_whose_kafka_login_is_revoked_waits_and_logs_it_once(
    kafka: SecuredKafka, environment: dict[str, str], database: Neo4jDatabase, tmp_path: Path
) -> None:
    """A sink whose Kafka login is revoked waits and logs each reason once."""
    assert database
    given = environment | kafka.client("SASL_SSL")
    assert run_program("setup", given).returncode == 0
    with running("sink", given, tmp_path / "sink.log") as sink:
        wait_until(lambda: "partitions assigned" in sink.log.read_text(), 60, "an assignment")
        kafka.change_password()
        wait_until(lambda: "Invalid username" in sink.log.read_text(), 60, "the refusal")
        time.sleep(5)
        assert sink.poll() is None
        logged = sink.log.read_text()
    # A line is logged again after a minute, which may pass on a busy machine.
    logged_at: dict[str, datetime] = {}
    for line in map(json.loads, logged.splitlines()):
        event, at = line["event"].partition(" (")[0], datetime.fromisoformat(line["timestamp"])
        if event.startswith("FAIL "):
            before = logged_at.get(event)
            assert before is None or at - before > timedelta(seconds=59), event
            logged_at[event] = at
    assert any("Invalid username" in event for event in logged_at)
    assert PASSWORD not in logged
