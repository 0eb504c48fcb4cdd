from pathlib import Path

import pytest

from connector.errors import RetryableError
from connector.model.cursor import Cursor
from connector.model.events import Identity, KnownState
from connector.store.cached_state import cache_file, cached_state
from connector.store.known_store import SqliteKnownStore


def test_a_cache_files_name_is_short_and_plain_whatever_the_study_is_called() -> None:
    """The cache file's name is short and plain ASCII, whatever the study's key."""
    for study in ("K" * 260, "../../etc/passwd", "ü" * 100, ".", "a\\b\n"):
        name = cache_file(study, "imednet.events", "id")
        assert len(name.encode()) < 100
        assert name.removesuffix(".sqlite").replace("-", "").replace("_", "").isalnum()
        assert name.isascii()


def test_no_two_studies_topics_or_clusters_share_a_cache_file() -> None:
    """No two studies, topics or clusters share a cache file."""
    asked = [
        ("A", "events", "one"),
        ("A", "events", "two"),
        ("A", "test.events", "one"),
        ("B", "events", "one"),
        ("a/b", "events", "one"),
        ("a_b", "events", "one"),
        ("K" * 260, "events", "one"),
        ("K" * 261, "events", "one"),
    ]
    assert len({cache_file(*each) for each in asked}) == len(asked)


def test_a_cached_state_is_read_while_no_source_uses_the_file(tmp_path: Path) -> None:
    """A running source keeps all others out: then, and without a file, the reason is given."""
    path, known, cursor = (
        tmp_path / "cache.sqlite",
        KnownState(5, "ab" * 16, 2),
        Cursor(study_key="S"),
    )
    with pytest.raises(RetryableError, match="no cache of the study"):
        cached_state(path, Identity("S", "record", 1))
    store = SqliteKnownStore(path)
    states = [(Identity("S", "record", 1), known), (Identity("S", "coding", "a/b"), known)]
    store.rebuild(states, cursor)
    with pytest.raises(RetryableError, match="a running source uses it"):
        cached_state(path, Identity("S", "record", 1))
    store.close()
    for identity, state in states:
        assert cached_state(path, identity) == state
    assert cached_state(path, Identity("S", "record", 2)) is None
    reopened = SqliteKnownStore(path)
    assert reopened.matches(cursor), "reading has changed the file"
    reopened.close()
    path.write_bytes(b"not a database, but longer than its header" * 50)
    with pytest.raises(RetryableError, match="cannot be read"):
        cached_state(path, Identity("S", "record", 1))
