import pytest
from confluent_kafka import TopicPartition as RawTopicPartition

from connector.config import KafkaSettings
from connector.errors import FatalError
from connector.interfaces import Range
from connector.kafka.start_positions import Log, StartPositions, begin

NOW = Log(first=10, next=100, topic_id="T1")


@pytest.mark.parametrize("committed", [10, 50, 100])
def test_a_group_resumes_at_its_committed_offset(committed: int) -> None:
    """A group resumes at its committed offset."""
    assert begin(committed, "T1", NOW) == (committed, None)


def test_a_group_that_never_committed_begins_at_the_first_event() -> None:
    """A group without committed offsets begins at the topic's first offset."""
    assert begin(None, "", NOW) == (10, None)


@pytest.mark.parametrize(
    ("committed", "topic_id", "gap"),
    [
        (9, "T1", "offsets [9, 10) are no longer in the topic"),
        (101, "T1", "offsets [100, 101) were truncated from the topic"),
        (50, "T0", "the topic was recreated after offset 50 was committed"),
    ],
)
def test_a_gap_is_reported_with_its_offset_range(committed: int, topic_id: str, gap: str) -> None:
    """A gap is reported with the offsets that are missing."""
    assert begin(committed, topic_id, NOW) == (10, gap)


def test_committed_offsets_without_a_topic_id_are_trusted() -> None:
    """Committed offsets are trusted if either topic id is unknown."""
    assert begin(50, "", NOW) == (50, None)
    assert begin(50, "T1", Log(10, 100, "")) == (50, None)


@pytest.mark.parametrize("note", ["", "T1", 'T1 {"from": 1}', ' {"from": 1}'])
def test_the_note_of_an_offset_is_kept_by_the_next_commit(note: str) -> None:
    """The note of a committed offset is kept by the next commit."""
    starting = StartPositions(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "g", accept_gap=False)
    starting.topic_id = note.partition(" ")[0]
    starting._begin(RawTopicPartition("t", 0, 5, metadata=note), Range(0, 10))
    assert starting.note(0) == note


def test_recreating_the_topic_under_kept_partitions_ends_the_member() -> None:
    """Recreating the topic while a member keeps its partitions ends the member.

    In a cooperative rebalance it keeps offsets of the old topic, which are meaningless in the
    new one.
    """
    starting = StartPositions(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "g", accept_gap=True)
    starting.check("t", "T1")
    starting.check("t", "")  # a broker without topic ids
    starting.check("t", "T1")
    with pytest.raises(FatalError, match="deleted and recreated"):
        starting.check("t", "T2")
