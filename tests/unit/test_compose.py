"""The compose file, as far as it can be checked without a container engine."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml

from connector.config import Settings, environment_name, sections
from connector.lab.simulator.api import API_KEY, SECURITY_KEY

ROOT = Path(__file__).parents[2]
POM = ROOT / "connector" / "lab" / "servers" / "pom.xml"
OWN = ("simulator", "setup", "source", "sink", "ui")
STUDY = "DEMO"


def compose() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text()
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def environment(service: str) -> dict[str, str]:
    """Return a container's environment when the host sets no variable."""
    return {
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
        for name, value in services()[service].get("environment", {}).items()
    }


def settings(service: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in known_variables():
        monkeypatch.delenv(name, raising=False)
    for name, value in environment(service).items():
        monkeypatch.setenv(name, value)
    return Settings.load()


def known_variables() -> set[str]:
    return {environment_name(s, field) for s in sections() for field in s.model_fields}


def version(name: str) -> str:
    found = ET.parse(POM).findtext(f".//{{*}}properties/{{*}}{name}.version")
    assert found, f"{POM} has no {name}.version"
    return found


def test_the_file_is_valid_by_the_compose_specification() -> None:
    """The file is valid according to the Compose specification."""
    vendored = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(vendored.read_text(encoding="utf-8"))
    validator = jsonschema.Draft7Validator(schema)
    errors = validator.iter_errors(compose())
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_every_service_and_volume_that_is_referred_to_is_defined() -> None:
    """Every service and volume that is referred to is defined."""
    volumes = set(compose()["volumes"])
    for name, service in services().items():
        assert set(service.get("depends_on", {})) <= set(services()), name
        assert {mount.split(":")[0] for mount in service.get("volumes", [])} <= volumes, name


def test_images_have_the_versions_that_the_tests_run_on() -> None:
    """The images have the versions that the tests run on."""
    assert services()["kafka"]["image"] == f"apache/kafka:{version('kafka')}"
    assert services()["neo4j"]["image"] == f"neo4j:{version('neo4j')}-community"


@pytest.mark.parametrize("service", OWN)
def test_every_variable_of_an_own_service_is_a_known_setting(service: str) -> None:
    """Every variable of our services is a known setting."""
    assert set(environment(service)) <= known_variables()


@pytest.mark.parametrize("service", OWN)
def test_the_settings_of_an_own_service_load(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of our services load."""
    settings(service, monkeypatch)


@pytest.mark.parametrize("service", ["setup", "source", "sink", "ui"])
def test_clients_use_the_address_that_kafka_advertises_to_containers(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients use the address that Kafka advertises to containers."""
    advertised = environment("kafka")["KAFKA_ADVERTISED_LISTENERS"].split(",")
    server = settings(service, monkeypatch).kafka.bootstrap_servers
    assert server.startswith("kafka:")
    assert f"CONTAINERS://{server}" in advertised


@pytest.mark.parametrize("service", ["setup", "sink", "ui"])
def test_clients_of_the_graph_have_the_password_of_the_server(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients of Neo4j have the server's password."""
    neo4j = settings(service, monkeypatch).neo4j
    assert neo4j.password
    server = environment("neo4j")["NEO4J_AUTH"]
    assert server == f"{neo4j.username}/{neo4j.password.get_secret_value()}"


def test_the_source_reads_what_the_simulator_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source has the study and the keys that the simulator serves."""
    source = settings("source", monkeypatch)
    command = services()["simulator"]["command"]
    assert source.imednet.base_url == "http://simulator:8080"
    assert {"--host=0.0.0.0", "--port=8080", f"--study={STUDY}"} <= set(command)
    assert source.source.studies == (STUDY,)
    assert source.imednet.api_key
    assert source.imednet.security_key
    assert source.imednet.api_key.get_secret_value() == API_KEY
    assert source.imednet.security_key.get_secret_value() == SECURITY_KEY


def test_the_state_of_the_source_is_in_a_volume_on_the_folder_that_the_image_makes() -> None:
    """The source's state is in a volume, mounted on the folder that the image creates."""
    folder = environment("source")["SOURCE_STATE_DIR"]
    mounts = [mount.split(":")[1] for mount in services()["source"]["volumes"]]
    assert mounts == [folder]
    assert f"SOURCE_STATE_DIR={folder}" in (ROOT / "Dockerfile").read_text().split()


def test_every_service_awaited_as_healthy_has_a_healthcheck() -> None:
    """Every service that others wait for as healthy has a healthcheck."""
    awaited = {
        name
        for service in services().values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
    }
    assert awaited == {"kafka", "neo4j", "simulator"}
    for name in awaited:
        check = services()[name].get("healthcheck", {})
        assert check.get("test", ["NONE"])[0] != "NONE", name
        assert not check.get("disable"), name


@pytest.mark.parametrize("service", ["source", "sink"])
def test_source_and_sink_wait_for_a_setup_that_ends(service: str) -> None:
    """Source and sink wait until setup has completed, which then is not restarted."""
    waits = services()[service]["depends_on"]["setup"]
    assert waits["condition"] == "service_completed_successfully"
    assert services()["setup"]["restart"] == "no"


def test_there_are_two_sinks() -> None:
    """Two sinks run."""
    assert services()["sink"]["deploy"]["replicas"] == 2


def test_ports_are_published_on_loopback_only() -> None:
    """Ports are published on loopback only."""
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not str(port).startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("service", ["source", "sink"])
def test_the_health_of_a_program_is_asked_where_it_is_served(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The health checks use the default ports, on which a container's only program serves."""
    telemetry = settings(service, monkeypatch).telemetry
    port = telemetry.source_port if service == "source" else telemetry.sink_port
    check = services()[service]["healthcheck"]["test"][-1]
    assert f"http://127.0.0.1:{port}/livez" in check


def test_the_page_asks_every_program_where_it_serves_and_needs_a_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The page reaches source and sinks from its own container, and is served on its port."""
    page = settings("ui", monkeypatch)
    serving = [settings(service, monkeypatch).telemetry for service in ("source", "sink")]
    assert {each.host for each in serving} == {"0.0.0.0"}
    wanted = (f"source:{serving[0].source_port}", f"sink:{serving[1].sink_port}")
    assert page.telemetry.programs == wanted
    assert page.ui.token is not None
    assert services()["ui"]["ports"] == [f"127.0.0.1:{page.ui.port}:{page.ui.port}"]
