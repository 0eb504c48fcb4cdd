"""Translates confluent_kafka's errors into errors named by what the caller must do."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from connector.errors import ConnectorError, FatalError, RetryableError, TakenOverError

T = TypeVar("T")
_GRACE_SECONDS = 5.0
FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
_INSTANCE_ID_TAKEN = "Another sink uses this SINK_GROUP_INSTANCE_ID. Give each sink its own"
_ADVICE = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "Grant this user access to the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "Grant this user access to the consumer group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "Grant this user access to the cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (
        "Grant this user access to the transactional id"
    ),
    KafkaError.SASL_AUTHENTICATION_FAILED: "Check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
    KafkaError._AUTHENTICATION: "Check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
    KafkaError._SSL: "Check KAFKA_SECURITY_PROTOCOL and KAFKA_SSL_CA_LOCATION",
    KafkaError.FENCED_INSTANCE_ID: _INSTANCE_ID_TAKEN,
    KafkaError.UNRELEASED_INSTANCE_ID: _INSTANCE_ID_TAKEN,
    KafkaError.UNSUPPORTED_VERSION: "Use Kafka 2.5 or newer (4.0 for SINK_GROUP_PROTOCOL=consumer)",
}


OUT_OF_LOG = {
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError._LOG_TRUNCATION,
    KafkaError.OFFSET_OUT_OF_RANGE,
}
"""The position of a consumer is not, or no longer, in the partition's log."""
_TOPIC_MISSING = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}


def translate(error: KafkaError, action: str) -> ConnectorError:
    """Return the error to raise ``from`` this one. Its text holds no content.

    ``action`` is what failed, as an infinitive without "to", such as "commit offsets".
    """
    text = f"Cannot {action}: {error.name()}"
    if error.code() in FENCED:
        return TakenOverError(f"{text}. Another source of this study has taken over. Run only one")
    if error.code() in _TOPIC_MISSING:
        return RetryableError(
            f"{text}. Waiting for the topic. If it does not exist, run `imednet-connector setup`"
        )
    if advice := _ADVICE.get(error.code()):
        return FatalError(f"{text}. {advice}")
    if error.code() == KafkaError._FATAL and "instance" in error.str().lower():
        return FatalError(f"{text}. {_INSTANCE_ID_TAKEN}")  # only librdkafka's text has the reason
    if error.fatal() or error.code() == KafkaError._FATAL:
        return FatalError(f"{text}. The Kafka client has failed. Restart the command")
    return RetryableError(text)


def answer_of(future: Future[T], timeout_seconds: float, action: str) -> T:
    """Return the result of an admin client's call. Blocks.

    Raises:
        RetryableError: no response in time.
        ConnectorError: as `translate`.
    """
    try:
        # The client has the same timeout: let it report first.
        return future.result(timeout_seconds + _GRACE_SECONDS)
    except KafkaException as exception:
        raise translate(error_of(exception), action) from exception
    except TimeoutError as error:
        raise RetryableError(f"Cannot {action}: no response") from error


def fatal_cause(producer: Producer, error: KafkaError) -> KafkaError:
    """Return the fatal error behind ``_FATAL``, which is all that ``produce`` reports."""
    if error.code() != KafkaError._FATAL:
        return error
    try:
        producer.begin_transaction()
    except KafkaException as exception:
        return error_of(exception)
    return error


def commit_errors(
    error: KafkaError | None, partitions: Sequence[TopicPartition]
) -> list[KafkaError]:
    """The errors that the client's callback reports of a commit: of the whole, or by partition."""
    return [each for each in (error, *(each.error for each in partitions)) if each is not None]


def error_of(exception: KafkaException | SystemError) -> KafkaError:
    """Return the KafkaError inside an exception.

    A SystemError holds one, too: the client (2.16.0) raises a fatal error while it runs callbacks,
    and the interpreter raises a SystemError at the next callback.
    """
    if isinstance(exception.__cause__, KafkaException):
        exception = exception.__cause__
    error = exception.args[0]
    assert isinstance(error, KafkaError)  # noqa: S101 - the client's contract
    return error
