"""The sink's loop turns any delivery of any history into the graph of its fold."""

import random
import threading
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from connector.config import SinkSettings
from connector.errors import BatchTooLargeError, RetryableError
from connector.interfaces import PollResult, Position, TopicPartition
from connector.model.events import RecordEvent
from connector.sink.ports import SinkPorts
from connector.sink.sink_task import SinkTask
from tests.builders import delete, is_drained, record_row, upsert
from tests.fakes.clock import FakeClock
from tests.fakes.in_memory_graph import InMemoryGraph
from tests.fakes.in_memory_kafka import InMemoryConsumer, InMemoryDeadLetterQueue, InMemoryTopic
from tests.fakes.inline_writers import InlineWriters
from tests.oracle import assert_equal, fold


def history(rng: random.Random) -> list[RecordEvent]:
    events: list[RecordEvent] = []
    for version in range(1, rng.randint(2, 60)):
        number = rng.randint(1, 6)
        if rng.random() < 0.2:
            events.append(delete(number, version))
            continue
        changed: dict[str, Any] = {
            "visitId": rng.choice([None, 0, 5, 6]), "subjectId": rng.choice([None, 11, 12]),
            "parentRecordId": rng.choice([0, 1, 2]), "recordData": {f"v{version % 3}": version},
        }  # fmt: skip
        events.append(upsert(record_row(number, **changed), version))
    return events


def deliver(topic: InMemoryTopic, rng: random.Random) -> InMemoryGraph:
    """Consume with restarts, failures, offsets moved back and restored graphs."""
    committed: dict[TopicPartition, Position] = {}
    graph, clock = InMemoryGraph(), FakeClock()
    backups = [graph.backup()]
    for round_number in range(4):
        consumer = InMemoryConsumer(topic, committed)
        stop = threading.Event()
        polls = rng.randint(1, 8) if round_number < 3 else None
        poll = consumer.poll

        def limited(max_messages: int, timeout_seconds: float) -> PollResult:
            nonlocal polls
            clock.advance(1)
            backups.append(graph.backup())
            if rng.random() < 0.05 and polls is not None:
                graph.restore(rng.choice(backups))  # of any age: the first is empty
            found = poll(max_messages, timeout_seconds)  # noqa: B023
            if polls is None:
                if not found.messages and not found.ends and is_drained(task):  # noqa: B023
                    stop.set()  # noqa: B023
            elif (polls := polls - 1) <= 0:
                stop.set()  # noqa: B023
            return found

        consumer.poll = limited  # type: ignore[method-assign]
        graph.failures = rng.choices(
            [None, RetryableError("x"), BatchTooLargeError("x")], [8, 1, 1], k=6
        )
        ports = SinkPorts(consumer, graph, InMemoryDeadLetterQueue(), clock, InlineWriters())
        limits = {"transaction_events_max": rng.randint(2, 9), "batch_events_max": 20}
        if rng.random() < 0.3:  # as if killed: what was applied is not committed
            consumer.commit_failures = [RetryableError("x")] * 100
        task = SinkTask(ports, SinkSettings(check_interval_seconds=1.5, **limits))
        task.run(stop)
        for partition in list(committed):
            if rng.random() < 0.3 and round_number < 3:
                committed[partition] = Position(0, None)
    return graph


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**9))
def test_shuffled_repeated_and_interrupted_delivery_gives_the_graph_of_the_fold(seed: int) -> None:
    """Shuffled, repeated and interrupted delivery gives the graph of the ordered history."""
    rng = random.Random(seed)
    events = history(rng)
    in_order = InMemoryTopic(1)
    for event in events:
        in_order.append_event(event)
    shuffled = events + rng.choices(events, k=len(events))
    rng.shuffle(shuffled)
    topic = InMemoryTopic(3)
    for event in shuffled:
        topic.append_event(event, rng.choice([None, 11, 12]))
    graph = deliver(topic, rng)
    assert_equal(fold(in_order.messages()), graph.state("S1"))
