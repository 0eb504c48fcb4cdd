from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from confluent_kafka import Consumer

from connector.config import KafkaSettings
from connector.interfaces import Range
from connector.kafka import topic_log
from connector.kafka.topic_log import OpenTransactionError, read_ranges

KAFKA = KafkaSettings(bootstrap_servers="127.0.0.1:1")


def message(partition: int, offset: int) -> MagicMock:
    return MagicMock(**{
        "error.return_value": None, "partition.return_value": partition,
        "offset.return_value": offset,
    })  # fmt: skip


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Iterator[MagicMock]:
    """A consumer; each of its calls takes ten seconds."""
    now = 0.0
    made = MagicMock(spec=Consumer)

    def monotonic() -> float:
        nonlocal now
        now += 5.0
        return now

    monkeypatch.setattr(topic_log, "made", lambda *_, **__: made)
    monkeypatch.setattr(topic_log.time, "monotonic", monotonic)
    yield made
    made.close.assert_called_once()


def test_new_messages_of_another_partition_do_not_hide_an_open_transaction(
    consumer: MagicMock,
) -> None:
    """A partition that is held back is reported although others get new messages all the time."""
    offsets = iter(range(100))

    def consume(*_: Any) -> list[MagicMock]:
        return [message(0, next(offsets))]

    consumer.consume.side_effect = consume
    with pytest.raises(OpenTransactionError):
        list(read_ranges(KAFKA, "t", {0: Range(0, 2), 1: Range(0, 5)}))
    assert [each.args[0][0].partition for each in consumer.pause.call_args_list] == [0]


def test_a_long_log_may_take_any_time(consumer: MagicMock) -> None:
    """A long log may take any time, as long as its messages arrive."""
    offsets = iter(range(1000))
    consumer.consume.side_effect = lambda *_: [message(0, next(offsets))]
    assert len(list(read_ranges(KAFKA, "t", {0: Range(0, 500)}))) == 500
