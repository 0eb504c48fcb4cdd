"""Every setting, limit and default, with its unit in the name. The docs are generated from it."""

from connector.config.imednet import ImednetSettings
from connector.config.kafka import KafkaSettings
from connector.config.log import LogSettings
from connector.config.neo4j import NEO4J_SCHEMES, Neo4jSettings
from connector.config.section import Section
from connector.config.settings import Settings, environment_name, sections
from connector.config.sink import SinkSettings
from connector.config.source import SourceSettings
from connector.config.telemetry import TelemetrySettings

__all__ = [
    "NEO4J_SCHEMES",
    "ImednetSettings",
    "KafkaSettings",
    "LogSettings",
    "Neo4jSettings",
    "Section",
    "Settings",
    "SinkSettings",
    "SourceSettings",
    "TelemetrySettings",
    "environment_name",
    "sections",
]
