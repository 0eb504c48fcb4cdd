"""A topic whose messages become visible all at once, when an open transaction commits.

The measured programs have started and joined their group before the clock starts, and nothing is
produced while it runs.
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
    """A workload in the topic, not yet visible."""

    producer: Producer
    last: dict[int, tuple[int, int]]
    """Record id and version of the last event, by partition."""

    def commit(self) -> float:
        """Make the workload visible; return the start of the commit, in monotonic seconds."""
        started = time.monotonic()
        self.producer.commit_transaction(60)
        return started


class Feed:
    """The topic of one contender."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self.servers, self.topic, self.partitions = servers, topic, partitions
        self._admin = AdminClient({"bootstrap.servers": servers})
        new = NewTopic(topic, partitions, 1)
        for future in self._admin.create_topics([new]).values():
            future.result(30)

    def load(self, work: Work) -> Loaded:
        """Produce a workload within a transaction that stays open."""
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
            if event.entity == "record":
                last[partition] = int(event.id), event.version
        producer.flush(60)
        return Loaded(producer, last)

    def wait_for_members(self, group: str, count: int) -> None:
        """Block until this many members own all partitions between them.

        Raises:
            TimeoutError: they do not within a minute.
        """
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                found = self._admin.describe_consumer_groups([group])[group].result(10)
            except KafkaException:
                continue
            shares = [len(each.assignment.topic_partitions) for each in found.members]
            is_stable = found.state == ConsumerGroupState.STABLE and all(shares)
            if is_stable and len(shares) == count and sum(shares) == self.partitions:
                time.sleep(1.0)
                return
            time.sleep(0.1)
        raise TimeoutError(f"Group {group} does not have {count} members with partitions")

    def observer(self, group: str) -> "Observer":
        """Return an observer of a group's committed offsets."""
        return Observer(self.servers, self.topic, self.partitions, group)


class Observer:
    """Reads a group's committed offsets without joining it."""

    def __init__(self, servers: str, topic: str, partitions: int, group: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": group})
        self._partitions = [RawTopicPartition(topic, each) for each in range(partitions)]

    def is_caught_up(self, messages_left: int = 0) -> bool:
        """Return whether all but control records is committed (each transaction ends with one)."""
        ends = [self._consumer.get_watermark_offsets(each, 10)[1] for each in self._partitions]
        committed = self._consumer.committed(self._partitions, 10)
        return all(
            max(0, at.offset) >= end - 1 - messages_left
            for at, end in zip(committed, ends, strict=True)
        )
