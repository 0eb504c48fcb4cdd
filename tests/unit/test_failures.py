"""The error class of each failure of the real driver and client."""

import struct

import pytest
from confluent_kafka import KafkaError
from neo4j.exceptions import (
    ConfigurationError,
    IncompleteCommit,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
)

from connector.errors import (
    AccessDeniedError,
    BatchTooLargeError,
    FatalError,
    InvalidEventError,
    RetryableError,
    TakenOverError,
    UnclassifiedError,
)
from connector.kafka.failures import translate as kafka
from connector.neo4j.failures import translate as neo4j


def server(code: str) -> Neo4jError:
    error = Neo4jError._hydrate_neo4j(code=code, message="canary-content")
    assert isinstance(error, Neo4jError)
    return error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("Neo.TransientError.Transaction.DeadlockDetected", RetryableError),
        ("Neo.TransientError.Transaction.LockAcquisitionTimeout", RetryableError),
        ("Neo.TransientError.Database.DatabaseUnavailable", RetryableError),
        ("Neo.ClientError.Transaction.Terminated", RetryableError),
        ("Neo.ClientError.Transaction.LockClientStopped", RetryableError),
        ("Neo.DatabaseError.Transaction.TransactionCommitFailed", RetryableError),
        ("Neo.DatabaseError.General.UnknownError", RetryableError),
        ("Neo.TransientError.General.MemoryPoolOutOfMemoryError", BatchTooLargeError),
        ("Neo.ClientError.General.TransactionOutOfMemoryError", BatchTooLargeError),
        ("Neo.ClientError.Transaction.TransactionTimedOut", BatchTooLargeError),
        ("Neo.ClientError.Schema.ConstraintValidationFailed", InvalidEventError),
        ("Neo.ClientError.Schema.TokenNameError", InvalidEventError),
        ("Neo.ClientError.Statement.TypeError", InvalidEventError),
        ("Neo.ClientError.Security.Unauthorized", AccessDeniedError),
        ("Neo.ClientError.Security.Forbidden", AccessDeniedError),
        ("Neo.ClientError.Database.DatabaseNotFound", AccessDeniedError),
        ("Neo.ClientError.Statement.EntityNotFound", RetryableError),
        ("Neo.ClientError.Security.AuthenticationRateLimit", AccessDeniedError),
        ("Neo.ClientError.Statement.SyntaxError", UnclassifiedError),
        ("Neo.ClientError.General.New", UnclassifiedError),
    ],
)
def test_each_server_error_maps_to_one_class_and_never_quotes_its_message(
    code: str, kind: type[Exception]
) -> None:
    """Each server error maps to one error class, whose text never quotes its message."""
    found = neo4j(server(code), "writing")
    assert type(found) is kind
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    "error",
    [ServiceUnavailable("x"), SessionExpired("x"), IncompleteCommit("x"), ConnectionResetError()],
)
def test_an_outage_or_an_unknown_commit_outcome_is_retryable(error: Exception) -> None:
    """An outage, or a commit whose outcome is unknown, is retryable."""
    assert type(neo4j(error, "writing")) is RetryableError


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Cannot resolve address"),
        OSError(24, "Too many open files"),
        OverflowError("2**70"),
        TypeError("set"),
        struct.error("unpack requires a buffer"),
        ConfigurationError("Given URI: 'bolt://u:canary@h'"),
        AssertionError("canary"),
    ],
)
def test_any_other_driver_exception_is_retryable(error: Exception) -> None:
    """Any other exception of the driver is retryable, whatever its Python type."""
    found = neo4j(error, "writing")
    assert type(found) is RetryableError
    assert "canary" not in str(found)


def test_a_text_too_large_to_index_is_blamed_on_the_event_other_failures_are_not() -> None:
    """A text too large to index is blamed on the event; other failed statements are not."""
    failed = "Neo.DatabaseError.Statement.ExecutionFailed"
    for message, kind in (
        ("Property value is too large to index, please see", InvalidEventError),
        ("disk full", RetryableError),
    ):
        error = Neo4jError._hydrate_neo4j(code=failed, message=message)
        assert type(neo4j(error, "writing")) is kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError._TRANSPORT, RetryableError),
        (KafkaError._TIMED_OUT, RetryableError),
        (KafkaError.NOT_COORDINATOR, RetryableError),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, RetryableError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, FatalError),
        (KafkaError._FENCED, TakenOverError),
        (KafkaError.PRODUCER_FENCED, TakenOverError),
        (KafkaError.INVALID_PRODUCER_EPOCH, TakenOverError),
    ],
)
def test_each_kafka_error_maps_to_one_class(code: int, kind: type[Exception]) -> None:
    """Each Kafka error maps to one error class, whose text never quotes its message."""
    assert type(kafka(KafkaError(code, "canary-content"), "publishing")) is kind
    assert "canary" not in str(kafka(KafkaError(code, "canary-content"), "publishing"))
