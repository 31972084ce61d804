"""Records as bytes: the same for ever, back again, and CorruptRecord for garbage."""

from dataclasses import replace

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum_server.storage.errors import CorruptRecord
from kvorum_server.storage.record import (
    BootstrapRecord,
    CheckpointTaken,
    ClusterRecovered,
    EntriesAppended,
    EntrySkipped,
    HardStateChanged,
    LogCut,
    NodeIdentity,
    Record,
    RecordKind,
    ReplicaCreated,
    ReplicaRetired,
    SnapshotInstalled,
    StateLost,
    StateRebuilt,
    address,
    decode,
    encode,
    entry_checksum,
)
from kvorum_server.types import Configuration, Entry, EntryKind, HardState, SnapshotMeta

SMALL = Configuration.initial((0xAA,))
ENTRIES = (
    Entry(5, 2, EntryKind.NO_OP, 1000, 1, b""),
    Entry(6, 2, EntryKind.COMMANDS, 1001, 1, b"\xde\xad"),
)

# kind, group and replica as the log stores them, then the body. Changing a line here means that
# every existing data directory becomes unreadable.
GOLDEN: list[tuple[Record, tuple[int, int, int], str]] = [
    (NodeIdentity(0x1122334455667788, 3), (1, 0, 0), "8877665544332211 0300000000000000"),
    (BootstrapRecord(b"\x0a\x01c"), (2, 0, 0), "0a0163"),
    (
        ReplicaCreated(1, 2, 9, SMALL),
        (3, 1, 2),
        "09000000 0a0101 2205080110aa01 2802",
    ),
    (
        EntriesAppended(1, 2, ENTRIES),
        (4, 1, 2),
        "0500000000000000 02000000"
        "0200000000000000 e803000000000000 01000000 00 00000000"
        "0200000000000000 e903000000000000 01000000 01 02000000 dead",
    ),
    (
        HardStateChanged(1, 2, HardState(4, 3, 77)),
        (5, 1, 2),
        "0400000000000000 0300000000000000 4d00000000000000",
    ),
    (
        SnapshotInstalled(1, 2, 10, SnapshotMeta(100, 4, 5000, SMALL)),
        (6, 1, 2),
        "0a000000 6400000000000000 0400000000000000 8813000000000000 0a0101 2205080110aa01 2802",
    ),
    (
        CheckpointTaken(((0, 7), (1, 8))),
        (7, 0, 0),
        "02000000 00000000 0700000000000000 01000000 0800000000000000",
    ),
    (
        LogCut(1, 2, 90, 3, 4000, SMALL),
        (8, 1, 2),
        "5a00000000000000 0300000000000000 a00f000000000000 0a0101 2205080110aa01 2802",
    ),
    (ReplicaRetired(1, 2), (9, 1, 2), ""),
    (EntrySkipped(1, 2, 77, 0xC0FFEE), (13, 1, 2), "4d00000000000000 eeffc000"),
    (ClusterRecovered(b"\x0a\x01d"), (14, 0, 0), "0a0164"),
    (StateLost(1, 2), (15, 1, 2), ""),
    (StateRebuilt(1, 2, 11, 98), (16, 1, 2), "0b000000 6200000000000000"),
]


@pytest.mark.parametrize(("record", "place", "body"), GOLDEN, ids=lambda item: type(item).__name__)
def test_the_bytes_of_a_record_never_change(
    record: Record, place: tuple[int, int, int], body: str
) -> None:
    assert address(record) == place
    assert encode(record) == bytes.fromhex(body)
    assert decode(*place, bytes.fromhex(body)) == record


def test_the_golden_list_names_every_record() -> None:
    internal = {RecordKind.CLAIM, RecordKind.SEGMENT_START, RecordKind.REPLICA_STATE}
    assert {place[0] for _, place, _ in GOLDEN} == set(RecordKind) - internal


numbers = st.integers(0, 2**64 - 1)
small_numbers = st.integers(0, 2**32 - 1)
configurations = st.builds(
    Configuration.initial, st.lists(numbers, max_size=5, unique=True).map(tuple)
)


