import stat
from pathlib import Path

import pytest

from connector.errors import FatalError
from connector.lab.folders import owned, remove_within
from connector.lab.servers import local
from connector.lab.servers.local import local_servers

MARKER = ".marker"


def test_a_folder_with_files_of_somebody_else_is_refused_and_nothing_in_it_is_touched(
    tmp_path: Path,
) -> None:
    """A folder with other files is refused, and nothing in it is touched."""
    for name in ("thesis.txt", "kafka/data/mine", "neo4j/mine"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FatalError, match="Nothing was changed"), local_servers(tmp_path, {}):
        pass
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("exists", [True, False])
def test_a_new_or_empty_folder_is_marked_and_may_be_used_again(
    tmp_path: Path,
    exists: bool,  # noqa: FBT001
) -> None:
    """A new or empty folder is marked and may be used again."""
    folder = tmp_path / "new" / "folder"
    if exists:
        folder.mkdir(parents=True)
    for _ in range(2):
        with owned(folder, MARKER):
            (folder / "kafka").mkdir(exist_ok=True)
    assert (folder / MARKER).is_file()
    if not exists:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    """A path that is a file, or lies below one, is refused."""
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "below"):
        with pytest.raises(FatalError), owned(path, MARKER):
            pass
    assert file.read_text() == "mine"


def test_a_folder_that_another_process_uses_is_refused(tmp_path: Path) -> None:
    """A folder that another process uses is refused."""
    with (
        owned(tmp_path, MARKER),
        pytest.raises(FatalError, match="another process"),
        owned(tmp_path, MARKER),
    ):
        pass


def test_only_named_parts_are_removed_and_never_through_a_link(tmp_path: Path) -> None:
    """Only the named parts are removed, and never through a link."""
    other = tmp_path / "other"
    (other / "mine").mkdir(parents=True)
    folder = tmp_path / "folder"
    (folder / "kafka").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "neo4j").symlink_to(other)
    remove_within(folder, ["kafka", "absent"])
    assert {each.name for each in folder.iterdir()} == {"notes.txt", "neo4j"}
    with pytest.raises(FatalError, match="Cannot remove"):
        remove_within(folder, ["neo4j"])
    assert (other / "mine").is_dir()


def test_a_start_in_a_marked_folder_removes_the_servers_own_parts_alone(
    tmp_path: Path,
) -> None:
    """A start in a marked folder removes only the servers' own parts."""
    (tmp_path / local.MARKER).touch()
    for name in ("kafka/data", "neo4j/data", "notes"):
        (tmp_path / name).mkdir(parents=True)
    both = {"KAFKA_BOOTSTRAP_SERVERS": "given:1", "NEO4J_URI": "bolt://given"}
    with local_servers(tmp_path, both):
        assert {each.name for each in tmp_path.iterdir()} == {local.MARKER, "notes"}
