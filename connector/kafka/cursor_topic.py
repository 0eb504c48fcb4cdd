"""The cursors topic, read from outside: how far the source of each study is."""

from typing import NamedTuple

from connector.config import KafkaSettings
from connector.kafka.topic_log import newest_by_key
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
    prefix = f"{settings.events_topic}/".encode()
    found = newest_by_key(settings, settings.cursors_topic).items()
    cursors = (
        StoredCursor(Cursor.from_bytes(raw.value() or b""), raw.timestamp()[1])
        for key, raw in found
        if key.startswith(prefix)
    )
    return {each.cursor.study_key: each for each in cursors}
