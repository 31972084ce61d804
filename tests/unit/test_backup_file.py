"""Backup files: what is written is read, and whatever a disk or a hand has changed is refused."""

import io
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum_proto.backup_file import (
    BLOCK_HEAD,
    DIGEST_BYTES,
    FORMAT,
    MAGIC,
    PREAMBLE,
    BackupError,
    BackupItem,
    BackupReader,
    BackupWriter,
    BlockKind,
    DamagedBackup,
    ItemsBlock,
    NewerBackup,
    NotABackup,
    checksum_of,
    encode_item,
    read_through,
)
from kvorum_proto.backup_pb2 import BackupGroup, BackupHeader, BackupTrailer

HEADER = BackupHeader(
    cluster_id=b"c" * 16,
    created_ms=1_700_000_000_000,
    partitions=2,
    level=1,
    protocol="raft",
    settings={"session_window": 64, "range_keys_max": 1000},
    version="0.1.0",
)
GROUPS = (
    BackupGroup(group=1, revision=9, compacted_revision=2, index=14, term=3, log_time=5000),
    BackupGroup(group=2, revision=1),
)
ITEMS = (
    BackupItem(b"a", b"1", 2, 2, 1, 0),
    BackupItem(b"a\x00b", b"", 3, 7, 4, 0),
    BackupItem(b"\xff", b"x" * 40, 5, 9, 2, 77),
)
GOLDEN = """
934b564f52554d0a 00000001
01 00000000 00000053
    0a10636363636363636363636363636363631080d095ffbc31180220012a047261667432130a0e72616e6765
    5f6b6579735f6d617810e80732120a0e73657373696f6e5f77696e646f7710403a05302e312e30
    c7785b63aa76401d28cef33e236ff484
02 00000000 0000000d
    080110091802200e2803308827
    3fe495584d780830247e76f36e94c8e3
03 00000002 00000055
    0000000100000001000000000000000200000000000000020000000000000001000000000000000061310000
    0003000000000000000000000003000000000000000700000000000000040000000000000000610062
    972407911231e1bcf468e8403962e727
03 00000001 00000051
    0000000100000028000000000000000500000000000000090000000000000002000000000000004dff787878
    78787878787878787878787878787878787878787878787878787878787878787878787878
    0f4d3da435f04c30a4e8c67511f3dee0
02 00000000 00000004
    08021001
    da67b0a74a324abe5508b5c24ff5ce00
04 00000000 0000000d
    0a070801100318a6010a020802
    a87bc97b1824e63b468757b2735187e7
"""
"""Preamble; then for each block its head (kind, count, length), payload and digest."""


def items_payload(items: Sequence[BackupItem]) -> bytes:
    return b"".join(encode_item(*item) for item in items)


def written(blocks: Sequence[Sequence[BackupItem]] = (ITEMS[:2], ITEMS[2:])) -> bytes:
    """A file of two groups: the first with the blocks, the second empty."""
    file = io.BytesIO()
    writer = BackupWriter(file.write)
    writer.begin(HEADER)
    writer.group(GROUPS[0])
    for items in blocks:
        writer.items(len(items), items_payload(items))
    writer.group(GROUPS[1])
    checksum = writer.finish()
    data = file.getvalue()
    assert data.endswith(checksum)
    assert len(data) == writer.size_bytes
    return data


def read(data: bytes) -> tuple[BackupReader, list[BackupGroup], list[BackupItem]]:
    reader = BackupReader(io.BytesIO(data), "a.kvb")
    groups: list[BackupGroup] = []
    items: list[BackupItem] = []
    for block in reader.blocks():
        if isinstance(block, ItemsBlock):
            items += block.items()
        else:
            groups.append(block)
    return reader, groups, items


def refused(data: bytes) -> BackupError:
    with pytest.raises(BackupError) as raised:
        read(data)
    return raised.value


def block_starts(data: bytes) -> list[int]:
    """Where each block begins, and where the last one ends."""
    starts = [PREAMBLE.size]
    while starts[-1] < len(data):
        _, _, length = BLOCK_HEAD.unpack_from(data, starts[-1])
        starts.append(starts[-1] + BLOCK_HEAD.size + length + DIGEST_BYTES)
    return starts


def block(before: bytes, kind: int, count: int, payload: bytes) -> bytes:
    """A block with the digest that it must have after a file that ends like ``before``."""
    head = BLOCK_HEAD.pack(kind, count, len(payload))
    chained = before[-DIGEST_BYTES:] if len(before) > PREAMBLE.size else checksum_of(before)
    return head + payload + checksum_of(chained + head + payload)


def test_what_is_written_is_read() -> None:
    reader, groups, items = read(written())
    assert reader.header == HEADER
    assert groups == list(GROUPS)
    assert items == list(ITEMS)
    assert [(count.group, count.items) for count in reader.counts] == [(1, 3), (2, 0)]
    assert reader.offset == reader.size_bytes


ITEM = st.builds(
    BackupItem,
    st.binary(max_size=20),
    st.binary(max_size=300),
    *[st.integers(-(1 << 63), (1 << 63) - 1)] * 4,
)


