"""The temporary store of a verification."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import run

import pytest

from connector.errors import FatalError
from connector.model.comparison import Difference, Problem
from connector.model.events import Identity
from connector.store.wanted_states import StoredState, WantedStates, temporary_folder

RECORD = Identity("S1", "record", 7)
CODING = Identity("S1", "coding", "7")


@pytest.fixture
def states() -> Iterator[WantedStates]:
    with closing(WantedStates()) as opened:
        yield opened


def test_the_newest_version_comes_first_and_equal_ones_in_their_order(
    states: WantedStates,
) -> None:
    """Versions come newest first, equal ones in order: the first one may not be an event."""
    states.add([(RECORD, StoredState(2, b"two")), (RECORD, StoredState(9, b"nine"))])
    states.add([(RECORD, StoredState(9, b"again")), (RECORD, StoredState(5, None))])
    assert states.versions_of(RECORD) == [(9, b"nine"), (9, b"again"), (5, None), (2, b"two")]
    assert states.versions_of(CODING) == []
    assert states.versions_of(Identity("S1", "record", "7")) == []  # another type, another id


def test_what_was_not_found_is_missing(states: WantedStates) -> None:
    """The ids that were not marked as found are missing, once each, within their kind and study."""
    others = [Identity("S2", "record", 8), CODING]
    for each in (RECORD, Identity("S1", "record", 8), Identity("S1", "record", 9), *others):
        states.add([(each, StoredState(1, b"")), (each, StoredState(2, b""))])
    states.mark_found("record", "S1", [8, 100])
    assert list(states.not_found("record", "S1")) == [7, 9]
    assert list(states.ids("record", "S1")) == [7, 8, 9]


def test_a_difference_is_confirmed_by_the_second_look_in_a_row_at_the_same_state(
    states: WantedStates,
) -> None:
    """A second look confirms a difference, unless the wanted state has changed in between."""
    stale, extra = Difference(RECORD, Problem.STALE), Difference(CODING, Problem.EXTRA)
    states.put_differences([(stale, 5), (extra, 0)], look=1)
    assert states.unconfirmed() == 2
    states.put_differences([(stale, 6), (extra, 0)], look=2)
    states.drop_differences_before(2)
    assert [each.is_confirmed for each in states.differences()] == [True, False]
    states.put_differences([(stale, 6)], look=3)
    states.drop_differences_before(3)
    assert states.unconfirmed() == 0
    assert states.problems() == {("record", Problem.STALE): 1}


def test_ids_of_differences_come_in_chunks_of_numbers_or_texts(states: WantedStates) -> None:
    """All ids come, whatever their type, however many."""
    ids = [*range(1, 1201), "a", "b"]
    found = [Difference(Identity("S1", "record", each), Problem.MISSING) for each in ids]
    states.put_differences(((each, 1) for each in found), look=1)
    chunks = list(states.differing("record", "S1"))
    assert [each for chunk in chunks for each in chunk] == ids
    assert max(map(len, chunks)) == 500
    assert list(states.differing("record", "S1", (Problem.EXTRA,))) == []
    assert len(list(states.differences(limit=3))) == 3


@pytest.mark.parametrize("what", ["states", "found"])
def test_a_full_disk_is_reported_with_what_to_do(states: WantedStates, what: str) -> None:
    """When the temporary file cannot grow, the error says what to set, whatever is written."""
    states._db.execute("PRAGMA max_page_count = 20")
    ids = range(1, 50_000)
    with pytest.raises(FatalError, match="SQLITE_TMPDIR"):
        if what == "found":
            states.mark_found("record", "S1", ids)
        else:
            states.add((Identity("S1", "record", each), StoredState(1, b"x")) for each in ids)


def test_the_folder_of_temporary_files_is_the_one_that_sqlite_uses(tmp_path: Path) -> None:
    """The folder of temporary files is found in SQLite's own order, which is not Python's."""
    folder = temporary_folder({"SQLITE_TMPDIR": str(tmp_path / "missing"), "TMPDIR": str(tmp_path)})
    assert folder == tmp_path
    assert temporary_folder({"TEMP": str(tmp_path)}) == Path("/var/tmp")
    script = (
        "import os, sqlite3\nopened = sqlite3.connect('')\nopened.execute('PRAGMA cache_size = 1')\n"
        "opened.execute('CREATE TABLE t (a)')\nopened.execute('BEGIN')\n"
        "opened.executemany('INSERT INTO t VALUES (?)', ((b'x' * 9999,) for _ in range(99)))\n"
        "links = ('/proc/self/fd/' + each for each in os.listdir('/proc/self/fd'))\n"
        "print([each for each in (os.path.realpath(link) for link in links) if 'etilqs' in each])"
    )
    if sys.platform == "linux":
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        done = run(
            [sys.executable, "-c", script],
            check=True,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert str(tmp_path) in done.stdout, done.stderr
