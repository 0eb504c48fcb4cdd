import pytest

from connector.kafka.starting import Log, begin

NOW = Log(first=10, next=100, topic_id="T1")


@pytest.mark.parametrize("committed", [10, 50, 100])
def test_a_group_goes_on_where_it_committed(committed: int) -> None:
    assert begin(committed, "T1", NOW) == (committed, None)


def test_a_group_that_never_committed_begins_at_the_first_event() -> None:
    assert begin(None, "", NOW) == (10, None)


@pytest.mark.parametrize(
    ("committed", "topic_id", "gap"),
    [
        (9, "T1", "offsets [9, 10) are not in the topic any more"),
        (101, "T1", "offsets [100, 101) were cut off from the topic"),
        (50, "T0", "the topic was made anew after offset 50 was committed"),
    ],
)
def test_what_is_missing_is_said_with_its_range(committed: int, topic_id: str, gap: str) -> None:
    assert begin(committed, topic_id, NOW) == (10, gap)


def test_offsets_that_do_not_name_their_topic_are_taken_as_they_are() -> None:
    assert begin(50, "", NOW) == (50, None)
    assert begin(50, "T1", Log(10, 100, "")) == (50, None)
