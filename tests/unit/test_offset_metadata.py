import pytest

from connector.interfaces import Position
from connector.kafka.offset_metadata import OffsetMetadata


@pytest.mark.parametrize(
    "metadata",
    [
        OffsetMetadata(),
        OffsetMetadata("T1"),
        OffsetMetadata("T1", Position(7, 3)),
        OffsetMetadata("T1", Position(7, 3), 2),
        OffsetMetadata("", Position(7, 0), 0, '{"from": 1, "to": 9}'),
        OffsetMetadata("T1", note='{"from": 1}'),
    ],
)
def test_metadata_is_read_as_it_was_written(metadata: OffsetMetadata) -> None:
    """Metadata is read as it was written."""
    assert OffsetMetadata.parsed(str(metadata)) == metadata


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        ("T1@5:None note", OffsetMetadata("T1", note="note")),
        ("T1@5:3:2:1", OffsetMetadata("T1")),
        ("written by another tool", OffsetMetadata("written", note="by another tool")),
    ],
)
def test_metadata_of_other_versions_and_tools_counts_as_unknown(
    text: str, metadata: OffsetMetadata
) -> None:
    """Metadata of other versions and tools counts as unknown, as far as it is not understood."""
    assert OffsetMetadata.parsed(text) == metadata


def test_an_offset_that_is_moved_keeps_what_is_known_about_the_log() -> None:
    """An offset that is moved keeps what is known about the log, but not about a former topic."""
    metadata = OffsetMetadata("T1", Position(7, 3), 2, "note")
    assert metadata.of_topic("T1") == metadata.of_topic("") == metadata
    assert metadata._replace(topic_id="").of_topic("T1") == metadata
    assert metadata.of_topic("T2") == OffsetMetadata("T2", note="note")
