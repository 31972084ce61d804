"""Where a key belongs: the vectors that every client library must reproduce, and the table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum._errors import InvalidRequest
from kvorum._routing import RoutingTable, tag_of, token_of
from kvorum_proto.kv_pb2 import Partition, PartitionTable

TOKENS = 1 << 64

VECTORS = {
    b"": 0xE4A6A0577479B2B4,
    b"greeting": 0xD8041D017525074D,
    b"plain": 0x0DB28B934CD2EAD5,
    b"42": 0x57B43CF02666687A,
    b"user/{42}/name": 0x57B43CF02666687A,
    b"{42}": 0x57B43CF02666687A,
}


def table_of(count: int) -> RoutingTable:
    """Groups 1..count with equal shares."""
    bounds = [index * TOKENS // count for index in range(count + 1)]
    return RoutingTable(
        PartitionTable(
            version=1,
            partitions=[
                Partition(
                    group=index + 1, token_first=bounds[index], token_last=bounds[index + 1] - 1
                )
                for index in range(count)
            ],
        )
    )


@pytest.mark.parametrize("key", VECTORS)
def test_tokens_are_those_of_the_specification(key: bytes) -> None:
    assert token_of(key) == VECTORS[key]


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        (b"a{b}c", b"b"),
        (b"a{b}c{d}", b"b"),
        (b"a{}c{d}", b"a{}c{d}"),
        (b"a{b", b"a{b"),
        (b"a}b{c", b"a}b{c"),
        (b"a{{b}}", b"{b"),
        (b"}{x}", b"x"),
    ],
)
def test_the_tag_is_what_stands_in_the_first_braces(key: bytes, tag: bytes) -> None:
    assert tag_of(key) == tag


@given(st.binary(), st.binary(), st.binary(min_size=1))
def test_keys_with_one_tag_share_a_group(before: bytes, after: bytes, tag: bytes) -> None:
    clean = tag.replace(b"}", b"") or b"x"
    key = before.replace(b"{", b"") + b"{" + clean + b"}" + after
    assert table_of(16).group_of(key) == table_of(16).group_of(clean.join((b"{", b"}")))


@given(st.binary(), st.integers(1, 64))
def test_the_group_is_the_one_whose_range_holds_the_token(key: bytes, count: int) -> None:
    group = table_of(count).group_of(key)
    assert (group - 1) * TOKENS // count <= token_of(key) < group * TOKENS // count


def test_one_partition_serves_everything() -> None:
    assert table_of(1).group_of(b"whatever") == 1


@pytest.mark.parametrize(
    "partitions",
    [
        [],
        [Partition(group=1, token_first=0, token_last=5)],
        [Partition(group=1, token_first=1, token_last=TOKENS - 1)],
        [
            Partition(group=1, token_first=0, token_last=7),
            Partition(group=2, token_first=7, token_last=TOKENS - 1),
        ],
    ],
    ids=["empty", "ends early", "begins late", "overlap"],
)
def test_a_table_with_gaps_or_overlaps_is_refused(partitions: list[Partition]) -> None:
    with pytest.raises(InvalidRequest, match="newer client"):
        RoutingTable(PartitionTable(version=3, partitions=partitions))


def test_keys_of_a_txn_must_share_a_group() -> None:
    table = table_of(8)
    assert table.group_of_all([b"{a}1", b"{a}2"], ranges=False) == table.group_of(b"a")
    with pytest.raises(InvalidRequest, match="tag"):
        table.group_of_all([b"1", b"2", b"3", b"4"], ranges=False)
    with pytest.raises(InvalidRequest, match="ranges"):
        table.group_of_all([b"1"], ranges=True)
    assert table_of(1).group_of_all([b"1", b"2"], ranges=True) == 1
