"""docker-compose.yml without a Docker engine: valid, in step with the other files, startable."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml

from connector.config import Settings, environment_name, sections
from connector.demo.simulator.api import API_KEY, SECURITY_KEY

POM = Path("connector/demo/servers/pom.xml")
OWN = ("simulator", "setup", "source", "sink")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(Path("docker-compose.yml").read_text())
    return loaded


def test_the_file_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.Draft7Validator(json.loads(schema.read_text())).validate(compose)


def test_images_have_the_versions_of_the_local_servers(compose: dict[str, Any]) -> None:
    properties = ET.parse(POM).getroot().find("{*}properties")
    assert properties is not None
    versions = {each.tag.rpartition("}")[2]: each.text for each in properties}
    images = {name: service.get("image") for name, service in compose["services"].items()}
    assert images["kafka"] == f"apache/kafka:{versions['kafka.version']}"
    assert images["neo4j"] == f"neo4j:{versions['neo4j.version']}-community"


@pytest.mark.parametrize("service", OWN)
def test_every_variable_is_a_setting_and_its_value_is_accepted(
    service: str, compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {
        environment_name(section, name) for section in sections() for name in section.model_fields
    }
    for name in known:
        monkeypatch.delenv(name, raising=False)
    given = compose["services"][service].get("environment", {})
    assert set(given) <= known
    for name, value in given.items():
        default = re.fullmatch(r"\$\{\w+:-(.*)\}", str(value))
        monkeypatch.setenv(name, default[1] if default else str(value))
    settings = Settings.load()
    if service in {"setup", "sink"}:
        assert settings.neo4j.password is not None
    if service == "source":
        assert settings.source.studies == ("DEMO",)


def test_the_source_has_the_simulators_keys(compose: dict[str, Any]) -> None:
    source = compose["services"]["source"]["environment"]
    keys = (source["IMEDNET_API_KEY"], source["IMEDNET_SECURITY_KEY"])
    assert keys == (API_KEY, SECURITY_KEY)


def test_whoever_waits_for_health_waits_for_a_service_that_tells_it(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[name]
    assert services["kafka"]["healthcheck"]
    assert services["neo4j"]["healthcheck"]


def test_there_are_two_sinks_and_everything_is_published_on_loopback(
    compose: dict[str, Any],
) -> None:
    assert compose["services"]["sink"]["deploy"]["replicas"] == 2
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
