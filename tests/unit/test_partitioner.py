import pytest

from connector.kafka.partitioner import murmur2, partition_of
from connector.model.events import Identity

# org.apache.kafka.common.utils.UtilsTest.testMurmur2
KAFKAS = {
    b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, b"abc": 479470107,
}  # fmt: skip


@pytest.mark.parametrize(("data", "hashed"), KAFKAS.items())
def test_murmur2_is_kafkas(data: bytes, hashed: int) -> None:
    """murmur2 equals Kafka's, on Kafka's own test vectors."""
    assert murmur2(data) == hashed % 2**32


def test_one_subjects_events_share_a_partition() -> None:
    """All events of one subject share a partition."""
    subject = partition_of(Identity("S1", "subject", 7), 7, 6)
    assert {partition_of(Identity("S1", "record", each), 7, 6) for each in range(1, 200)} == {
        subject
    }


def test_subjects_are_spread_over_all_partitions() -> None:
    """Subjects are spread over all partitions."""
    used = {partition_of(Identity("S1", "subject", each), each, 6) for each in range(1, 200)}
    assert used == set(range(6))
