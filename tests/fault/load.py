"""A load for a sink, straight to the topic, and the topic's messages for the oracle."""

from connector.config import KafkaSettings
from connector.cursor import Cursor
from connector.demo.simulator.study import build_study
from connector.interfaces import Message, TopicPartition
from connector.kafka.event_log import KafkaEventLog
from connector.kafka.topic_log import read_to_end
from tests.builders import upsert


def publish_load(kafka: KafkaSettings, study: str, records: int) -> None:
    """Records of a simulated study, each in two versions, straight to the topic."""
    log = KafkaEventLog(kafka, study)
    log.open()
    rows = list(build_study(study, 100, records // 2, 1).table("records").rows())
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
        Message(TopicPartition("t", raw.partition() or 0), 0, None, 0, raw.key(), raw.value(), [])
        for raw in read_to_end(kafka, kafka.events_topic)
    ]
