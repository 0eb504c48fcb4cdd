from collections.abc import Callable, Mapping
from dataclasses import replace
from unittest.mock import MagicMock

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer
from confluent_kafka import TopicPartition as RawTopicPartition

from connector.config import KafkaSettings
from connector.errors import FatalError, RetryableError
from connector.interfaces import Position, TopicPartition
from connector.kafka import start_positions
from connector.kafka.offset_metadata import OffsetMetadata
from connector.kafka.start_positions import GroupPosition, Log, Start, StartPositions, begin
from connector.model.cursor import TopicMark

KAFKA = KafkaSettings(bootstrap_servers="127.0.0.1:1")
NOW = Log(first=10, next=100, topic_id="T1", epoch=5)


def group_at(committed: int | None, topic_id: str = "T1") -> GroupPosition:
    return GroupPosition(committed, Position(committed or 0, 5), OffsetMetadata(topic_id))


@pytest.mark.parametrize("committed", [10, 50, 100])
def test_a_group_resumes_at_its_committed_offset(committed: int) -> None:
    """A group resumes at its committed offset."""
    assert begin(group_at(committed), NOW) == Start(committed)


def test_a_group_that_never_committed_begins_at_the_first_event() -> None:
    """A group without committed offsets begins at the topic's first offset."""
    assert begin(group_at(None, ""), NOW) == Start(10)


@pytest.mark.parametrize(
    ("committed", "topic_id", "gap"),
    [
        (9, "T1", "offsets [9, 10) are no longer in the topic"),
        (50, "T0", "the topic was recreated after offset 50 was committed"),
    ],
)
def test_a_gap_is_reported_with_its_offset_range(committed: int, topic_id: str, gap: str) -> None:
    """A gap is reported with the offsets that are missing."""
    assert begin(group_at(committed, topic_id), NOW) == Start(10, gap)


@pytest.mark.parametrize(("committed", "is_truncated"), [(101, False), (50, True)])
def test_a_truncated_log_is_read_again_from_its_beginning(
    committed: int,
    is_truncated: bool,  # noqa: FBT001
) -> None:
    """A truncated log is read again from its beginning: offsets below may hold other events."""
    log = replace(NOW, is_truncated=is_truncated)
    assert begin(group_at(committed), log) == Start(10, is_reread=True)


def test_a_recreated_topic_is_a_gap_even_if_the_epochs_look_truncated() -> None:
    """A recreated topic is reported as a gap, not reread as a truncated log."""
    assert begin(group_at(50, "T0"), replace(NOW, is_truncated=True)).gap is not None


def test_committed_offsets_without_a_topic_id_are_trusted() -> None:
    """Committed offsets are trusted if either topic id is unknown."""
    assert begin(group_at(50, ""), NOW) == Start(50)
    assert begin(group_at(50), replace(NOW, topic_id="")) == Start(50)


class Broker:
    """One partition's log, and the leader epochs it remembers: the semantics of KIP-320."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.end, self.first, self.epochs = 10, 0, {5: 0}
        self.topic_id = "T1"
        self.committed = RawTopicPartition("t", 0, OFFSET_INVALID)
        self.while_asked: Callable[[], None] = lambda: None
        monkeypatch.setattr(start_positions, "mark_of", self.mark)
        monkeypatch.setattr(start_positions, "truncated", self.truncated)
        monkeypatch.setattr(StartPositions, "_committed", lambda *_: [self.committed])

    def elect(self, epoch: int, cut: int | None = None) -> None:
        """Elect a leader; an unclean one cuts the log."""
        self.end = self.end if cut is None else cut
        self.epochs = {each: start for each, start in self.epochs.items() if start < self.end}
        self.epochs[epoch] = self.end

    def mark(self, *_: object) -> TopicMark:
        mark = TopicMark(
            topic_id=self.topic_id, starts=(self.first,), ends=(self.end,),
            epochs=(max(self.epochs),),
        )  # fmt: skip
        self.while_asked()
        return mark

    def truncated(
        self, _: KafkaSettings, __: str, positions: Mapping[int, Position], ___: str
    ) -> set[int]:
        def end_of(epoch: int | None) -> int:
            later = [at for each, at in self.epochs.items() if each > (epoch or 0)]
            return min(later, default=self.end)

        return {each for each, at in positions.items() if end_of(at.leader_epoch) < at.offset}


class Group:
    """A group with one member: what it has committed, and where its next member starts."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.restart()

    def restart(self) -> int:
        self.member = StartPositions(KAFKA, "g", accept_gap=False)
        asked = [RawTopicPartition("t", 0)]
        (position,), starts = self.member.positions(MagicMock(spec=Consumer), asked)
        self.checkpoint = starts[TopicPartition("t", 0)].checkpoint
        return position.offset

    def commit(self, at: Position) -> None:
        metadata = self.member.metadata(TopicPartition("t", 0), at)
        self.broker.committed = RawTopicPartition("t", 0, at.offset, metadata=metadata)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker(monkeypatch)


def test_control_records_of_a_later_leader_do_not_look_like_a_truncated_log(
    broker: Broker,
) -> None:
    """Control records of a later leader do not look like a truncated log.

    It ends the open transaction of the one before, and its first record is the marker.
    """
    group = Group(broker)
    broker.end = 20
    group.commit(Position(18, 5))
    broker.elect(6)
    broker.end = 21
    group.commit(Position(21, 5, 18))
    group.member.check_log("t")
    assert group.restart() == 18  # only control records are read again
    group.member.check_log("t")
    group.commit(Position(21, None))
    assert group.restart() == 21  # the new leader is known to have it


