"""A topic whose messages become visible all at once: they wait in an open transaction.

So the programs that are measured are up and have joined their group before the clock starts,
and nobody produces while it runs.
"""

import time
from dataclasses import dataclass

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, Producer
from confluent_kafka import TopicPartition as RawTopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.work import Work, messages
from connector.kafka.partitioner import partition_of


@dataclass(slots=True)
class Loaded:
    """A work in the topic, not yet visible."""

    producer: Producer
    last: dict[int, tuple[int, int]]
    """By partition: record id and version of the last event."""

    def show(self) -> float:
        """Make it visible; when, in monotonic seconds."""
        began = time.monotonic()
        self.producer.commit_transaction(60)
        return began


class Feed:
    """One topic of one contender."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self.servers, self.topic, self.partitions = servers, topic, partitions
        self._admin = AdminClient({"bootstrap.servers": servers})
        new = NewTopic(topic, partitions, 1)
        for future in self._admin.create_topics([new]).values():
            future.result(30)

    def load(self, work: Work) -> Loaded:
        """Produce it within a transaction that stays open."""
        producer = Producer({
            "bootstrap.servers": self.servers, "transactional.id": f"{self.topic}-{time.time_ns()}",
            "transaction.timeout.ms": 600_000, "compression.type": "lz4",
            "queue.buffering.max.messages": 0, "queue.buffering.max.kbytes": 1_000_000,
        })  # fmt: skip
        producer.init_transactions(30)
        producer.begin_transaction()
        last = {}
        for event, subject, key, value, headers in messages(work):
            partition = partition_of(event.identity, subject, self.partitions)
            producer.produce(self.topic, value, key, partition, headers=headers)
            last[partition] = int(event.id), event.version
        producer.flush(60)
        return Loaded(producer, last)

    def wait_for_members(self, group: str, count: int) -> None:
        """Until so many members have partitions."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                found = self._admin.describe_consumer_groups([group])[group].result(10)
            except KafkaException:
                continue
            shares = [len(each.assignment.topic_partitions) for each in found.members]
            stable = found.state == ConsumerGroupState.STABLE and all(shares)
            if stable and len(shares) == count and sum(shares) == self.partitions:
                time.sleep(1.0)
                return
            time.sleep(0.1)
        raise TimeoutError(f"{group}: {count} members have not joined")

    def observer(self, group: str) -> "Observer":
        """Asks where the group is."""
        return Observer(self.servers, self.topic, self.partitions, group)


class Observer:
    """Looks at a group's committed offsets from outside."""

    def __init__(self, servers: str, topic: str, partitions: int, group: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": group})
        self._partitions = [RawTopicPartition(topic, each) for each in range(partitions)]

    def is_through(self, messages_left: int = 0) -> bool:
        """Whether all but control records is committed (a transaction ends with one record)."""
        ends = [self._consumer.get_watermark_offsets(each, 10)[1] for each in self._partitions]
        committed = self._consumer.committed(self._partitions, 10)
        return all(
            max(0, at.offset) >= end - 1 - messages_left
            for at, end in zip(committed, ends, strict=True)
        )
