"""The configuration of an export sink."""

import math
from dataclasses import dataclass, field
from typing import Any

from connector.config import SourceSettings
from connector.export.errors import ExportConfigurationError

_BATCH_SIZE_MAX = 100_000
MAX_DELETE_RATIO: float = SourceSettings.model_fields["max_delete_ratio"].default


@dataclass
class SinkConfig:
    """The configuration of any export sink.

    Raises:
        ExportConfigurationError: a value is out of range.
    """

    batch_size: int = 500
    """Records per batch, and per transaction."""
    max_retries: int = 3
    """How often a batch is retried after a transient error (an outage, a lock)."""
    retry_backoff: float = 1.0
    """Longest wait before the first retry, in seconds; doubles per retry, with full jitter."""
    idempotent: bool = True
    """True: probe the first batch, then create without probing while all nodes are new. False:
    create without probing from the first batch on. Both probe again once a node exists already, and
    neither ever duplicates one."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Unused; accepted for code that sets it."""

    def __post_init__(self) -> None:
        if type(self.batch_size) is not int or not 1 <= self.batch_size <= _BATCH_SIZE_MAX:
            raise ExportConfigurationError(
                f"batch_size must be an integer from 1 to {_BATCH_SIZE_MAX}"
            )
        if type(self.max_retries) is not int or self.max_retries < 0:
            raise ExportConfigurationError("max_retries must be an integer, 0 or more")
        if not math.isfinite(self.retry_backoff) or self.retry_backoff < 0:
            raise ExportConfigurationError("retry_backoff must be a finite number, 0 or more")


@dataclass
class Neo4jSinkConfig(SinkConfig):
    """The configuration of an export sink for Neo4j."""

    batch_size: int = 2000
    """Records per batch, and per transaction (at 500 an export is a tenth slower)."""
    database: str = "neo4j"
    max_delete_ratio: float = MAX_DELETE_RATIO
    """If an export would delete a larger share of a kind, it deletes nothing of that kind."""
    typed_values: bool = True
    """Type the values of form variables by their definitions, as a stream does by default."""
    omit_personal_data: bool = False
    """Leave out users' names and e-mail addresses, and the coder's name of codings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_delete_ratio <= 1:
            raise ExportConfigurationError("max_delete_ratio must be from 0 to 1")
        if not self.database:
            raise ExportConfigurationError("database must not be empty")


def types_values(config: SinkConfig) -> bool:
    """Whether form variables are typed by their definitions."""
    return bool(getattr(config, "typed_values", True))
