"""The cursors topic, read from outside: how far the source of each study is."""

from typing import NamedTuple

from connector.config import KafkaSettings
from connector.kafka.topic_log import read_to_end
from connector.model.cursor import Cursor


class StoredCursor(NamedTuple):
    """A study's cursor, and when it was committed (ms since the epoch)."""

    cursor: Cursor
    committed_ms: int


def read_cursors(settings: KafkaSettings) -> dict[str, StoredCursor]:
    """Return the newest cursors of this events topic, by study.

    Raises:
        RetryableError: the brokers do not answer, or the topic is missing.
    """
    found: dict[bytes, tuple[bytes, int]] = {}
    prefix = f"{settings.events_topic}/".encode()
    for raw in read_to_end(settings, settings.cursors_topic):
        key, value = raw.key(), raw.value()
        if key is not None and value is not None and key.startswith(prefix):
            found[key] = (value, raw.timestamp()[1])
    cursors = (StoredCursor(Cursor.from_bytes(value), ms) for value, ms in found.values())
    return {each.cursor.study_key: each for each in cursors}
