"""The driver's errors, translated once into what the caller must do: one table of server codes.

Only a listed code of the server blames the data. Whatever else the driver raises is retried,
whatever its Python type: it raises plain ValueError when a name cannot be resolved (EAI_FAIL), when
file descriptors run out (EMFILE), and for junk bytes on the wire (6.4.1). That a value can be sent
at all is checked before the driver is called (`connector.model.graph`).

The sink repeats more than the driver's own ``is_retryable`` (an unknown commit outcome, a
terminated transaction): its writes are idempotent.
"""

from neo4j.exceptions import ClientError, Neo4jError, TransientError

from connector.errors import (
    AccessRefusedError,
    BatchTooLargeError,
    ConnectorError,
    InvalidEventError,
    RetryableError,
    UnforeseenError,
)

NODE_EXISTS = "ConstraintValidationFailed"
"""The reason of an InvalidEventError where CREATE met a node of the same key."""

_TOO_LARGE = (
    "Neo.TransientError.General.MemoryPoolOutOfMemoryError",
    "Neo.TransientError.General.OutOfMemoryError",
    "Neo.TransientError.General.StackOverFlowError",
    "Neo.ClientError.General.TransactionOutOfMemoryError",
    "Neo.ClientError.Transaction.TransactionTimedOut",
)
_TRANSIENT = (
    "Neo.TransientError.",
    "Neo.DatabaseError.",
    "Neo.ClientError.Transaction.Terminated",
    "Neo.ClientError.Transaction.LockClientStopped",
    "Neo.ClientError.Transaction.TransactionTerminated",
    "Neo.ClientError.Security.AuthorizationExpired",
    "Neo.ClientError.Cluster.",
    "Neo.ClientError.General.ForbiddenOnReadOnlyDatabase",
    # Another client deleted a node between our read and our write of it.
    "Neo.ClientError.Statement.EntityNotFound",
    # Three wrong passwords, by anybody, and a right one is refused for some seconds.
    "Neo.ClientError.Security.AuthenticationRateLimit",
)
_DATA = (
    "Neo.ClientError.Schema.ConstraintValidationFailed",
    "Neo.ClientError.Schema.TokenNameError",
    "Neo.ClientError.Schema.TokenLengthError",
    "Neo.ClientError.Statement.TypeError",
    "Neo.ClientError.Statement.ArgumentError",
    "Neo.ClientError.Statement.ParameterMissing",
    "Neo.ClientError.Statement.PropertyNotFound",
    "Neo.ClientError.General.IndexNotApplicable",
)
_FAILED = "Neo.DatabaseError.Statement.ExecutionFailed"
_INDEX_SIZE = "too large to index"
"""Text of more than 8 kB in an indexed property: the data's fault, but only the message says so
(5.26.30)."""
_ACCESS = {
    "Neo.ClientError.Security.Unauthorized": "check NEO4J_USERNAME and NEO4J_PASSWORD",
    "Neo.ClientError.Security.Forbidden": "grant this user reading and writing of the database",
    "Neo.ClientError.Security.CredentialsExpired": "the password must be changed first",
    "Neo.ClientError.Database.DatabaseNotFound": "check NEO4J_DATABASE",
}
"""What the server grants and takes away, and what to do about it."""


def translate(error: Exception, doing: str) -> ConnectorError:
    """The error to raise ``from`` this one. Server messages may quote data: only codes leave."""
    if isinstance(error, Neo4jError):
        return _server_error(error, f"{doing}: {error.code}")
    return RetryableError(f"{doing}: {type(error).__name__} in the driver")


def _server_error(error: Neo4jError, text: str) -> ConnectorError:
    code = error.code or ""
    if advice := _ACCESS.get(code):
        return AccessRefusedError(f"{text}: {advice}")
    if reason := _fault_of_the_data(code, error.message or ""):
        return InvalidEventError(text, reason=reason)
    if code.startswith(_TOO_LARGE):
        return BatchTooLargeError(text)
    if code.startswith(_TRANSIENT) or isinstance(error, TransientError):
        return RetryableError(text)
    if isinstance(error, ClientError):
        return UnforeseenError(f"{text}: the database refuses the statement")
    return RetryableError(text)


def _fault_of_the_data(code: str, message: str) -> str | None:
    """The reason in a word, where the database refuses the data."""
    if code == _FAILED and _INDEX_SIZE in message:
        return "index_size"
    return code.rsplit(".", 1)[-1] if code.startswith(_DATA) else None
