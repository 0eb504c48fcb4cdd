"""The errors of an export. Messages contain no record content, password or key."""

from collections.abc import Mapping

from connector.errors import ConnectorError
from connector.imednet.errors import ImednetError


class ExportError(ConnectorError, ImednetError):
    """Base of all export errors; also one of the SDK's errors, for code that catches those."""


class ExportIncompleteError(ExportError):
    """Some kinds could not be exported, or not completely; all others were.

    ``exported``: rows read, by kind. ``failed``: the reason, for each kind that failed.
    """

    def __init__(
        self, message: str, *, exported: Mapping[str, int], failed: Mapping[str, str]
    ) -> None:
        super().__init__(message)
        self.exported, self.failed = dict(exported), dict(failed)


class ExportConfigurationError(ExportError):
    """A setting is wrong, or the database cannot be used; the message says what to do."""


class ExportBatchError(ExportError):
    """Part of a batch could not be written; the rest of it was.

    ``batch_id`` is the caller's.
    """

    def __init__(self, message: str, *, batch_id: str) -> None:
        super().__init__(message)
        self.batch_id = batch_id


class RecordsRefusedError(ExportBatchError):
    """Some records can never be stored: retrying cannot help, and later batches can be written."""
