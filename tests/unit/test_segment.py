"""The bytes of a segment: the same for ever, and valid only in the place they were written to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum_server.storage.errors import CorruptRecord, NewerFormat
from kvorum_server.storage.log_state import LogState, ReplicaState
from kvorum_server.storage.record import EntrySkipped, HardStateChanged, NodeIdentity, frame_of
from kvorum_server.storage.segment import (
    FORMAT,
    Position,
    check_prefix,
    claims_from,
    decode_start,
    encode_prefix,
    encode_write,
    segment_name,
    segment_number,
    start_frames,
    write_at,
    write_bytes,
)
from kvorum_server.types import Configuration, HardState

FRAMES = [
    frame_of(NodeIdentity(0xAA, 2)),
    frame_of(HardStateChanged(1, 2, HardState(3, 1, 9))),
]
SKIPPED = frame_of(EntrySkipped(1, 2, 7, 0xC0FFEE))
AT = Position(3, 32)
WRITE = encode_write(AT, Position(2, 640), FRAMES)
STATE = LogState(
    identity=0xAA,
    boot=2,
    bootstrap=b"certificate",
    replicas={
        1: ReplicaState(
            2,
            9,
            HardState(3, 1, 9),
            4,
            1,
            40,
            Configuration.initial((0xAA, 0xBB)),
            6,
            12,
            skipped={7: 0xC0FFEE},
        )
    },
    retired={1: 1, 5: 8},
)


def test_the_bytes_of_a_segment_never_change() -> None:
    assert encode_prefix(3, 4096).hex(" ", 4) == PREFIX_GOLDEN
    assert WRITE.hex(" ", 4) == WRITE_GOLDEN
    frames = start_frames(700, STATE)
    assert [(kind, group, replica) for kind, group, replica, _ in frames] == [
        (11, 0, 0),
        (1, 0, 0),
        (2, 0, 0),
        (9, 1, 1),
        (9, 5, 8),
        (12, 1, 2),
        (13, 1, 2),
    ]
    assert frames[0][3].hex() == "bc02000000000000"
    assert frames[-2][3].hex(" ", 4) == STATE_GOLDEN


def test_a_write_comes_back_with_its_claim() -> None:
    write = write_at(bytes(32) + WRITE + bytes(9), 3, 32)
    assert write is not None
    assert (write.claim, write.frames, write.end) == ((2, 640), FRAMES, 32 + len(WRITE))
    assert write_bytes(FRAMES) == len(WRITE)


def test_a_write_in_another_place_is_none() -> None:
    assert write_at(bytes(32) + WRITE, 3, 32) is not None
    assert write_at(bytes(32) + WRITE, 4, 32) is None
    assert write_at(bytes(33) + WRITE, 3, 33) is None
    assert list(claims_from(bytes(32) + WRITE, 3, 0)) == [(2, 640)]
    assert list(claims_from(bytes(33) + WRITE, 3, 0)) == []


@given(st.integers(0, len(WRITE) * 8 - 1))
def test_no_bit_of_a_write_can_change_unnoticed(bit: int) -> None:
    data = bytearray(bytes(32) + WRITE)
    data[32 + bit // 8] ^= 1 << bit % 8
    assert write_at(bytes(data), 3, 32) is None


@given(st.integers(0, len(WRITE) - 1))
def test_a_shortened_write_is_none(size: int) -> None:
    assert write_at(bytes(32) + WRITE[:size], 3, 32) is None


@given(st.binary(max_size=300))
def test_garbage_is_no_write(data: bytes) -> None:
    assert write_at(data, 1, 0) is None
    assert list(claims_from(data, 1, 0)) == []


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_claim_is_found_between_any_garbage(before: bytes, after: bytes) -> None:
    claim = encode_write(Position(1, len(before)), Position(1, 7), [])
    assert list(claims_from(before + claim + after, 1, 0)) == [(1, 7)]


def test_the_state_at_the_start_of_a_segment_comes_back() -> None:
    assert decode_start(start_frames(700, STATE)) == (700, STATE)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([], "does not start one"),
        (FRAMES, "does not start one"),
        ([start_frames(0, STATE)[0]], "without the identity"),
        ([start_frames(0, STATE)[0], FRAMES[1]], "cannot begin with HardStateChanged"),
        ([start_frames(0, STATE)[0], (12, 1, 1, b"short")], "state of replica 1"),
        ([start_frames(0, STATE)[0], SKIPPED], "cannot begin with EntrySkipped"),
    ],
)
def test_a_segment_that_begins_with_anything_else_is_corrupt(
    frames: list[tuple[int, int, int, bytes]], reason: str
) -> None:
    with pytest.raises(CorruptRecord, match=reason):
        decode_start(frames)


def test_a_file_is_the_segment_that_its_prefix_says() -> None:
    whole = encode_prefix(3, 100) + bytes(68)
    check_prefix(whole, 3)
    for data, number, reason in (
        (whole, 4, "is segment 3 of 100 bytes"),
        (whole[:-1], 3, "but has 99 bytes"),
        (bytes(100), 3, "does not begin as a segment"),
        (b"", 3, "does not begin as a segment"),
    ):
        with pytest.raises(CorruptRecord, match=reason):
            check_prefix(data, number)


def test_a_newer_format_is_named_even_when_the_rest_has_another_meaning() -> None:
    with pytest.raises(NewerFormat, match="upgrade"):
        check_prefix(encode_prefix(77, 1, version=FORMAT + 1), 3)


def test_a_segment_of_the_first_format_is_still_read() -> None:
    check_prefix(bytes.fromhex(FIRST_FORMAT_GOLDEN) + bytes(4064), 3)


def test_names_and_numbers_of_segments() -> None:
    assert segment_number(segment_name(12)) == 12
    assert [segment_number(name) for name in ("LOCK", "1.wal", "x" * 16 + ".wal", "0" * 16)] == [
        None
    ] * 4


PREFIX_GOLDEN = "6b766f72 756d776c 02000000 03000000 00000000 00100000 00000000 e3558c3c"
FIRST_FORMAT_GOLDEN = "6b766f72 756d776c 01000000 03000000 00000000 00100000 00000000 244d4865"
WRITE_GOLDEN = (
    "051ac920 18000000 0a000000 00000000 00000000 00000000 02000000 00000000 "
    "80020000 00000000 88000000 00000000 b11fe296 10000000 01000000 00000000 "
    "00000000 00000000 aa000000 00000000 02000000 00000000 ddaf2914 18000000 "
    "05000000 01000000 02000000 00000000 03000000 00000000 01000000 00000000 "
    "09000000 00000000"
)
STATE_GOLDEN = (
    "09000000 03000000 00000000 01000000 00000000 09000000 00000000 04000000 "
    "00000000 01000000 00000000 28000000 00000000 06000000 00000000 0c000000 "
    "00000000 0a020102 22050801 10aa0122 05080210 bb012803"
)
