"""What an export may raise. No text holds record content, a password or a key."""

from connector.errors import ConnectorError
from connector.imednet.errors import ImednetError


class ExportError(ConnectorError, ImednetError):
    """Base of all; also the SDK's, for code that catches that."""


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
