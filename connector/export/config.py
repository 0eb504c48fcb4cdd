"""How an export writes."""

import math
from dataclasses import dataclass, field
from typing import Any

from connector.config import SourceSettings
from connector.export.errors import ExportConfigurationError

_BATCH_SIZE_MAX = 100_000
MAX_DELETE_RATIO: float = SourceSettings.model_fields["max_delete_ratio"].default


@dataclass
class SinkConfig:
    """Of any export.

    Raises:
        ExportConfigurationError: a value that nothing can be written with.
    """

    batch_size: int = 500
    """Records a batch, and a transaction."""
    max_retries: int = 3
    """How often a batch is repeated after an error that may pass (an outage, a lock)."""
    retry_backoff: float = 1.0
    """Longest wait before the first repeat, in seconds; it doubles, and chance spreads it."""
    idempotent: bool = True
    """True: look first what is there, and create while nothing is. False: create from the first
    batch on. Both look again when something is there; nothing is ever doubled."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Not used here; kept for code that sets it."""

    def __post_init__(self) -> None:
        if type(self.batch_size) is not int or not 1 <= self.batch_size <= _BATCH_SIZE_MAX:
            raise ExportConfigurationError(f"batch_size must be from 1 to {_BATCH_SIZE_MAX}")
        if type(self.max_retries) is not int or self.max_retries < 0:
            raise ExportConfigurationError("max_retries must be an integer of 0 or more")
        if not math.isfinite(self.retry_backoff) or self.retry_backoff < 0:
            raise ExportConfigurationError("retry_backoff must be a number of 0 or more")


@dataclass
class Neo4jSinkConfig(SinkConfig):
    """Of an export into Neo4j."""

    database: str = "neo4j"
    max_delete_ratio: float = MAX_DELETE_RATIO
    """An export that would delete a larger share of a kind deletes nothing of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_delete_ratio <= 1:
            raise ExportConfigurationError("max_delete_ratio must be from 0 to 1")
        if not self.database:
            raise ExportConfigurationError("database must be the name of one")
