"""How far a consumer group is behind."""

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as RawTopicPartition

from connector.config import KafkaSettings
from connector.kafka.failures import error_of, translate
from connector.kafka.settings import group_observer
from connector.kafka.topics import Topics


class GroupLag:
    """Reads the lag of one group on the events topic; keeps its connection, joins nothing.

    Not by the admin client: when the answer to its ``list_consumer_group_offsets`` holds a
    coordinator error (a new broker), librdkafka 2.16.0 follows a null pointer in
    ``rd_kafka_handle_OffsetFetch`` and the process dies. A consumer that never subscribes asks
    the same safely.
    """

    def __init__(self, settings: KafkaSettings, group_id: str) -> None:
        count = Topics(settings).partitions(settings.events_topic)
        self._partitions = [RawTopicPartition(settings.events_topic, each) for each in range(count)]
        self._timeout = settings.request_timeout_seconds
        self._consumer = Consumer(group_observer(settings, group_id))

    def read(self) -> int:
        """Offsets that the group has not committed; 0 when it has all. Blocks.

        Raises:
            RetryableError: the brokers do not answer, or the coordinator is not known yet.
        """
        try:
            ends = [
                self._consumer.get_watermark_offsets(each, timeout=self._timeout)[1]
                for each in self._partitions
            ]
            committed = self._consumer.committed(self._partitions, timeout=self._timeout)
        except KafkaException as exception:
            raise translate(error_of(exception), "reading the group's lag") from exception
        return sum(ends) - sum(max(0, each.offset) for each in committed)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
