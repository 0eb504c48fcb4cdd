"""Explains why a client cannot use the cluster: librdkafka's own reason, and what to do.

A failed call reports ``_TRANSPORT`` both for a wrong password and for a broker that is down. Only
the client's log has the reason (librdkafka 2.16.0 calls ``error_cb`` for some reasons only).
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connector.config import KafkaSettings
from connector.errors import FatalError
from connector.kafka.failures import error_of
from connector.kafka.settings import connection

T = TypeVar("T")

_CREDENTIALS = "Check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
_PROTOCOL = "Check KAFKA_SECURITY_PROTOCOL and the port in KAFKA_BOOTSTRAP_SERVERS"
_ADDRESS = "Check KAFKA_BOOTSTRAP_SERVERS"
_CERTIFICATE = (
    "Check that KAFKA_SSL_CA_LOCATION holds the CA of the broker's certificate, and that the"
    " certificate is valid for the host in KAFKA_BOOTSTRAP_SERVERS"
)
_CLIENT_CERTIFICATE = (
    "The listener requires a client certificate, which this program does not send. Use a listener"
    " that does not require one (KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL)"
)
_REFUSED, _NO_ANSWER = "Kafka refuses the connection to", "No Kafka broker answers at"

_REASONS: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), happened, advice)
    for pattern, happened, advice in (
        (r"unsupported sasl mechanism", _REFUSED, "Check KAFKA_SASL_MECHANISM"),
        (r"sasl \S+ mechanism handshake failed", _REFUSED, _PROTOCOL),
        (r"sasl .*(error|fail)", _REFUSED, _CREDENTIALS),
        (r"alert (bad certificate|certificate required)", _REFUSED, _CLIENT_CERTIFICATE),
        (r"certificate verify failed", _REFUSED, _CERTIFICATE),
        (r"ssl.*(fail|closed)|disconnected", _REFUSED, _PROTOCOL),
        (r"parse error", _NO_ANSWER, f"{_ADDRESS}: its format is host:port, comma-separated"),
        (r"failed to resolve", _NO_ANSWER, f"{_ADDRESS} (the host name)"),
        (r"failed|timed out", _NO_ANSWER, f"{_ADDRESS} and that the broker is running"),
    )
)
"""From the most to the least specific reason: with several brokers, each logs its own."""

_REFUSED_SETTINGS = (
    ("sasl mechanism", "KAFKA_SASL_MECHANISM must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
    ("sasl.username", "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD must both be set"),
    ("ssl.ca.location", "KAFKA_SSL_CA_LOCATION must be a readable file of PEM certificates"),
    ("transaction.timeout.ms", "KAFKA_TRANSACTION_TIMEOUT_SECONDS must be 1 or more"),
    ("socket.timeout.ms", "KAFKA_REQUEST_TIMEOUT_SECONDS must be from 0.01 to 300"),
    (
        "max.poll.interval.ms",
        "SINK_MAX_POLL_INTERVAL_SECONDS must not be less than SINK_SESSION_TIMEOUT_SECONDS",
    ),
)
_BROKER = re.compile(r"^(?:\[thrd:[^]]*\]: )?(?:\w+://)?(\S+?)/(?:bootstrap|\d+): ")
_NOISE = re.compile(r" \(after \d+ms in state [^)]*\)+| \(install ca-certificates package\)")


class Reasons(logging.Handler):
    """Keeps each distinct line that one client logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, None] = {}
        self.logger = logging.Logger("connector.kafka.reasons")  # noqa: LOG001 - no one else's
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        text = record.getMessage().partition("]: ")[2] or record.getMessage()
        self.lines[_BROKER.sub(r"\1: ", _NOISE.sub("", text)).strip()] = None


def explained(servers: str, lines: Sequence[str], code: str) -> str:
    """Return what happened, the most specific reason, and what to do. Pure."""
    for pattern, happened, advice in _REASONS:
        for line in lines:
            if pattern.search(line):
                return f"{happened} {servers} ({line}). {advice}"
    return f"{_NO_ANSWER} {servers} ({code}). {_ADDRESS}"


def require_broker(settings: KafkaSettings) -> None:
    """Check that a broker answers.

    Raises:
        FatalError: none answers, or one refuses the connection; with the reason and what to do.
    """
    reasons = Reasons()
    # A separate client: log lines stay in its memory until polled, so it must be short-lived.
    client = made(AdminClient, connection(settings, "check"), logger=reasons.logger)
    try:
        client.list_topics(timeout=settings.connect_timeout_seconds)
    except KafkaException as exception:
        client.poll(0)
        code = error_of(exception).name()
        servers = settings.bootstrap_servers
        raise FatalError(explained(servers, list(reasons.lines), code)) from None


def made(client_class: Callable[..., T], config: Mapping[str, Any], **options: Any) -> T:
    """Create a client with these settings.

    Raises:
        FatalError: the client rejects its settings; names the one at fault.
    """
    try:
        return client_class(config, **options)
    except KafkaException as exception:
        raise _refused_settings(exception) from None


def _refused_settings(exception: KafkaException) -> FatalError:
    """Return the error to raise. The client's own text may repeat values."""
    error = error_of(exception)
    text = error.str().lower()
    for part, advice in _REFUSED_SETTINGS:
        if part in text:
            return FatalError(f"The Kafka client rejects its settings. {advice}")
    return FatalError(
        f"The Kafka client rejects its settings ({error.name()}). Check the KAFKA_* settings"
    )
