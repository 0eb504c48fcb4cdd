"""Contract tests of EventLog, on the fake and on a real Kafka."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from connector.clock import clocks, seconds_between
from connector.config import KafkaSettings
from connector.errors import BatchTooLargeError, ConnectorError, FatalError, RetryableError
from connector.interfaces import EventLog, InvalidRow, OpenedLog
from connector.kafka import event_log
from connector.kafka.event_log import KafkaEventLog
from connector.kafka.topic_log import read_to_end
from connector.kafka.topics import Topics
from connector.lab.servers.processes import free_port
from connector.model.cursor import Cursor, PassPosition
from connector.model.events import Identity, KnownState, RecordEvent
from connector.store.known_store import SqliteKnownStore
from tests.brokers import delete_records, set_message_bytes_max
from tests.builders import delete, record_row, upsert
from tests.fakes.in_memory_kafka import InMemoryEventLog, InMemoryTopic
from tests.programs import wait_until

Open = Callable[[str], EventLog]


@pytest.fixture(params=["fake", pytest.param("kafka", marks=pytest.mark.servers)])
def logs(request: pytest.FixtureRequest) -> Open:
    if request.param == "fake":
        topic, cursors = InMemoryTopic(), dict[str, bytes]()
        return lambda study: InMemoryEventLog(topic, study, cursors)
    settings = request.getfixturevalue("kafka_settings")
    return lambda study: KafkaEventLog(settings, study)


def opened(log: EventLog) -> OpenedLog:
    """Open the log as a source does, retrying while a new topic has no leader."""
    end = time.monotonic() + 150
    while True:
        try:
            return log.open()
        except RetryableError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def committed(log: EventLog) -> Cursor | None:
    """Return the committed cursor without the topic mark that the log adds."""
    cursor = log.open().cursor
    return cursor and cursor.model_copy(update={"topic": None})


def test_the_first_start_finds_no_cursor(logs: Open, study: str) -> None:
    """The log of a new study has no cursor and reports no loss."""
    assert logs(study).open() == OpenedLog(None, None)


def test_what_was_published_is_read_back_with_its_cursor(logs: Open, study: str) -> None:
    """A reopened log returns the committed cursor and replays the published states."""
    log = logs(study)
    log.open()
    cursor = Cursor(study_key=study).moved("record.full", PassPosition(after=3, started_ms=1))
    event = upsert(record_row(1, studyKey=study), 5)
    log.publish([(event, 11), (delete(2, 6, study_key=study), 11)], [], cursor)
    again = logs(study)
    assert committed(again) == cursor
    assert dict(again.replay()) == {
        Identity(study, "record", 1): KnownState(5, event.content_hash, 11),
        Identity(study, "record", 2): KnownState(6, None, None),
    }


def test_what_no_sink_would_apply_is_passed_over_when_the_cache_is_rebuilt(
    logs: Open, study: str
) -> None:
    """A rebuild of the cache skips messages that no sink would apply.

    One such message would otherwise end the source at every start.
    """
    log = logs(study)
    log.open()
    cursor = Cursor(study_key=study)
    odd = upsert(record_row(1, studyKey=study, subjectId=2**63), 5)
    future = upsert(record_row(2, studyKey=study), 2**62)
    of_another = replace(upsert(record_row(3, studyKey=study)), data=record_row(4, studyKey=study))
    no_hash = replace(upsert(record_row(5, studyKey=study), 6), content_hash="no hash")
    log.publish([(each, None) for each in (odd, future, of_another, no_hash)], [], cursor)
    known = SqliteKnownStore(":memory:")
    known.rebuild(log.replay(), cursor)
    assert known.lookup("record", [1, 2, 3, 4, 5]) == {
        1: KnownState(5, odd.content_hash, None),
        5: KnownState(6, "", 11),
    }


def test_a_second_source_of_the_study_fences_the_first(logs: Open, study: str) -> None:
    """A second source of a study fences the first, whose next publish is fatal."""
    first, second = logs(study), logs(study)
    first.open()
    second.open()
    with pytest.raises(FatalError, match="Another source"):
        first.publish([(upsert(record_row(1, studyKey=study)), 11)], [], Cursor(study_key=study))
    second.publish([], [], Cursor(study_key=study))


def test_studies_do_not_see_each_others_cursors_or_states(logs: Open, study: str) -> None:
    """The log of one study shows neither the cursor nor the states of another."""
    one, other = logs(study), logs(study + "x")
    one.open()
    other.open()
    one.publish([(upsert(record_row(1, studyKey=study)), 11)], [], Cursor(study_key=study))
    assert committed(logs(study + "x")) is None
    assert list(other.replay()) == []


def test_a_broker_outage_is_retryable(study: str) -> None:
    """Opening the log while no broker answers raises RetryableError."""
    nobody = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}", connect_timeout_seconds=1)
    with pytest.raises(RetryableError, match="No Kafka broker answers"):
        KafkaEventLog(nobody, study).open()


@pytest.mark.servers
def test_another_studys_open_transaction_does_not_hide_a_committed_cursor(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """A cursor committed behind another study's open transaction is found.

    Reading to the last stable offset would stop before it.
    """
    stuck = KafkaEventLog(kafka_settings, study + "x")
    stuck.open()
    assert stuck._producer is not None
    stuck._producer.begin_transaction()
    stuck._producer.produce(kafka_settings.cursors_topic, key=b"x", value=b"x")
    stuck._producer.flush(10)
    log = KafkaEventLog(kafka_settings, study)
    ender = threading.Timer(4, stuck._producer.abort_transaction, (10,))
    ender.start()
    assert committed(log) is None
    cursor = Cursor(study_key=study)
    log.publish([], [], cursor)
    ender.join()
    assert committed(KafkaEventLog(kafka_settings, study)) == cursor


@pytest.mark.servers
def test_an_invalid_row_is_in_the_dead_letter_queue_with_its_reason(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """An invalid row is dead-dead_lettered with its bytes and the reason."""
    log = KafkaEventLog(kafka_settings, study)
    log.open()
    row = InvalidRow(study, "record", b'{"recordId":null}', "id")
    log.publish([], [row], Cursor(study_key=study))
    (letter,) = read_to_end(kafka_settings, kafka_settings.dead_letter_topic)
    assert letter.value() == row.raw
    assert ("__connect.errors.exception.class.name", b"id") in (letter.headers() or [])


def test_an_event_too_large_for_the_topic_is_returned_and_dead_lettered_once(
    request: pytest.FixtureRequest, logs: Open, study: str
) -> None:
    """An event too large for the topic is returned as diverted and dead-dead_lettered once."""
    log = logs(study)
    if isinstance(log, InMemoryEventLog):
        log.topic.event_bytes_max = 1_000_000
    log.open()
    huge = upsert(record_row(1, studyKey=study, recordData={"memo": "x" * 2_000_000}))
    small = upsert(record_row(2, studyKey=study))
    for dead_lettered in ((), {huge.identity}):
        diverted = log.publish(
            [(huge, 11), (small, 11)], [], Cursor(study_key=study), dead_lettered
        )
        assert list(diverted) == [huge.identity]
    assert {who for who, _ in log.replay()} == {small.identity}
    if isinstance(log, InMemoryEventLog):
        assert log.letters == [(huge.identity, huge.content_hash)]
    else:
        kafka = request.getfixturevalue("kafka_settings")
        (letter,) = read_to_end(kafka, kafka.dead_letter_topic)
        assert letter.key() == huge.identity.to_key()


def test_a_topic_that_lost_nothing_is_reported_as_intact(logs: Open, study: str) -> None:
    """Opening the log of an intact topic reports no loss."""
    log = logs(study)
    log.open()
    for version in (1, 2):
        event = upsert(record_row(1, studyKey=study), version)
        log.publish([(event, 11)], [], Cursor(study_key=study))
    assert log.open().loss is None
    assert logs(study).open().loss is None


@pytest.mark.servers
def test_a_recreated_topic_is_noticed_at_the_next_opening(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """Opening the log reports an events topic that was deleted and created again."""
    log = KafkaEventLog(kafka_settings, study)
    log.open()
    log.publish([(upsert(record_row(1, studyKey=study)), 11)], [], Cursor(study_key=study))
    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap_servers})
    admin.delete_topics([kafka_settings.events_topic])[kafka_settings.events_topic].result(30)
    wait_until(lambda: made(kafka_settings), 30, "the topic again")
    assert opened(log).loss == "it is a different topic with the same name"


def made(kafka: KafkaSettings) -> bool:
    try:
        return Topics(kafka).ensure(create=True)[0].created
    except ConnectorError:
        return False


@pytest.mark.servers
def test_a_log_start_that_moved_is_noticed_under_a_running_source(
    kafka_settings: KafkaSettings, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running source notices deleted records, and reports the loss until a cursor has it."""
    log = KafkaEventLog(kafka_settings, study)
    log.open()
    event = upsert(record_row(1, studyKey=study))
    log.publish([(event, 11)], [], Cursor(study_key=study))
    delete_records(kafka_settings, kafka_settings.events_topic, 4)
    monkeypatch.setattr(event_log, "_CHECK_SECONDS", 0)
    with pytest.raises(RetryableError, match="has lost events"):
        log.publish([(event, 11)], [], Cursor(study_key=study))
    assert "starts at" in (log.open().loss or "")
    assert log.open().loss is not None  # until a cursor is committed that records it
    log.publish([], [], Cursor(study_key=study))
    assert log.open().loss is None


