import stat
from pathlib import Path

import pytest

from connector.errors import FatalError, RetryableError
from connector.interfaces import InvalidRow
from connector.model.cursor import Cursor
from connector.model.events import Delivery, Identity, KnownState
from connector.store.known_store import SqliteKnownStore

HASH = "ab" * 16


@pytest.fixture
def store() -> SqliteKnownStore:
    return SqliteKnownStore(":memory:")


def test_an_update_that_fails_leaves_no_trace(store: SqliteKnownStore) -> None:
    """An update that fails changes neither states nor cursor."""
    cursor = Cursor(study_key="S1")
    with pytest.raises(RuntimeError), store.update() as update:
        update.put("record", {1: KnownState(5, HASH, 2)}, 0)
        update.match(cursor)
        raise RuntimeError
    assert store.lookup("record", [1]) == {}
    assert not store.matches(cursor)


def test_the_cache_matches_one_cursor_only(store: SqliteKnownStore) -> None:
    """The cache matches exactly one cursor."""
    cursor = Cursor(study_key="S1")
    store.rebuild([(Identity("S1", "record", 1), KnownState(5, HASH, 2))], cursor)
    assert store.matches(cursor)
    assert not store.matches(cursor.moved("record.full", cursor.position("x")))
    assert not store.matches(Cursor(study_key="S1"))
    assert store.lookup("record", [1, 2]) == {1: KnownState(5, HASH, 2)}


def test_a_rebuild_keeps_the_newest_state_whatever_the_order(store: SqliteKnownStore) -> None:
    """A rebuild keeps the newest state of an entity, whatever the order."""
    who = Identity("S1", "record", 1)
    states = [
        (who, KnownState(5, HASH, 2)),
        (who, KnownState(9, None, None)),
        (who, KnownState(7, HASH, 2)),
    ]
    store.rebuild(states, Cursor(study_key="S1"))
    assert store.lookup("record", [1]) == {1: KnownState(9, None, None)}


def test_what_the_topic_has_lost_stays_known_as_undelivered(store: SqliteKnownStore) -> None:
    """States that the topic has lost stay known as undelivered until they are published again."""
    cursor = Cursor(study_key="S1")

    def who(number: int) -> Identity:
        return Identity("S1", "record", number)

    states = [(who(each), KnownState(5, HASH, 2)) for each in (1, 2, 3, 4)]
    store.rebuild([*states, (who(5), KnownState(5, None, 2))], cursor)
    with store.update() as update:
        update.divert([who(4)])
    store.rebuild([(who(1), KnownState(5, HASH, 2)), (who(2), KnownState(4, HASH, 2))], cursor)
    found = store.lookup("record", [1, 2, 3, 4, 5])
    assert {each: state.delivery for each, state in found.items()} == {
        1: Delivery.DELIVERED, 2: Delivery.LOST, 3: Delivery.LOST, 4: Delivery.DIVERTED,
        5: Delivery.LOST,
    }  # fmt: skip
    assert {state.version for state in found.values()} == {5}
    with store.update() as update:
        assert set(update.vanished("record", 1).undelivered) == {5}
        update.put("record", {5: KnownState(6, None, 2), 3: KnownState(6, HASH, 2)}, 1)
        assert update.vanished("record", 1).undelivered == {}
    assert store.lookup("record", [3])[3].delivery is Delivery.DELIVERED


def test_what_another_lineage_knew_is_forgotten(store: SqliteKnownStore) -> None:
    """A rebuild for another lineage forgets the old states."""
    store.rebuild([(Identity("S1", "record", 1), KnownState(5, HASH, 2))], Cursor(study_key="S1"))
    store.rebuild([], Cursor(study_key="S1"))
    assert store.lookup("record", [1]) == {}


def test_a_cache_in_use_by_another_source_is_refused_with_advice(tmp_path: Path) -> None:
    """A cache that another source uses is refused with advice, and left alone."""
    first = SqliteKnownStore(tmp_path / "S1.sqlite")
    cursor = Cursor(study_key="S1")
    first.rebuild([(Identity("S1", "record", 1), KnownState(5, HASH, 2))], cursor)
    with pytest.raises(FatalError, match="SOURCE_STATE_DIR"):
        SqliteKnownStore(tmp_path / "S1.sqlite").matches(cursor)
    assert first.matches(cursor)
    first.close()
    assert SqliteKnownStore(tmp_path / "S1.sqlite").matches(cursor)


