"""All settings, loaded from the environment, a TOML file and the defaults.

The environment (``SECTION_FIELD``, such as ``KAFKA_BOOTSTRAP_SERVERS``) overrides the TOML file
given by ``--config`` (``[kafka] bootstrap_servers``), which overrides the default.
"""

import tomllib
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from connector.config.imednet import ImednetSettings
from connector.config.kafka import KafkaSettings
from connector.config.log import LogSettings
from connector.config.neo4j import Neo4jSettings
from connector.config.section import Section
from connector.config.sink import SinkSettings
from connector.config.source import SourceSettings
from connector.config.telemetry import TelemetrySettings
from connector.config.ui import UiSettings
from connector.errors import FatalError


class Settings(BaseSettings):
    """All sections. Frozen; secrets are masked when it is printed."""

    model_config = SettingsConfigDict(
        env_nested_delimiter="_",
        env_nested_max_split=1,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    imednet: ImednetSettings = ImednetSettings()
    kafka: KafkaSettings = KafkaSettings()
    neo4j: Neo4jSettings = Neo4jSettings()
    source: SourceSettings = SourceSettings()
    sink: SinkSettings = SinkSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    ui: UiSettings = UiSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def load(cls, file: Path | None = None) -> Self:
        """Load the settings from ``file``, overridden by the environment.

        Raises:
            FatalError: a setting is invalid or unknown; names the setting, never its value.
        """
        try:
            environment = EnvSettingsSource(cls)()
            return cls(**_merged(_read_toml(file) if file else {}, environment))
        except ValidationError as error:
            raise FatalError(_explain(error)) from None
        except ValueError:  # its own text quotes the value
            raise FatalError("Cannot parse a setting in the environment") from None


def sections() -> list[type[Section]]:
    """Return the sections in the order of the documentation."""
    return [
        get_args(f.annotation)[0] if get_args(f.annotation) else f.annotation  # type: ignore[misc]
        for f in Settings.model_fields.values()
    ]


def environment_name(section: type[Section], field: str) -> str:
    """Return the environment variable that sets this field."""
    return f"{section.name}_{field}".upper()


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {**below.get(name, {}), **above.get(name, {})} for name in below.keys() | above.keys()
    }


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FatalError(f"Cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise FatalError(f"{path} is not valid TOML") from None
    known = {section.name: set(section.model_fields) for section in sections()}
    for name, table in tables.items():
        if name not in known or not isinstance(table, dict):
            raise FatalError(f"{path}: unknown section [{name}]. Use one of {', '.join(known)}")
        for field in table.keys() - known[name]:
            raise FatalError(f"{path}: unknown setting {field} in [{name}]")
    return tables


def _explain(error: ValidationError) -> str:
    # The error's own text and errors()["input"] quote rejected secrets: use only names and rules.
    reasons = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        name = "_".join(str(part) for part in fault["loc"][:2]).upper()
        reasons.append(f"{name}: {fault['msg'].removeprefix('Value error, ')}")
    return "; ".join(reasons)