@pytest.mark.servers
def test_two_events_topics_of_a_cluster_do_not_fence_each_other_or_share_a_cursor(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """Sources of one study on two events topics neither fence each other nor share a cursor.

    As with production and staging: one study, one cursors topic.
    """
    staging = kafka_settings.model_copy(update={"events_topic": f"{study}.staging"})
    Topics(staging).ensure(create=True)
    one, other = KafkaEventLog(kafka_settings, study), KafkaEventLog(staging, study)
    one.open()
    cursor = Cursor(study_key=study)
    one.publish([], [], cursor)
    assert opened(other) == OpenedLog(None, None)
    other.publish([], [], Cursor(study_key=study))
    one.publish([], [], cursor)
    assert committed(one) == cursor


@pytest.mark.servers
def test_a_cursor_of_an_earlier_version_is_used_and_its_topic_is_not_trusted(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """A cursor without a topic mark (an earlier version's) is used, and a loss is reported."""
    cursor = Cursor(study_key=study).moved("record.full", PassPosition(passes=1))
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap_servers})
    producer.produce(kafka_settings.cursors_topic, cursor.to_bytes(), study.encode())
    producer.flush(10)
    opened = KafkaEventLog(kafka_settings, study).open()
    assert opened.cursor == cursor
    assert opened.loss is not None


