"""Every setting, limit and default, with its unit in the name.

Sources, the first that gives a value wins: environment (``SECTION_FIELD``, such as
``KAFKA_BOOTSTRAP_SERVERS``), the TOML file given by ``--config`` (``[kafka] bootstrap_servers``),
the default. The README's table is generated from here.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
)

from connector.entities import ENTITIES
from connector.errors import FatalError

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1)]
NEO4J_SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")


class Section(BaseModel):
    """One group of settings. Unknown fields of a file are refused, so that a typo is seen."""

    model_config = ConfigDict(hide_input_in_errors=True, frozen=True)

    name: ClassVar[str]


class ImednetSettings(Section):
    """Access to the iMednet API."""

    name = "imednet"

    base_url: str = Field(
        "https://edc.prod.imednetapi.com", description="Address of the API, without /api."
    )
    api_key: SecretStr | None = Field(None, description="The header x-api-key.")
    security_key: SecretStr | None = Field(None, description="The header x-imn-security-key.")
    api_key_file: Path | None = Field(
        None, description="File with the API key instead; read again when it changes."
    )
    security_key_file: Path | None = Field(
        None, description="File with the security key instead; read again when it changes."
    )
    request_timeout_seconds: Seconds = Field(
        30.0, description="Bound of one request; then fewer rows are asked for."
    )
    requests_per_minute_max: Count = Field(
        600, description="Budget of requests, all studies together."
    )
    requests_at_once_max: Count = Field(4, description="Requests under way, all studies together.")

    @field_validator("base_url")
    @classmethod
    def _has_scheme(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value


class KafkaSettings(Section):
    """The Kafka cluster and the three topics."""

    name = "kafka"

    bootstrap_servers: str = Field("localhost:9092", description="host:port, comma-separated.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As in every Kafka client."
    )
    sasl_mechanism: str | None = Field(None, description="Such as SCRAM-SHA-512.")
    sasl_username: str | None = Field(None, description="User of the SASL mechanism.")
    sasl_password: SecretStr | None = Field(None, description="Password of the SASL mechanism.")
    ssl_ca_location: str | None = Field(None, description="File with the CA certificates.")
    events_topic: str = Field("imednet.events", description="The change stream; compacted.")
    cursors_topic: str = Field("imednet.cursors", description="The source's place; compacted.")
    dead_letter_topic: str = Field("imednet.events.dlq", description="What cannot be applied.")
    topic_partitions: Count = Field(6, description="Partitions of a new events topic.")
    replication_factor: int = Field(
        -1, ge=-1, description="Replicas of a new topic; -1 is the broker's default."
    )
    connect_timeout_seconds: Seconds = Field(
        10.0, description="Until an unreachable broker is reported at the start."
    )
    request_timeout_seconds: Seconds = Field(
        30.0, description="Bound of one call to the brokers (commit, transaction, metadata)."
    )
    transaction_timeout_seconds: Seconds = Field(
        60.0, description="The brokers end a transaction of the source that takes longer."
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _no_userinfo(cls, value: str) -> str:
        if "@" in value:
            raise ValueError(
                "must not hold user or password: use KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD"
            )
        return value


class Neo4jSettings(Section):
    """The graph database."""

    name = "neo4j"

    uri: str = Field("bolt://localhost:7687", description=f"Scheme: {', '.join(NEO4J_SCHEMES)}.")
    username: str = Field("neo4j", description="Database user.")
    password: SecretStr | None = Field(None, description="Its password.")
    database: str = Field("neo4j", description="Name of the database.")
    connect_timeout_seconds: Seconds = Field(
        10.0, description="Longest wait for a connection, from the pool or new."
    )
    transaction_timeout_seconds: Seconds = Field(
        60.0, description="The server ends a transaction that takes longer."
    )

    @field_validator("uri")
    @classmethod
    def _no_userinfo(cls, value: str) -> str:
        if "@" in value:
            raise ValueError("must not hold user or password: use NEO4J_USERNAME, NEO4J_PASSWORD")
        return value

    @field_validator("uri")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            is_address = bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address or parts.scheme not in NEO4J_SCHEMES:
            raise ValueError(
                f"must be SCHEME://host:port, SCHEME one of {', '.join(NEO4J_SCHEMES)}"
            )
        return value


class SourceSettings(Section):
    """What the source reads, and how often."""

    name = "source"

    studies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Study keys, comma-separated."
    )
    poll_interval_seconds: Seconds = Field(
        10.0, description="Pause between windows of kinds that can be filtered by change date."
    )
    list_interval_seconds: Seconds = Field(
        300.0, description="Pause between full lists of kinds that cannot (subjects, visits)."
    )
    metadata_interval_seconds: Seconds = Field(
        3600.0, description="Pause between readings of what seldom changes (studies, sites)."
    )
    kind_intervals: Annotated[dict[str, Seconds], NoDecode] = Field(
        {}, description="Pauses of single kinds instead, such as `visit=60,study=86400`."
    )
    sweep_interval_seconds: Seconds = Field(
        86_400.0, description="Pause between full sweeps, which find vanished rows."
    )
    overlap_seconds: Seconds = Field(
        60.0, description="How far a window reaches back: longer than the API's longest write."
    )
    page_size: int = Field(500, ge=1, le=500, description="Rows a page; the API's limit is 500.")
    max_delete_ratio: float = Field(
        0.1, ge=0, le=1, description="A sweep that would delete a larger share deletes nothing."
    )
    retry_wait_seconds_max: Seconds = Field(
        60.0, description="Longest pause before a failed step is repeated."
    )
    state_dir: Path = Field(
        Path("~/.cache/imednet-connector"),
        description="Folder of the known-state cache; rebuilt from the topic when missing.",
    )

    @field_validator("studies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(key.strip() for key in value.split(",") if key.strip())
        return value

    @field_validator("kind_intervals", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if isinstance(value, str):
            return dict(pair.strip().partition("=")[::2] for pair in value.split(",") if pair)
        return value

    @field_validator("kind_intervals")
    @classmethod
    def _kinds(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := value.keys() - ENTITIES.keys():
            raise ValueError(f"there is no kind {', '.join(unknown)}: {', '.join(ENTITIES)}")
        return value

    @field_validator("state_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser()


class SinkSettings(Section):
    """How the sink consumes and writes."""

    name = "sink"

    group_id: str = Field("imednet-sink", min_length=1, description="Consumer group.")
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic", description="classic is cooperative-sticky; consumer is KIP-848 (Kafka 4)."
    )
    group_instance_id: str | None = Field(
        None,
        min_length=1,
        description="Static membership: unlike in any other member, the same after a restart.",
    )
    writers_max: int = Field(4, ge=1, le=64, description="Batches written to Neo4j at once.")
    transaction_events_max: Count = Field(800, le=100_000, description="Events a transaction.")
    batch_events_max: Count = Field(
        4000, le=100_000, description="Events a batch, which is probed as one, of one partition."
    )
    batch_bytes_max: Count = Field(4_000_000, description="Bytes a batch and a transaction.")
    buffer_bytes_max: int = Field(
        38_000_000, ge=1_000_000, description="Memory for messages that wait, all partitions."
    )
    linger_seconds: float = Field(
        0.0, ge=0, le=60, description="Wait for a fuller batch; 0 writes at once what is there."
    )
    commit_interval_seconds: Seconds = Field(
        0.2, description="Between two commits of offsets; also at a rebalance and at the end."
    )
    max_poll_interval_seconds: float = Field(
        300.0, ge=10, le=86_400, description="Kafka's max.poll.interval.ms."
    )
    session_timeout_seconds: float = Field(
        45.0, ge=6, le=1800, description="Kafka's session.timeout.ms (the broker's for consumer)."
    )
    retry_wait_seconds_max: Seconds = Field(
        10.0, description="Longest pause before a failed write is repeated."
    )
    check_interval_seconds: Seconds = Field(
        60.0,
        description="Interval between checks of the graph's constraints and checkpoints.",
    )
    revoke_timeout_seconds: Seconds = Field(
        5.0, description="Longest wait for running writes when a partition is taken away."
    )
    close_timeout_seconds: Seconds = Field(9.0, description="Bound of a shutdown, whatever hangs.")
    accept_gap: bool = Field(
        False, description="Go on at the first event there is when some are gone (--accept-gap)."
    )


class LogSettings(Section):
    """What is logged, on stderr."""

    name = "log"

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level.")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, JSON lines elsewhere."
    )
    progress_interval_seconds: Seconds = Field(
        60.0, description="Pause between progress lines while there is progress."
    )


class Settings(BaseSettings):
    """All sections. Frozen; secrets are masked wherever it is printed."""

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
    log: LogSettings = LogSettings()

    @classmethod
    def load(cls, file: Path | None = None) -> Self:
        """Settings from the environment over ``file``.

        Raises:
            FatalError: names each setting that is wrong, never its value.
        """
        try:
            environment = EnvSettingsSource(cls)()
            return cls(**_merged(_read_toml(file) if file else {}, environment))
        except ValidationError as error:
            raise FatalError(_explain(error)) from None
        except ValueError:  # a source's own failure quotes the value
            raise FatalError("a setting in the environment cannot be read") from None


def sections() -> list[type[Section]]:
    """The sections in the order of the documentation."""
    return [
        get_args(f.annotation)[0] if get_args(f.annotation) else f.annotation  # type: ignore[misc]
        for f in Settings.model_fields.values()
    ]


def environment_name(section: type[Section], field: str) -> str:
    """The environment variable that sets this field."""
    return f"{section.name}_{field}".upper()


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {**below.get(name, {}), **above.get(name, {})} for name in below.keys() | above.keys()
    }


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FatalError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise FatalError(f"{path} is not valid TOML") from None
    known = {section.name: set(section.model_fields) for section in sections()}
    for name, table in tables.items():
        if name not in known or not isinstance(table, dict):
            raise FatalError(f"{path}: unknown section [{name}]; there are {', '.join(known)}")
        for field in table.keys() - known[name]:
            raise FatalError(f"{path}: unknown setting {field} in [{name}]")
    return tables


def _explain(error: ValidationError) -> str:
    # The error's own text and errors()["input"] quote rejected secrets: only names and rules leave.
    lines = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        name = "_".join(str(part) for part in fault["loc"][:2]).upper()
        lines.append(f"{name}: {fault['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)
