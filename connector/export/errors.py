"""What an export may raise. No text holds record content, a password or a key."""

from collections.abc import Mapping

from connector.errors import ConnectorError
from connector.imednet.errors import ImednetError


class ExportError(ConnectorError, ImednetError):
    """Base of all; also the SDK's, for code that catches that."""


class ExportIncompleteError(ExportError):
    """Some kinds could not be exported, or not completely; all others were.

    ``exported``: rows read of each kind. ``failed``: the reason, of each kind that has one.
    """

    def __init__(
        self, message: str, *, exported: Mapping[str, int], failed: Mapping[str, str]
    ) -> None:
        super().__init__(message)
        self.exported, self.failed = dict(exported), dict(failed)


class ExportConfigurationError(ExportError):
    """A setting is wrong, or the database cannot be used: says what to do."""


class ExportBatchError(ExportError):
    """Some of a batch could not be written; all the rest of it was.

    ``batch_id`` is the caller's.
    """

    def __init__(self, message: str, *, batch_id: str) -> None:
        super().__init__(message)
        self.batch_id = batch_id


class RecordsRefusedError(ExportBatchError):
    """Because of what they are: repeating them cannot help, and those after them can go on."""