@st.composite
def entry_runs(draw: st.DrawFn) -> tuple[Entry, ...]:
    first = draw(st.integers(1, 2**62))
    values = st.tuples(
        numbers, st.sampled_from(EntryKind), numbers, small_numbers, st.binary(max_size=40)
    )
    found = draw(st.lists(values, min_size=1, max_size=5))
    return tuple(Entry(first + place, *value) for place, value in enumerate(found))


records: st.SearchStrategy[Record] = st.one_of(
    st.builds(NodeIdentity, numbers, numbers),
    st.builds(BootstrapRecord, st.binary()),
    st.builds(ReplicaCreated, small_numbers, numbers, small_numbers, configurations),
    st.builds(EntriesAppended, small_numbers, numbers, entry_runs()),
    st.builds(
        HardStateChanged,
        small_numbers,
        numbers,
        st.builds(HardState, numbers, numbers, numbers),
    ),
    st.builds(
        SnapshotInstalled,
        small_numbers,
        numbers,
        small_numbers,
        st.builds(SnapshotMeta, numbers, numbers, numbers, configurations),
    ),
    st.builds(CheckpointTaken, st.lists(st.tuples(small_numbers, numbers), max_size=5).map(tuple)),
    st.builds(LogCut, small_numbers, numbers, numbers, numbers, numbers, configurations),
    st.builds(ReplicaRetired, small_numbers, numbers),
    st.builds(EntrySkipped, small_numbers, numbers, numbers, small_numbers),
    st.builds(ClusterRecovered, st.binary()),
)


@given(records)
def test_every_record_comes_back_from_its_bytes(record: Record) -> None:
    assert decode(*address(record), encode(record)) == record


@given(st.integers(0, 255), st.binary(max_size=200))
def test_garbage_is_a_record_or_a_corrupt_one(kind: int, body: bytes) -> None:
    try:
        record = decode(kind, 1, 2, body)
    except CorruptRecord:
        return
    assert address(record)[0] == kind


@given(records, st.data())
def test_a_damaged_body_is_a_record_or_a_corrupt_one(record: Record, data: st.DataObject) -> None:
    body = bytearray(encode(record))
    if body:
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(body)))
    try:
        found = decode(*address(record), bytes(body[:cut]))
    except CorruptRecord:
        return
    assert type(found) is type(record)


ANY_BYTES = (ReplicaRetired, BootstrapRecord, ClusterRecovered)
"""Records of which half a body is as good as a whole one: only checksums guard them."""


@given(records.filter(lambda record: not isinstance(record, ANY_BYTES)))
def test_no_record_survives_the_loss_of_its_first_half(record: Record) -> None:
    body = encode(record)
    if isinstance(record, ReplicaCreated | LogCut | SnapshotInstalled):
        body = body[:3]
    with pytest.raises(CorruptRecord):
        decode(*address(record), body[: len(body) // 2])


@given(entry_runs(), st.data())
def test_the_checksum_of_an_entry_changes_with_every_part_of_it(
    run: tuple[Entry, ...], data: st.DataObject
) -> None:
    entry = run[0]
    other = data.draw(
        st.sampled_from(
            [
                replace(entry, index=entry.index + 1),
                replace(entry, term=entry.term ^ 1),
                replace(entry, stamp=entry.stamp ^ 1),
                replace(entry, level=entry.level ^ 1),
                replace(entry, kind=EntryKind((entry.kind + 1) % len(EntryKind))),
                replace(entry, payload=entry.payload + b"x"),
            ]
        )
    )
    assert entry_checksum(other) != entry_checksum(entry)


def test_a_count_of_billions_costs_nothing() -> None:
    with pytest.raises(CorruptRecord):
        decode(RecordKind.ENTRIES_APPENDED, 1, 1, bytes(8) + b"\xff\xff\xff\xff")
    with pytest.raises(CorruptRecord):
        decode(RecordKind.CHECKPOINT_TAKEN, 0, 0, b"\xff\xff\xff\xff")


def test_entries_with_a_gap_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="entry 7 follows 5"):
        encode(EntriesAppended(1, 1, (ENTRIES[0], Entry(7, 2, EntryKind.NO_OP, 1, 1, b""))))


def test_the_checksum_is_computed_in_c() -> None:
    assert google_crc32c.implementation == "c", "a checksum in Python is a thousand times slower"