@given(st.lists(st.lists(ITEM, max_size=5), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_items_come_back_as_they_were(blocks: list[list[BackupItem]]) -> None:
    _, groups, items = read(written(blocks))
    assert groups == list(GROUPS)
    assert items == [item for block in blocks for item in block]


def test_the_bytes_of_a_file_never_change() -> None:
    """The layout is a promise to every backup that was ever saved."""
    data = written()
    assert data == bytes.fromhex(GOLDEN)


def test_the_contents_of_a_file() -> None:
    data = written()
    seen: list[int] = []
    contents = read_through(io.BytesIO(data), "a.kvb", lambda reader: seen.append(reader.offset))
    assert contents.header == HEADER
    assert [group for group, _ in contents.groups] == list(GROUPS)
    assert contents.items == 3
    assert contents.size_bytes == len(data)
    assert contents.checksum == data[-DIGEST_BYTES:]
    assert seen == block_starts(data)[2:-1]


def test_every_flipped_bit_is_found_in_its_block() -> None:
    data = written()
    starts = [0, *block_starts(data)]
    for offset in range(len(data)):
        for bit in (0x01, 0x80):
            damaged = bytearray(data)
            damaged[offset] ^= bit
            error = refused(bytes(damaged))
            begin = max(start for start in starts if start <= offset)
            assert error.offset in {begin, offset, len(MAGIC)}, f"byte {offset}: {error}"
            if offset >= PREAMBLE.size:
                assert isinstance(error, DamagedBackup)
                assert f"a.kvb is damaged at byte {begin}: " in str(error)


def test_every_file_that_was_cut_is_refused() -> None:
    data = written()
    starts = block_starts(data)
    for size in range(len(data)):
        error = refused(data[:size])
        if size < len(MAGIC):
            assert isinstance(error, NotABackup)
        else:
            assert isinstance(error, DamagedBackup)
            whole = [start for start in starts if start <= size]
            assert error.offset == (whole[-1] if whole else size)
        if size in starts:
            assert "the file ends here, before its trailer" in str(error)


def test_what_follows_the_end_is_refused() -> None:
    data = written()
    assert str(refused(data + b"\n")).startswith(
        f"a.kvb is damaged at byte {len(data)}: 1 bytes follow the end"
    )
    assert refused(data + data).offset == len(data)


def test_blocks_that_were_lost_doubled_or_moved_are_found() -> None:
    data = written([ITEMS[:1], ITEMS[1:2], ITEMS[2:]])
    starts = block_starts(data)
    blocks = [data[a:b] for a, b in itertools.pairwise(starts)]
    head = data[: PREAMBLE.size]
    for order in ([0, 1, 2, 4, 5, 6], [0, 1, 2, 3, 3, 4, 5, 6], [0, 1, 3, 2, 4, 5, 6]):
        moved = head + b"".join(blocks[number] for number in order)
        assert "does not have its checksum" in str(refused(moved))


def test_a_block_of_another_backup_is_found() -> None:
    ours, theirs = written([ITEMS[:1]]), written([(ITEMS[0]._replace(value=b"2"),)])
    starts = block_starts(ours)
    mixed = ours[: starts[3]] + theirs[starts[3] :]
    assert refused(mixed).offset == starts[3]


def test_what_is_no_backup_is_called_so() -> None:
    for data in (b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(100), MAGIC.replace(b"\n", b"\r\n")):
        error = refused(data)
        assert isinstance(error, NotABackup)
        assert str(error) == "a.kvb is no backup of kvorum; check the name"


def test_a_newer_format_asks_for_a_newer_program() -> None:
    data = PREAMBLE.pack(MAGIC, FORMAT + 1) + b"who knows"
    error = refused(data)
    assert isinstance(error, NewerBackup)
    assert f"format {FORMAT + 1}" in str(error)
    assert "upgrade" in str(error)
    assert isinstance(refused(PREAMBLE.pack(MAGIC, 0)), DamagedBackup)


PLAIN = PREAMBLE.pack(MAGIC, FORMAT)
BEGUN = PLAIN + block(PLAIN, BlockKind.HEADER, 0, HEADER.SerializeToString())
GROUP = GROUPS[0].SerializeToString()
IN_GROUP = BEGUN + block(BEGUN, BlockKind.GROUP, 0, GROUP)


@pytest.mark.parametrize(
    ("before", "kind", "payload", "reason"),
    [
        (PLAIN, BlockKind.GROUP, GROUP, "stands where the header should"),
        (PLAIN, BlockKind.HEADER, b"\xff", "no BackupHeader in its block"),
        (BEGUN, BlockKind.ITEMS, b"", "a block of kind 3 is out of place"),
        (BEGUN, BlockKind.HEADER, b"", "a block of kind 1 is out of place"),
        (BEGUN, 9, b"", "a block of kind 9 is out of place"),
        (BEGUN, BlockKind.GROUP, b"\xff", "no BackupGroup in its block"),
        (IN_GROUP, BlockKind.GROUP, GROUP, "group 1 is out of order"),
        (IN_GROUP, BlockKind.TRAILER, b"\xff", "no BackupTrailer in its block"),
        (
            IN_GROUP,
            BlockKind.TRAILER,
            BackupTrailer().SerializeToString(),
            "the trailer counts other items than there are",
        ),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_for_all_its_checksums(
    before: bytes, kind: int, payload: bytes, reason: str
) -> None:
    error = refused(before + block(before, kind, 0, payload))
    assert isinstance(error, DamagedBackup)
    assert error.offset == len(before)
    assert reason in str(error)


@pytest.mark.parametrize(
    ("count", "payload", "offset"),
    [
        (1, b"", 0),
        (2, encode_item(*ITEMS[0]), len(encode_item(*ITEMS[0]))),
        (1, encode_item(*ITEMS[0])[:-1], 0),
        (1, encode_item(*ITEMS[0]) + b"x", len(encode_item(*ITEMS[0]))),
    ],
)
def test_items_that_are_none_are_refused_where_they_lie(
    count: int, payload: bytes, offset: int
) -> None:
    with pytest.raises(DamagedBackup) as raised:
        list(ItemsBlock("a.kvb", 100, count, payload).items())
    assert raised.value.offset == 100 + offset


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_arbitrary_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    for start in (b"", PLAIN, BEGUN):
        assert isinstance(refused(start + data), BackupError)
