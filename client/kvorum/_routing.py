"""Which group serves a key.

The token of a key is the BLAKE2b hash of its *tag*, 64 bits, read as a big-endian number. The tag
is what stands between the first ``{`` and the next ``}`` when that is not empty, else the whole
key: keys that share a tag share a group, so that one transaction can hold them. Each partition
owns an unbroken range of tokens; the number of partitions is fixed when a cluster is made, so no
key ever changes its group. With one partition there is nothing to hash.

These functions are part of the contract with every other client library; the test vectors are in
``tests/unit/test_routing.py``.
"""

from bisect import bisect_right
from collections.abc import Collection
from hashlib import blake2b

from kvorum._errors import InvalidRequest
from kvorum_proto.kv_pb2 import PartitionTable

CATALOG_GROUP = 0
"""The group of members and settings; it owns no keys."""


def tag_of(key: bytes) -> bytes:
    """The part of a key that decides its place.

    >>> tag_of(b"user/{42}/name"), tag_of(b"plain"), tag_of(b"{}empty"), tag_of(b"a{b{c}d}")
    (b'42', b'plain', b'{}empty', b'b{c')
    """
    start = key.find(b"{")
    if start < 0:
        return key
    end = key.find(b"}", start + 1)
    if end <= start + 1:
        return key
    return key[start + 1 : end]


def token_of(key: bytes) -> int:
    """Where a key lies on the ring of 2**64 tokens.

    >>> hex(token_of(b"greeting"))
    '0xd8041d017525074d'
    """
    return int.from_bytes(blake2b(tag_of(key), digest_size=8).digest(), "big")


class RoutingTable:
    """An immutable partition table. Raises InvalidRequest when the ranges leave a gap or
    overlap."""

    __slots__ = ("_firsts", "_groups", "_single", "version")

    def __init__(self, table: PartitionTable) -> None:
        partitions = sorted(table.partitions, key=lambda partition: partition.token_first)
        expected = 0
        for partition in partitions:
            if partition.token_first != expected or partition.token_last < partition.token_first:
                raise InvalidRequest(
                    f"partition table version {table.version} does not cover token {expected}; "
                    "this cluster needs a newer client"
                )
            expected = partition.token_last + 1
        if expected != 1 << 64:
            raise InvalidRequest(
                f"partition table version {table.version} ends at token {expected}; "
                "this cluster needs a newer client"
            )
        self.version = table.version
        self._firsts = [partition.token_first for partition in partitions]
        self._groups = [partition.group for partition in partitions]
        self._single = self._groups[0] if len(self._groups) == 1 else 0
        assert CATALOG_GROUP not in self._groups, "the catalog owns no keys"

    @property
    def groups(self) -> tuple[int, ...]:
        """Every group that serves keys, in token order."""
        return tuple(self._groups)

    def group_of(self, key: bytes) -> int:
        """The group that serves a key."""
        if self._single:
            return self._single
        return self._groups[bisect_right(self._firsts, token_of(key)) - 1]

    def group_of_all(self, keys: Collection[bytes], *, ranges: bool) -> int:
        """The one group that serves all keys; raises InvalidRequest when there is none.

        ``ranges``: they name ranges too, which lie in every group.
        """
        groups = {self.group_of(key) for key in keys}
        if len(groups) > 1 or (ranges and len(self._groups) > 1):
            raise InvalidRequest(
                "the keys of a txn must lie in one partition: give them a common {tag}; "
                "ranges lie in all of them"
            )
        return groups.pop() if groups else self._groups[0]
