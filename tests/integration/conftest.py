"""Fixtures: an export sink into the real graph, and a study served by the simulated API."""

from collections.abc import Iterator
from typing import Any

import pytest
from imednet import ImednetSDK

from connector.config import Neo4jSettings
from connector.export import Neo4jExportSink, Neo4jSinkConfig
from connector.lab.simulator.api import API_KEY, SECURITY_KEY, Simulation
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study
from tests.exporting import QUICK, Open


@pytest.fixture
def auth(neo4j_settings: Neo4jSettings) -> tuple[str, str]:
    assert neo4j_settings.password
    return neo4j_settings.username, neo4j_settings.password.get_secret_value()


@pytest.fixture
def sink_to(neo4j_settings: Neo4jSettings, auth: tuple[str, str], study: str) -> Iterator[Open]:
    opened = []

    def make(uri: str = neo4j_settings.uri, **config: Any) -> Neo4jExportSink:
        settings = Neo4jSinkConfig(**{**QUICK, **config})
        opened.append(Neo4jExportSink(uri, auth, study, config=settings))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def simulation(study: str) -> Simulation:
    return Simulation({study: build_study(study, 40, 1500, 7)})


@pytest.fixture
def api(simulation: Simulation) -> Iterator[str]:
    with serving(simulation) as address:
        yield address


@pytest.fixture
def sdk(api: str) -> Iterator[ImednetSDK]:
    made = ImednetSDK(api_key=API_KEY, security_key=SECURITY_KEY, base_url=api, retries=1)
    yield made
    made.close()
