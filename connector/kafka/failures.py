"""confluent_kafka's errors, translated once into what the caller must do."""

from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from connector.errors import ConnectorError, FatalError, RetryableError

T = TypeVar("T")
_GRACE_SECONDS = 5.0
FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
_ONE_EACH = "another sink has this SINK_GROUP_INSTANCE_ID; each needs its own"
_WHAT_TO_DO = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow this user to use the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "allow this user to use the consumer group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "allow this user to use the cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "allow this user the transactional id",
    KafkaError.SASL_AUTHENTICATION_FAILED: "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
    KafkaError._AUTHENTICATION: "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
    KafkaError._SSL: "check KAFKA_SECURITY_PROTOCOL and KAFKA_SSL_CA_LOCATION",
    KafkaError.FENCED_INSTANCE_ID: _ONE_EACH,
    KafkaError.UNRELEASED_INSTANCE_ID: _ONE_EACH,
    KafkaError.UNSUPPORTED_VERSION: "use Kafka 2.5 or newer (4.0 for SINK_GROUP_PROTOCOL=consumer)",
}


_NO_TOPIC = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}


def translate(error: KafkaError, doing: str) -> ConnectorError:
    """The error to raise ``from`` this one. Its text names error code and act, no content."""
    text = f"{doing}: {error.name()}"
    if error.code() in FENCED:
        return FatalError(f"{text}: another source of this study has taken over; run one only")
    if error.code() in _NO_TOPIC:
        return RetryableError(f"{text}: waiting for the topic; run `imednet-connector setup`")
    if advice := _WHAT_TO_DO.get(error.code()):
        return FatalError(f"{text}: {advice}")
    if error.code() == KafkaError._FATAL and "instance" in error.str().lower():
        return FatalError(f"{doing}: {_ONE_EACH}")  # librdkafka says it in the text only
    if error.fatal() or error.code() == KafkaError._FATAL:
        return FatalError(f"{text}: the Kafka client cannot go on; start again")
    return RetryableError(text)


def answer_of(future: Future[T], timeout_seconds: float, doing: str) -> T:
    """What an admin client's call answers. Blocks.

    Raises:
        RetryableError: nothing, in time.
        ConnectorError: as `translate`.
    """
    try:
        # The client's own timeout is the same: let it speak first.
        return future.result(timeout_seconds + _GRACE_SECONDS)
    except KafkaException as exception:
        raise translate(error_of(exception), doing) from exception
    except TimeoutError as error:
        raise RetryableError(f"{doing}: no answer") from error


def error_of(exception: KafkaException | SystemError) -> KafkaError:
    """The KafkaError inside.

    A SystemError holds one, too: the client (2.16.0) raises a fatal error while it runs callbacks,
    and the interpreter complains of the next callback.
    """
    if isinstance(exception.__cause__, KafkaException):
        exception = exception.__cause__
    error = exception.args[0]
    assert isinstance(error, KafkaError)  # noqa: S101 - the client's contract
    return error