@pytest.mark.servers
@pytest.mark.parametrize("size", [900_000, 1_040_000, 1_048_500, 1_500_000, 3_000_000])
def test_an_invalid_row_of_any_size_is_kept_whole_or_by_reference(
    kafka_settings: KafkaSettings, study: str, size: int
) -> None:
    """An invalid row is kept whole if the dead letter topic allows it, else by reference.

    A size between the limits of the two topics fits the dead letter topic only.
    """
    set_message_bytes_max(kafka_settings, kafka_settings.dead_letter_topic, 2_000_000)
    log = KafkaEventLog(kafka_settings, study)
    log.open()
    log.publish([], [InvalidRow(study, "record", b"x" * size, "id")], Cursor(study_key=study))
    (letter,) = read_to_end(kafka_settings, kafka_settings.dead_letter_topic)
    assert len(letter.value() or b"") == (size if size < 2_000_000 else 0)


@pytest.mark.parametrize(
    ("clock", "passed"), [(0, 90.0), (1, 90.0), (2, 90.0)], ids=["monotonic", "boot", "wall"]
)
def test_a_suspended_machines_time_is_seen_by_whatever_clock_runs_on(
    clock: int, passed: float
) -> None:
    """Elapsed time includes a suspend if any of the clocks kept running.

    A transaction that the brokers ended meanwhile is then not blamed on another source.
    """
    before = (1.0, 2.0, 3.0)
    after = tuple(at + (passed if index == clock else 0.5) for index, at in enumerate(before))
    assert seconds_between(before, after) == passed
    assert all(0 <= late - early < 5 for early, late in zip(clocks(), clocks(), strict=True))


