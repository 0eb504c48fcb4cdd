"""A load for sinks, published directly to the topic, and the messages for the oracle.

The environment variables ``FAULT_KILLS``, ``FAULT_STOPS`` and ``FAULT_OUTAGE_SECONDS`` make the
fault tests longer than in CI.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from connector.config import KafkaSettings
from connector.interfaces import Message, TopicPartition
from connector.kafka.event_log import KafkaEventLog
from connector.kafka.topic_log import read_to_end
from connector.lab.simulator.study import build_study
from connector.model.cursor import Cursor
from tests.builders import record_row, upsert


def publish_load(kafka: KafkaSettings, study: str, records: int, hubs: int = 0) -> None:
    """Publish records of a simulated study, each in two versions.

    With ``hubs``, each record hangs only on one of that many sites and may be in any partition.
    """
    log = KafkaEventLog(kafka, study)
    log.open()
    rows = list(build_study(study, 100, records // 2, 1).table("records").rows())
    if hubs:
        alone = {"subjectId": None, "visitId": None, "parentRecordId": 0}
        rows = [row | alone | {"siteId": row["recordId"] % hubs + 1} for row in rows]
    for version in (1, 2):
        for start in range(0, len(rows), 1000):
            part = rows[start : start + 1000]
            events = [
                (upsert(row | {"recordStatus": f"v{version}"}, version), row["subjectId"])
                for row in part
            ]
            log.publish(events, [], Cursor(study_key=study))


def messages(kafka: KafkaSettings) -> list[Message]:
    return [
        Message(TopicPartition("t", raw.partition() or 0), 0, raw.key(), raw.value(), raw)
        for raw in read_to_end(kafka, kafka.events_topic)
    ]


def how_many(name: str, default: int) -> int:
    """Return the environment's value, or the default."""
    return int(os.environ.get(name, default))


@contextmanager
def live_edits(kafka: KafkaSettings, study: str, every_seconds: float = 0.1) -> Iterator[None]:
    """While the block runs, publish transactions of 200 new versions of 1 000 records."""
    stop, version = threading.Event(), 100
    log = KafkaEventLog(kafka, study)
    log.open()

    def publish() -> None:
        nonlocal version
        while not stop.wait(every_seconds):
            version += 1
            first = version * 200 % 1000 + 1
            rows = [
                record_row(
                    each, studyKey=study, recordStatus=f"v{version}", subjectId=each % 40 + 1
                )
                for each in range(first, first + 200)
            ]
            events = [(upsert(each, version), each["subjectId"]) for each in rows]
            log.publish(events, [], Cursor(study_key=study))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