def test_what_was_read_before_a_truncation_is_not_committed_as_intact(broker: Broker) -> None:
    """Messages that were read before a truncation and are applied after the check are not intact.

    The check knows only what was committed by then.
    """
    group = Group(broker)
    broker.end = 105
    group.commit(Position(50, 5))
    broker.elect(6, cut=70)
    broker.end = 130
    group.member.check_log("t")
    group.commit(Position(105, 5))
    with pytest.raises(FatalError, match="truncated"):
        group.member.check_log("t")
    assert group.restart() == 0


@pytest.mark.parametrize("grown_to", [70, 130])
def test_a_log_that_is_truncated_while_a_partition_is_idle_is_noticed(
    broker: Broker, grown_to: int
) -> None:
    """A log that is truncated below the last message is noticed, at a start and meanwhile."""
    group = Group(broker)
    broker.end = 101
    group.commit(Position(101, 5, 100))
    broker.elect(6, cut=70)
    broker.end = grown_to
    with pytest.raises(FatalError, match="truncated"):
        group.member.check_log("t")
    assert group.restart() == 0
    group.commit(Position(60, 5))
    assert group.restart() == 60


def test_a_checkpoint_from_before_a_truncation_does_not_count_for_the_log_after_it(
    broker: Broker,
) -> None:
    """A checkpoint from before a truncation does not count for the log after it.

    A graph that is restored from a backup may have one beyond the cut, where other events are now.
    """
    group = Group(broker)
    broker.end = 101
    group.commit(Position(101, 5))
    backup = group.checkpoint
    broker.elect(6, cut=70)
    broker.end = 130
    assert group.restart() == 0
    assert group.checkpoint != backup
    reread = group.checkpoint
    group.commit(Position(130, 6))
    assert (group.restart(), group.checkpoint) == (130, reread)
    broker.elect(7, cut=120)
    assert group.restart() == 0
    assert group.checkpoint not in (backup, reread)


def test_a_lost_end_of_a_transaction_whose_place_other_events_have_is_no_gap(
    broker: Broker,
) -> None:
    """If only control records were cut off, the events that have their place now are read."""
    group = Group(broker)
    broker.end = 101
    group.commit(Position(101, 5, 100))
    broker.elect(6, cut=100)
    broker.end = 130
    group.member.check_log("t")
    assert group.restart() == 100


def test_a_group_without_epochs_starts_where_it_stopped(broker: Broker) -> None:
    """Offsets of earlier versions and of other tools have no epoch, and are trusted."""
    group = Group(broker)
    broker.elect(9)
    broker.committed = RawTopicPartition("t", 0, 7, metadata="T1")
    assert group.restart() == 7
    broker.committed = RawTopicPartition("t", 0, 7)
    assert group.restart() == 7


def test_what_is_committed_while_the_log_is_checked_does_not_look_truncated(
    broker: Broker,
) -> None:
    """A position that is committed while the log is checked may be beyond the end that was read."""
    group = Group(broker)
    broker.while_asked = lambda: group.commit(Position(20, 5))
    group.member.check_log("t")
    broker.while_asked, broker.end = (lambda: None), 20
    group.member.check_log("t")
    assert group.restart() == 20


def test_a_seek_has_an_epoch_only_where_the_log_is_known_to_be_intact(broker: Broker) -> None:
    """A seek beyond what is known to be intact has no epoch: a wrong one would stop the client."""
    group = Group(broker)
    at = TopicPartition("t", 0)
    group.commit(Position(8, 5))
    assert [group.member.epoch(at, offset) for offset in (3, 8, 9)] == [5, 5, -1]
    group.member.forget(0)
    assert group.member.epoch(at, 3) == -1


def test_a_truncation_of_a_log_without_epochs_is_noticed_by_its_end(broker: Broker) -> None:
    """A truncation is noticed by the log's end alone if the brokers do not tell epochs."""
    broker.epochs = {-1: 0}
    group = Group(broker)
    broker.end = 101
    group.commit(Position(101, None))
    assert group.restart() == 101
    broker.end = 70
    assert group.restart() == 0
    assert group.checkpoint == "T1/g/0"


def test_a_broker_that_does_not_know_a_partition_yet_is_asked_again(broker: Broker) -> None:
    """A broker that does not know a new partition yet is asked again."""
    group = Group(broker)
    with pytest.raises(RetryableError, match="1 partitions"):
        group.member._truncated("t", broker.mark(), {1: Position(0, 5)})


@pytest.mark.parametrize("note", ["", "T1", 'T1 {"from": 1}', ' {"from": 1}'])
def test_the_note_of_an_offset_is_kept_by_the_next_commit(broker: Broker, note: str) -> None:
    """The note of a committed offset is kept by the next commit."""
    broker.topic_id = note.partition(" ")[0]
    group = Group(broker)
    broker.committed = RawTopicPartition("t", 0, 5, metadata=note)
    group.restart()
    before = GroupPosition.parsed(broker.committed)
    group.commit(Position(8, 5))
    after = GroupPosition.parsed(broker.committed)
    assert after.metadata == before.metadata._replace(intact=Position(8, 5))
    assert after.intact == Position(8, 5)
    assert (broker.committed.metadata or "").partition(" ")[2] == note.partition(" ")[2]


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
