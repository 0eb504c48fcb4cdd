"""Redriving dead letters: each is applied once, never back in time, and marked."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from threading import Event
from typing import Any

import pytest
import structlog

from connector.cli.dlq import parse_time
from connector.config import KafkaSettings
from connector.errors import FatalError, InvalidEventError, RetryableError
from connector.interfaces import DeadLetter, InvalidRow, Message, ProbeResult, TopicPartition
from connector.kafka.dead_letter_topic import _mark_of, entry_of
from connector.kafka.dead_letter_topic import message_in as message_in_topic
from connector.kafka.dead_letters import (
    CONNECT,
    invalid_row_headers,
    letter_headers,
    oversize_headers,
)
from connector.model.events import Identity, RecordEvent
from connector.model.graph import NodeChange
from connector.model.groups import replay_group
from connector.model.letters import (
    Action,
    Letter,
    LetterFilter,
    LetterId,
    Mark,
    QueueHistory,
    Stage,
    state_of,
)
from connector.model.serde import Headers, encode
from connector.ops import redrive
from connector.ops.redrive import Redrive, Redriven, Refusals
from connector.outage import Outage, UntilDone
from connector.sink.applier import Applier
from tests.builders import STUDY, Details, delete, message, record_row, upsert
from tests.fakes.clock import FakeClock
from tests.fakes.in_memory_graph import InMemoryGraph, key_of

LOG = structlog.stdlib.get_logger("connector.test")


class Raw:
    """A message of the queue, as confluent_kafka returns it."""

    def __init__(
        self, offset: int, key: bytes | None, value: bytes | None, headers: Headers
    ) -> None:
        self._offset, self._key, self._value, self._headers = offset, key, value, headers

    def topic(self) -> str:
        return "dlq"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Headers:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000 + self._offset


def letter_of(raw: Any) -> Letter:
    found = entry_of(raw)
    assert isinstance(found, Letter)
    return found


def letter(at: int, event: RecordEvent, reason: str = "index_size") -> Letter:
    """Return the letter of an event that a sink could not apply."""
    key, value, headers = encode(event)
    return parsed(at, message(TopicPartition("events", 3), 70 + at, key, value, headers), reason)


def parsed(at: int, poison: Message, reason: str = "index_size") -> Letter:
    headers = letter_headers(DeadLetter(poison, reason, "explained", 4), "imednet-sink")
    return letter_of(Raw(at, poison.key, poison.value, headers))


class World:
    """A graph, and what a redrive marks."""

    def __init__(self) -> None:
        self.graph = InMemoryGraph()
        self.marks: list[Mark] = []
        self.clock = FakeClock()
        self.message_in: Callable[[Letter], Message | None] = message_in
        self.is_ours: Callable[[Letter], bool] = lambda _: True

    def redrive(self, letters: Sequence[Letter], *, dry_run: bool = False) -> Redriven:
        """Redrive the letters that are not marked."""
        refusals, result = Refusals(), Redriven()
        applier = Applier(
            self.graph, refusals, self.clock, transaction_events_max=10,
            transaction_bytes_max=10**6, skips_probes=False,
        )  # fmt: skip
        until_done = UntilDone(Outage("neo4j", self.clock, LOG), self.clock, 1.0, Event())
        redrive = Redrive(
            applier, refusals, self.message_in, self.marks.extend, until_done, self.is_ours
        )
        marked = {mark.letter for mark in self.marks}
        waiting = [each for each in letters if each.id not in marked]
        redrive.run(waiting, result, dry_run=dry_run)
        return result

    def version(self, record: int) -> int | None:
        identity = upsert(record_row(record)).identity
        node = self.graph.graph.nodes.get(key_of(identity), {})
        return node.get("_version")


def message_in(found: Letter) -> Message | None:
    if found.is_reference or found.origin is None:
        return None
    at = TopicPartition(found.origin.topic, found.origin.partition)
    return Message(at, found.origin.offset, found.key, found.value,
                   Details(found.headers, found.origin.timestamp_ms or 0, None))  # fmt: skip


def test_each_letter_is_applied_once_and_a_second_run_does_nothing() -> None:
    """Letters of many entities are applied and marked; the next run finds none."""
    world = World()
    letters = [letter(at, upsert(record_row(at + 1), 5)) for at in range(35)]
    assert world.redrive(letters) == Redriven(applied=35)
    assert [world.version(at + 1) for at in range(35)] == [5] * 35
    assert {mark.letter for mark in world.marks} == {each.id for each in letters}
    assert {mark.action for mark in world.marks} == {Action.REDRIVEN}
    writes = world.graph.writes
    assert world.redrive(letters) == Redriven()
    assert world.graph.writes == writes


def test_a_letter_that_is_obsolete_is_counted_as_such_after_many_that_are_not() -> None:
    """The count is right even where a sink would take a run of new entities for a first load."""
    world = World()
    world.redrive([letter(99, upsert(record_row(25), 50))])
    letters = [letter(at, upsert(record_row(at + 1), 5)) for at in range(40)]
    assert world.redrive(letters) == Redriven(applied=39, obsolete=1)
    assert world.version(25) == 50


@pytest.mark.parametrize("dry_run", [True, False])
def test_letters_that_are_obsolete_are_counted_after_a_full_part_of_new_ones(
    monkeypatch: pytest.MonkeyPatch,
    dry_run: bool,  # noqa: FBT001
) -> None:
    """What the graph has already is obsolete, although all letters before it were new."""
    monkeypatch.setattr(redrive, "_LETTERS_AT_ONCE", 10)
    world = World()
    world.redrive([letter(900 + at, upsert(record_row(100 + at), 50)) for at in range(10)])
    new = [letter(at, upsert(record_row(at + 1), 5)) for at in range(10)]
    old = [letter(10 + at, upsert(record_row(100 + at), 5)) for at in range(10)]
    assert world.redrive([*new, *old], dry_run=dry_run) == Redriven(applied=10, obsolete=10)


def test_an_old_letter_never_takes_an_entity_back_in_time() -> None:
    """Whatever the order of the letters, and whatever the graph has, the newest state stays."""
    world = World()
    world.redrive([letter(0, upsert(record_row(1), 50))])
    old = [letter(1, upsert(record_row(1, recordStatus="old"), 3)), letter(2, delete(1, 40))]
    assert world.redrive(old) == Redriven(obsolete=2)
    assert world.version(1) == 50
    mixed = [letter(3, upsert(record_row(2), 9)), letter(4, upsert(record_row(2), 7)),
             letter(5, delete(2, 8))]  # fmt: skip
    assert world.redrive(mixed) == Redriven(applied=1, obsolete=2)
    assert world.version(2) == 9


def test_a_tombstone_has_the_time_of_its_message_and_not_that_of_its_letter() -> None:
    """The letter is newer than the states that followed the tombstone, which must stay."""
    world = World()
    key = upsert(record_row(1)).identity.to_key()
    tombstone = message(TopicPartition("events", 0), 1, key, None, timestamp_ms=1_000)
    world.redrive([letter(0, upsert(record_row(1), 2_000))])
    assert world.redrive([parsed(1, tombstone)]) == Redriven(obsolete=1)
    assert world.version(1) == 2_000
    found = parsed(1, tombstone)
    assert found.origin is not None
    assert found.origin.timestamp_ms == 1_000 < found.time_ms


def test_what_is_still_refused_stays_in_the_queue_and_is_not_dead_lettered_again() -> None:
    """Letters that the graph still refuses are counted by reason; their neighbours are applied."""
    world = World()

    def refuse(changes: Sequence[NodeChange]) -> None:
        if any(change.identity.id == 3 for change in changes):
            raise InvalidEventError("too large to index", reason="index_size")

    world.graph.before_write = refuse
    letters = [letter(at, upsert(record_row(at + 1), 5)) for at in range(5)]
    poison = message(TopicPartition("events", 0), 1, b"canary", b"not an event")
    letters.append(parsed(5, poison, "key"))
    result = world.redrive(letters)
    assert result == Redriven(applied=4, refused=result.refused)
    assert result.refused == {"index_size": 1, "key": 1}
    assert LetterId(0, 2) not in {mark.letter for mark in world.marks}
    world.graph.before_write = lambda _: None
    again = world.redrive(letters)
    assert again == Redriven(applied=1, refused=again.refused)
    assert again.refused == {"key": 1}


def test_a_refused_state_leaves_the_older_one_of_its_entity() -> None:
    """Of two letters of one entity, the older is applied if the newer is still refused."""
    world = World()

    def refuse(changes: Sequence[NodeChange]) -> None:
        if any(change.version == 9 for change in changes):
            raise InvalidEventError("too large to index", reason="index_size")

    world.graph.before_write = refuse
    letters = [letter(0, upsert(record_row(1), 9)), letter(1, upsert(record_row(1), 8))]
    result = world.redrive(letters)
    assert world.version(1) == 8
    assert result == Redriven(applied=1, refused=result.refused)
    assert [mark.letter for mark in world.marks] == [letters[1].id]


def test_a_dry_run_changes_nothing_and_counts_the_same() -> None:
    """``--dry-run`` says what a redrive would do."""
    world = World()
    world.redrive([letter(0, upsert(record_row(1), 50))])
    letters = [letter(1, upsert(record_row(1), 3)), letter(2, upsert(record_row(2), 3))]
    before, marks = world.graph.backup(), list(world.marks)
    assert world.redrive(letters, dry_run=True) == Redriven(applied=1, obsolete=1)
    assert (world.graph.backup(), world.marks) == (before, marks)
    assert world.redrive(letters) == Redriven(applied=1, obsolete=1)


def test_rows_of_the_api_are_left_to_the_source() -> None:
    """The source tries them again by itself."""
    row = InvalidRow(STUDY, "record", b"{}", "unparsable")
    found = letter_of(Raw(0, b"record", b"{}", invalid_row_headers(row)))
    assert (found.stage, found.study, found.kind) == (Stage.SOURCE, STUDY, "record")
    assert World().redrive([found]) == Redriven(left_to_source=1)


def test_a_letter_keeps_the_headers_of_its_message_apart_from_its_own() -> None:
    """A message that was once a dead letter, or that forges our headers, is read as it is."""
    forged: Headers = [
        (f"{CONNECT}topic", b"forged"), (f"{CONNECT}exception.message", b"canary"),
        ("imednet.dlq", b"own"),
    ]  # fmt: skip
    poison = message(TopicPartition("events", 4), 17, b"k", b"v", forged)
    found = parsed(1, poison, "key")
    assert found.headers == forged
    assert (found.reason, found.explanation, found.attempts) == ("key", "explained", 4)
    assert found.origin is not None
    assert found.origin[:3] == ("events", 4, 17)
    assert "canary" not in str((found.reason, found.explanation, found.study, found.kind))


MARK = [
    ("imednet.dlq.action", b"redriven"),
    ("imednet.dlq.letter", b"0:7"),
    ("imednet.dlq.why", b""),
]


@pytest.mark.parametrize("action", [b"redriven", b"nonsense", b""])
@pytest.mark.parametrize("names", [3, 2, 1])
def test_a_message_with_the_headers_of_a_mark_is_a_letter(action: bytes, names: int) -> None:
    """It hides neither itself nor another letter, and breaks nothing."""
    forged: Headers = [("imednet.dlq.action", action), *MARK[1:names]]
    for key, value in ((b"k", b"v"), (None, None)):
        found = parsed(3, message(TopicPartition("events", 4), 17, key, value, forged), "key")
        assert found.headers == forged
        assert _mark_of(Raw(3, key, value, []), [*forged, ("other", b"")]) is None  # type: ignore[arg-type]


def test_a_mark_is_no_letter() -> None:
    """A mark has its three headers and nothing else."""
    raw = Raw(9, None, None, list(MARK))
    assert isinstance(entry_of(raw), Mark)  # type: ignore[arg-type]
    mark = _mark_of(raw, list(MARK))  # type: ignore[arg-type]
    assert mark is not None
    assert mark.letter == LetterId(0, 7)


def test_an_event_too_large_for_the_topic_is_a_letter_of_the_source() -> None:
    """It is left to the source, which tries it again in each full pass."""
    event = upsert(record_row(1))
    key, _, _ = encode(event)
    headers: Headers = [*oversize_headers(event, "events"), ("imednet.value.bytes", b"9000000")]
    found = letter_of(Raw(0, key, None, headers))
    assert (found.stage, found.reason, found.value_bytes) == (Stage.SOURCE, "too_large", 9_000_000)
    assert World().redrive([found]) == Redriven(left_to_source=1)


def test_a_tombstone_whose_headers_could_not_be_read_does_not_get_another_version() -> None:
    """Its letter has no headers, so only its topic knows its version."""
    key = upsert(record_row(1)).identity.to_key()
    poison = message(TopicPartition("nowhere", 0), 1, key, None, timestamp_ms=9_000)
    found = parsed(1, poison, "headers")
    unreachable = KafkaSettings(
        bootstrap_servers="127.0.0.1:9", connect_timeout_seconds=0.2, request_timeout_seconds=0.2
    )
    with pytest.raises(RetryableError):  # it is looked for in the topic
        message_in_topic(found, unreachable)


def test_letters_of_other_topics_and_groups_are_left_to_them() -> None:
    """One queue may serve several graphs."""
    world = World()
    world.is_ours = lambda found: found.origin is not None and found.origin.topic == "mine"
    assert world.redrive([letter(0, upsert(record_row(1)))]) == Redriven(of_others=1)
    assert world.version(1) is None
    assert not world.marks


def test_an_outage_while_a_message_is_looked_up_is_waited_out() -> None:
    """One letter whose message is elsewhere does not end the redrive."""
    world = World()
    failures = [RetryableError("no broker"), RetryableError("no broker")]

    def lookup(found: Letter) -> Message | None:
        if found.id.offset == 2 and failures:
            raise failures.pop()
        return message_in(found)

    world.message_in = lookup
    probe, outages = world.graph.probe, [RetryableError("down")]

    def probing(versions: Mapping[Identity, int]) -> ProbeResult:
        if outages:
            raise outages.pop()
        return probe(versions)

    world.graph.probe = probing  # type: ignore[method-assign]
    letters = [letter(at, upsert(record_row(at + 1), 5)) for at in range(4)]
    assert world.redrive(letters) == Redriven(applied=4)


def test_the_headers_of_a_message_are_read_once() -> None:
    """After a name that is not UTF-8, the client returns null pointers at the second call."""

    class Foreign(Raw):
        calls = 0

        def headers(self) -> Headers:
            self.calls += 1
            assert self.calls == 1
            raise UnicodeError

    found = letter_of(Foreign(0, b"k", b"v", []))
    assert found.reason == "unknown"


def test_filters_take_what_they_name() -> None:
    """Filters by reason, study, kind, time and letter are combined."""
    letters = [
        letter(0, upsert(record_row(1))), letter(1, upsert(record_row(2)), reason="key"),
        letter(2, delete(3, 1, "visit")),
    ]  # fmt: skip
    at = letters[0].time_ms

    def taken(**fields: Any) -> list[int]:
        return [each.id.offset for each in letters if LetterFilter(**fields).takes(each)]

    assert taken() == [0, 1, 2]
    assert LetterFilter().is_empty
    assert LetterFilter(ids=frozenset()).is_empty
    assert not LetterFilter(ids=[LetterId(0, 2)]).is_empty
    assert not LetterFilter(kind="record").is_empty
    assert taken(reason="key") == [1]
    assert taken(kind="record", study=STUDY) == [0, 1]
    assert taken(study="other") == []
    assert taken(since_ms=at + 1) == [1, 2]
    assert taken(until_ms=at + 1) == [0]
    assert taken(ids=[LetterId(0, 2)]) == [2]


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-01-31", "2026-01-31T08:00", "5 m", "-3d", "999999d", ""]
)
def test_a_time_that_is_none_is_refused_with_the_forms(text: str) -> None:
    """Times without a zone are refused, too: they would mean another time elsewhere."""
    with pytest.raises(FatalError, match=r"--since: .*ISO 8601"):
        parse_time(text, "--since")


def test_times_are_iso_or_how_long_ago() -> None:
    """Both forms of a time."""
    assert parse_time("2026-01-31T08:00:00Z", "--since") == 1_769_846_400_000
    ago, now = parse_time("2h", "--since"), parse_time("0s", "--since")
    assert ago is not None
    assert now is not None
    assert abs(now - ago - 7_200_000) < 60_000


@pytest.mark.parametrize("text", ["", "1", "a:b", "1:", "-1:2", "1:2:3"])
def test_a_letter_that_is_none_is_refused(text: str) -> None:
    """The message says where to find the letters."""
    with pytest.raises(FatalError, match="dlq list"):
        LetterId.parse(text)


def told(letters: Sequence[Letter], *marks: Mark) -> list[str]:
    """Return what was done with each letter of a queue."""
    history = QueueHistory()
    for each in letters:
        history.add_letter(each)
    for mark in marks:
        history.add_mark(mark)
    return [state_of(history.mark_of(each)) for each in letters]


def of_message(at: int, offset: int, group: str = "imednet-sink") -> Letter:
    poison = message(TopicPartition("events", 3), offset, b"k", b"v")
    headers = letter_headers(DeadLetter(poison, "value", "explained", 1), group)
    return letter_of(Raw(at, b"k", b"v", headers))


def test_letters_of_one_message_wait_as_one_and_a_drop_holds_for_all() -> None:
    """Each replay that meets a message writes a letter of it, as does a sink that was killed."""
    replay = replay_group("imednet-sink", datetime(2026, 3, 10, tzinfo=UTC))
    letters = [of_message(1, 70), of_message(2, 70, replay), of_message(3, 71), of_message(4, 70)]
    others = of_message(5, 70, "another-graph")
    assert told([*letters, others]) == ["pending", "repeated", "pending", "repeated", "pending"]
    for named in (letters[0], letters[1]):
        dropped = Mark(named.id, Action.DROPPED, "test data", named.time_ms + 10)
        assert told([*letters, others], dropped) == [
            "dropped", "dropped", "pending", "dropped", "pending"
        ]  # fmt: skip


def test_a_message_that_failed_again_after_it_was_redriven_waits_again() -> None:
    """Redriving covers the message's earlier letters; a later failure is a new one."""
    letters = [of_message(at, 70) for at in (1, 2, 5, 6)]
    mark = Mark(letters[0].id, Action.REDRIVEN, "", letters[0].time_ms + 2)
    assert told(letters, mark) == ["redriven", "redriven", "pending", "repeated"]
