import pytest
from confluent_kafka import TopicPartition as RawTopicPartition

from connector.config import KafkaSettings
from connector.errors import FatalError
from connector.interfaces import Range
from connector.kafka.start_positions import Log, StartPositions, begin

NOW = Log(first=10, next=100, topic_id="T1")


@pytest.mark.parametrize("committed", [10, 50, 100])
def test_a_group_goes_on_where_it_committed(committed: int) -> None:
    assert begin(committed, "T1", NOW) == (committed, None)


def test_a_group_that_never_committed_begins_at_the_first_event() -> None:
    assert begin(None, "", NOW) == (10, None)


@pytest.mark.parametrize(
    ("committed", "topic_id", "gap"),
    [
        (9, "T1", "offsets [9, 10) are not in the topic any more"),
        (101, "T1", "offsets [100, 101) were cut off from the topic"),
        (50, "T0", "the topic was made anew after offset 50 was committed"),
    ],
)
def test_what_is_missing_is_said_with_its_range(committed: int, topic_id: str, gap: str) -> None:
    assert begin(committed, topic_id, NOW) == (10, gap)


def test_offsets_that_do_not_name_their_topic_are_taken_as_they_are() -> None:
    assert begin(50, "", NOW) == (50, None)
    assert begin(50, "T1", Log(10, 100, "")) == (50, None)


@pytest.mark.parametrize("note", ["", "T1", 'T1 {"from": 1}', ' {"from": 1}'])
def test_what_stood_behind_an_offset_is_committed_with_the_next(note: str) -> None:
    starting = StartPositions(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "g", accept_gap=False)
    starting.topic_id = note.partition(" ")[0]
    starting._begin(RawTopicPartition("t", 0, 5, metadata=note), Range(0, 10))
    assert starting.note(0) == note


def test_a_topic_that_is_made_anew_under_kept_partitions_ends_the_member() -> None:
    """In a cooperative rebalance it keeps offsets of the old one, which say nothing of the new."""
    starting = StartPositions(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "g", accept_gap=True)
    starting.check("t", "T1")
    starting.check("t", "")  # a broker that does not say
    starting.check("t", "T1")
    with pytest.raises(FatalError, match="deleted and made again"):
        starting.check("t", "T2")
