"""Translates the driver's errors, once, by what the caller must do: one table of server codes.

Only a listed server code blames the data. Everything else that the driver raises is retried,
whatever its Python type: it raises plain ValueError when a name cannot be resolved (EAI_FAIL), when
file descriptors run out (EMFILE), and for junk bytes on the wire (6.4.1). Whether a value can be
sent at all is checked before the driver is called (`connector.model.graph`).

The sink retries more than the driver's own ``is_retryable`` allows (a commit in doubt, a terminated
transaction): its writes are idempotent.
"""

from neo4j.exceptions import ClientError, Neo4jError, TransientError

from connector.errors import (
    AccessDeniedError,
    BatchTooLargeError,
    ConnectorError,
    InvalidEventError,
    RetryableError,
    UnclassifiedError,
)

NODE_EXISTS = "ConstraintValidationFailed"
"""The reason of an InvalidEventError when CREATE meets a node with the same key."""

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
    # Another client deleted a node between our read of it and our write.
    "Neo.ClientError.Statement.EntityNotFound",
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
"""Text of more than 8 kB in an indexed property: the data is at fault, but only the message shows
it (5.26.30)."""
_ACCESS = {
    "Neo.ClientError.Security.Unauthorized": "Check NEO4J_USERNAME and NEO4J_PASSWORD",
    "Neo.ClientError.Security.AuthenticationRateLimit": "Check NEO4J_USERNAME and NEO4J_PASSWORD."
    " After wrong ones, from any client, the server refuses the right ones for some seconds, too",
    "Neo.ClientError.Security.Forbidden": "Grant this user read and write access to the database",
    "Neo.ClientError.Security.CredentialsExpired": "Change the password of this user first",
    "Neo.ClientError.Database.DatabaseNotFound": "Check NEO4J_DATABASE",
}
"""Refusals that an administrator can lift: server code to remedy."""


def translate(error: Exception, action: str) -> ConnectorError:
    """The error to raise ``from`` this one. It holds codes only: server messages may quote data."""
    if isinstance(error, Neo4jError):
        return _server_error(error, f"Cannot {action}: {error.code}")
    return RetryableError(f"Cannot {action}: {type(error).__name__} in the driver")


def _server_error(error: Neo4jError, text: str) -> ConnectorError:
    code = error.code or ""
    if advice := _ACCESS.get(code):
        return AccessDeniedError(f"{text}. {advice}")
    if reason := _data_fault(code, error.message or ""):
        return InvalidEventError(text, reason=reason)
    if code.startswith(_TOO_LARGE):
        return BatchTooLargeError(text)
    if code.startswith(_TRANSIENT) or isinstance(error, TransientError):
        return RetryableError(text)
    if isinstance(error, ClientError):
        return UnclassifiedError(f"{text} (the database rejected the statement)")
    return RetryableError(text)


def _data_fault(code: str, message: str) -> str | None:
    """Return the reason, in one word, if the database blames the data."""
    if code == _FAILED and _INDEX_SIZE in message:
        return "index_size"
    return code.rsplit(".", 1)[-1] if code.startswith(_DATA) else None