@pytest.mark.servers
def test_an_event_larger_than_the_topic_allows_is_dead_lettered_by_reference(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """An event larger than the topic allows is dead-dead_lettered by reference; others are published."""
    log = KafkaEventLog(kafka_settings, study)
    log.open()
    huge = upsert(record_row(1, studyKey=study, recordData={"memo": "x" * 2_000_000}))
    cursor = Cursor(study_key=study)
    log.publish([(huge, 11), (upsert(record_row(2, studyKey=study)), 11)], [], cursor)
    (letter,) = read_to_end(kafka_settings, kafka_settings.dead_letter_topic)
    assert letter.key() == f"{study}/record/1".encode()
    assert int(dict(letter.headers() or [])["imednet.value.bytes"] or 0) > 2_000_000
    (event,) = read_to_end(kafka_settings, kafka_settings.events_topic)
    assert event.key() == f"{study}/record/2".encode()


@pytest.mark.servers
def test_a_transaction_that_took_too_long_is_repeated_not_taken_for_another_source(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """A transaction that took too long is to be repeated, not blamed on another source.

    The brokers fence a producer that exceeds transaction.timeout.ms, as a new source would.
    """
    log = KafkaEventLog(
        kafka_settings.model_copy(update={"transaction_timeout_seconds": 1.0}), study
    )
    log.open()
    event = upsert(record_row(1, studyKey=study), 5)

    class Slow(list[tuple[RecordEvent, int | None]]):
        def __iter__(self) -> Iterator[tuple[RecordEvent, int | None]]:
            for each in super().__iter__():
                yield each
                time.sleep(4)

    with pytest.raises(BatchTooLargeError, match="The brokers aborted it"):
        log.publish(Slow([(event, 11), (event, 11)]), [], Cursor(study_key=study))
    assert committed(log) is None
    cursor = Cursor(study_key=study)
    log.publish([(event, 11)], [], cursor)
    assert committed(log) == cursor
    assert len(list(read_to_end(kafka_settings, kafka_settings.events_topic))) == 1


@pytest.mark.servers
def test_an_event_that_only_the_topic_finds_too_large_is_kept_by_reference(
    kafka_settings: KafkaSettings, study: str
) -> None:
    """An event over the topic's own, lower limit is dead-dead_lettered by reference."""
    set_message_bytes_max(kafka_settings, kafka_settings.events_topic, 20_000)
    log = KafkaEventLog(kafka_settings, study)
    log.open()
    big = upsert(record_row(1, studyKey=study, recordData={"A": "x" * 50_000}), 5)
    small = upsert(record_row(2, studyKey=study), 5)
    log.publish([(big, 11), (small, 11)], [], Cursor(study_key=study))
    (kept,) = read_to_end(kafka_settings, kafka_settings.events_topic)
    assert kept.key() == small.identity.to_key()
    (letter,) = read_to_end(kafka_settings, kafka_settings.dead_letter_topic)
    assert (letter.key(), letter.value()) == (big.identity.to_key(), None)
