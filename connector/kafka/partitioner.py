"""The partitioner: all events of a subject go to one partition, and so to one writer."""

from functools import lru_cache

from connector.model.events import Identity

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 (org.apache.kafka.common.utils.Utils.murmur2), unsigned."""
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    whole = length - length % 4
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(identity: Identity, subject_id: int | None, partitions: int) -> int:
    """Pick a partition by murmur2 of ``studyKey/subjectId``, or of the key if there is no subject.

    Order across partitions is not needed: the sink's version guard restores it if an entity
    changes its subject or partitions are added.
    """
    if subject_id is None:
        return _bucket(identity.to_key(), partitions)
    return _bucket(f"{identity.study_key}/{subject_id}".encode(), partitions)


@lru_cache(maxsize=65_536)
def _bucket(key: bytes, partitions: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % partitions
