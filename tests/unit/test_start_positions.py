from collections.abc import Mapping
from dataclasses import replace

import pytest
from confluent_kafka import TopicPartition as RawTopicPartition

from connector.config import KafkaSettings
from connector.errors import FatalError
from connector.interfaces import Position
from connector.kafka import start_positions
from connector.kafka.start_positions import Log, Start, StartPositions, begin
from connector.model.cursor import TopicMark

KAFKA = KafkaSettings(bootstrap_servers="127.0.0.1:1")
MARK = TopicMark(topic_id="T1", starts=(0,), ends=(10,), epochs=(7,))
NOW = Log(first=10, next=100, topic_id="T1")


@pytest.mark.parametrize("committed", [10, 50, 100])
def test_a_group_resumes_at_its_committed_offset(committed: int) -> None:
    """A group resumes at its committed offset."""
    assert begin(committed, "T1", NOW) == Start(committed)


def test_a_group_that_never_committed_begins_at_the_first_event() -> None:
    """A group without committed offsets begins at the topic's first offset."""
    assert begin(None, "", NOW) == Start(10)


@pytest.mark.parametrize(
    ("committed", "topic_id", "gap"),
    [
        (9, "T1", "offsets [9, 10) are no longer in the topic"),
        (50, "T0", "the topic was recreated after offset 50 was committed"),
    ],
)
def test_a_gap_is_reported_with_its_offset_range(committed: int, topic_id: str, gap: str) -> None:
    """A gap is reported with the offsets that are missing."""
    assert begin(committed, topic_id, NOW) == Start(10, gap)


@pytest.mark.parametrize(("committed", "is_truncated"), [(101, False), (50, True)])
def test_a_truncated_log_is_read_again_from_its_beginning(
    committed: int,
    is_truncated: bool,  # noqa: FBT001
) -> None:
    """A truncated log is read again from its beginning: offsets below may hold other events."""
    log = replace(NOW, is_truncated=is_truncated)
    assert begin(committed, "T1", log) == Start(10, is_reread=True)


def test_a_recreated_topic_is_a_gap_even_if_the_epochs_look_truncated() -> None:
    """A recreated topic is reported as a gap, not reread as a truncated log."""
    assert begin(50, "T0", replace(NOW, is_truncated=True)).gap is not None


def test_a_position_is_committed_with_the_highest_epoch_known() -> None:
    """A position is committed with the highest leader epoch known.

    A later leader may have written control records before it: with the last message's epoch, the
    log would look truncated.
    """
    starting = StartPositions(KAFKA, "g", accept_gap=False)
    assert starting.epoch(0) == -1
    assert starting.epoch(0, 3) == 3
    starting._begin(RawTopicPartition("t", 0, 5), MARK, is_truncated=False)
    assert (starting.epoch(0), starting.epoch(0, 3), starting.epoch(0, 8)) == (7, 7, 8)


def test_committed_offsets_without_a_topic_id_are_trusted() -> None:
    """Committed offsets are trusted if either topic id is unknown."""
    assert begin(50, "", NOW) == Start(50)
    assert begin(50, "T1", Log(10, 100, "")) == Start(50)


@pytest.mark.parametrize(
    ("end", "epoch", "cut"),
    [(10, 7, False), (4, 8, True), (20, 8, True), (20, 8, False)],
)
def test_a_log_that_is_truncated_meanwhile_ends_the_member(
    end: int,
    epoch: int,
    cut: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A log that is truncated below what was committed ends the member.

    Also before it has grown again: from then on, the offset would count as one of the new leader.
    """
    asked: list[Mapping[int, Position]] = []

    def truncated(
        _: KafkaSettings, __: str, positions: Mapping[int, Position], ___: str
    ) -> set[int]:
        asked.append(positions)
        return set(positions) if cut else set()

    now = MARK.model_copy(update={"ends": (end,), "epochs": (epoch,)})
    monkeypatch.setattr(start_positions, "mark_of", lambda *_: now)
    monkeypatch.setattr(start_positions, "truncated", truncated)
    starting = StartPositions(KAFKA, "g", accept_gap=False)
    starting._begin(RawTopicPartition("t", 0, 5), MARK, is_truncated=False)
    if cut:
        with pytest.raises(FatalError, match="truncated"):
            starting.check_log("t")
        assert starting.epoch(0) == 7
    else:
        starting.check_log("t")
        assert starting.epoch(0) == epoch
    assert asked == [{0: Position(5, 7)} if epoch == 8 and end > 5 else {}]
    starting.forget(0)
    starting.check_log("t")


@pytest.mark.parametrize("note", ["", "T1", 'T1 {"from": 1}', ' {"from": 1}'])
def test_the_note_of_an_offset_is_kept_by_the_next_commit(note: str) -> None:
    """The note of a committed offset is kept by the next commit."""
    starting = StartPositions(KAFKA, "g", accept_gap=False)
    starting.topic_id = note.partition(" ")[0]
    committed = RawTopicPartition("t", 0, 5, metadata=note)
    starting._begin(committed, MARK, is_truncated=False)
    assert starting.note(0) == note


def test_recreating_the_topic_under_kept_partitions_ends_the_member() -> None:
    """Recreating the topic while a member keeps its partitions ends the member.

    In a cooperative rebalance it keeps offsets of the old topic, which are meaningless in the
    new one.
    """
    starting = StartPositions(KAFKA, "g", accept_gap=True)
    starting.check("t", "T1")
    starting.check("t", "")  # a broker without topic ids
    starting.check("t", "T1")
    with pytest.raises(FatalError, match="deleted and recreated"):
        starting.check("t", "T2")


def test_what_is_committed_while_the_log_is_checked_does_not_look_truncated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An offset committed while the log is checked may be beyond the end that was read."""
    starting = StartPositions(KAFKA, "g", accept_gap=False)
    starting._begin(RawTopicPartition("t", 0, 5), MARK, is_truncated=False)

    def mark(*_: object) -> TopicMark:
        starting.committed([RawTopicPartition("t", 0, 20, leader_epoch=7)])
        return MARK

    monkeypatch.setattr(start_positions, "mark_of", mark)
    starting.check_log("t")
    assert starting._committed_at == {0: Position(20, 7)}