def test_a_row_is_gone_after_two_full_passes_without_it(store: SqliteKnownStore) -> None:
    """A row is gone after two full passes without it."""
    with store.update() as update:
        update.put("record", {1: KnownState(5, HASH, 2), 2: KnownState(5, HASH, 2)}, 0)
        update.seen("record", [1, 2], 1)
        assert update.vanished("record", 1).gone == {}
        update.miss("record", 1)
        update.seen("record", [1], 2)
        assert update.vanished("record", 2).gone == {}
        assert update.vanished("record", 2).missed == 1
        update.miss("record", 2)
        update.seen("record", [1], 3)
        last = update.vanished("record", 3)
    assert (last.known, last.listed, set(last.gone)) == (2, 1, {2})


def test_a_row_that_is_seen_again_is_not_gone(store: SqliteKnownStore) -> None:
    """A row that is seen again is not gone."""
    with store.update() as update:
        update.put("record", {1: KnownState(5, HASH, 2)}, 0)
        update.miss("record", 1)
        update.seen("record", [1], 2)
        update.miss("record", 2)
        assert update.vanished("record", 3).gone == {}


def test_an_invalid_row_counts_as_new_only_once(store: SqliteKnownStore) -> None:
    """An invalid row counts as new only once."""
    row = InvalidRow("S1", "record", b"{}", "id")
    with store.update() as update:
        assert update.is_new_invalid(row)
        assert not update.is_new_invalid(row)


def test_the_cache_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Only the owner can read the cache."""
    file = tmp_path / "state" / "S1.sqlite"
    for _ in range(2):
        store = SqliteKnownStore(file)
        store.rebuild([], Cursor(study_key="S1"))
        assert {stat.S_IMODE(each.stat().st_mode) for each in file.parent.iterdir()} == {0o600}
        store.close()
        file.chmod(0o644)  # as earlier versions left it
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("folder", ["/proc", "/proc/none", "{}/file", "{}/file/below"])
def test_an_unwritable_folder_is_reported_with_the_setting_to_change(
    folder: str, tmp_path: Path
) -> None:
    """A folder that cannot be written is reported with the setting to change."""
    (tmp_path / "file").write_text("not a folder")
    path = Path(folder.format(tmp_path)) / "S1.sqlite"
    with pytest.raises(FatalError, match="SOURCE_STATE_DIR"):
        SqliteKnownStore(path).matches(Cursor(study_key="S1"))


def test_a_file_that_is_not_a_cache_is_replaced(tmp_path: Path) -> None:
    """A file that is not a cache is replaced by an empty cache."""
    file = tmp_path / "S1.sqlite"
    file.write_bytes(b"this is not a database, and longer than a header of one" * 40)
    assert SqliteKnownStore(file).lookup("record", [1]) == {}


def test_a_cache_damaged_while_in_use_is_replaced_and_the_update_is_retryable(
    tmp_path: Path,
) -> None:
    """A cache that is damaged while in use is replaced, and the update is retryable."""
    file = tmp_path / "S1.sqlite"
    store, cursor = SqliteKnownStore(file), Cursor(study_key="S1")
    states = [(Identity("S1", "record", each), KnownState(5, HASH, 2)) for each in range(1, 3000)]
    store.rebuild(states, cursor)
    store.close()
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(b"\xff" * (file.stat().st_size - 4096))
    store = SqliteKnownStore(file)
    with pytest.raises(RetryableError, match="recreated"), store.update() as update:
        update.put("record", {7: KnownState(6, HASH, 2)}, 0)
    assert not store.matches(cursor)
    store.rebuild(states, cursor)
    assert len(store.lookup("record", [1, 2999])) == 2


def test_an_entity_takes_at_most_200_bytes(tmp_path: Path) -> None:
    """An entity takes at most 200 bytes on disk."""
    file, count = tmp_path / "S1.sqlite", 100_000
    store = SqliteKnownStore(file)
    hashes = (f"{each:032x}" for each in range(count))
    store.rebuild(
        (
            (
                Identity("S1", "record_revision", 10_000_000 + each),
                KnownState(1_750_000_000_000, text, 2),
            )
            for each, text in enumerate(hashes)
        ),
        Cursor(study_key="S1"),
    )
    store.close()
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) <= 200 * count
