"""The write-ahead log: nothing durable is forgotten, nothing torn is believed, damage is told apart."""

import copy
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import DiskFailure, NewerFormat, WalDamage
from kvorum_server.storage.filedisk import FileDisk
from kvorum_server.storage.record import (
    BootstrapRecord,
    CheckpointTaken,
    EntriesAppended,
    HardStateChanged,
    LogCut,
    NodeIdentity,
    Record,
    ReplicaCreated,
    ReplicaRetired,
    SnapshotInstalled,
    frame_of,
)
from kvorum_server.storage.segment import (
    PREFIX_BYTES,
    Position,
    encode_prefix,
    encode_write,
    segment_name,
    write_at,
)
from kvorum_server.storage.wal import SPARE_SEGMENTS, Recovered, WriteAheadLog
from kvorum_server.types import Configuration, Entry, EntryKind, HardState, SnapshotMeta
from tests.simulator.disk import SimulatedDisk
from tests.simulator.log_history import LogHistory

IDENTITY = 0xBEEF
MEMBERS = Configuration.initial((IDENTITY, 2, 3))
SEGMENT_BYTES = 4096


def opened(disk: SimulatedDisk | FileDisk) -> tuple[WriteAheadLog, Recovered]:
    log, recovered = WriteAheadLog.open(
        disk, segment_bytes=SEGMENT_BYTES, new_identity=lambda: IDENTITY
    )
    log.check_invariants()
    return log, recovered


def entries(first: int, last: int, *, term: int = 1, size: int = 10) -> EntriesAppended:
    """Entries of group 1, replica 1; the payload tells index and term."""
    run = tuple(
        Entry(index, term, EntryKind.COMMANDS, index * 10, 1, f"{index}@{term}".encode().ljust(size))
        for index in range(first, last + 1)
    )
    return EntriesAppended(1, 1, run)


def cut(index: int) -> list[Record]:
    """What a checkpoint of group 1 and the cut that follows write."""
    return [CheckpointTaken(((1, index),)), LogCut(1, 1, index, 1, index * 10, MEMBERS)]


def persisted(log: WriteAheadLog, *records: Record) -> None:
    log.append(records)
    log.sync()
    log.check_invariants()


def log_of_one_group(disk: SimulatedDisk | FileDisk) -> WriteAheadLog:
    log, _ = opened(disk)
    persisted(log, ReplicaCreated(1, 1, 5, MEMBERS))
    return log


def simulated() -> SimulatedDisk:
    return SimulatedDisk(Random(1))


def indexes(recovered: Recovered) -> list[int]:
    return [entry.index for entry in recovered.replicas[1].entries]


# --- Memory ---


def test_an_empty_directory_gets_an_identity_and_keeps_it() -> None:
    disk = simulated()
    log, first = opened(disk)
    assert first == Recovered(IDENTITY, 1, None, {}, {}, 0, fresh=True)
    log.close()
    disk.crash()
    _, second = opened(disk)
    assert second == Recovered(IDENTITY, 2, None, {}, {}, 0, fresh=False)


def test_each_start_is_counted_before_it_is_told() -> None:
    disk = simulated()
    for boot in range(1, 6):
        _, recovered = opened(disk)
        assert recovered.boot == boot
        disk.crash()


@pytest.mark.parametrize("kind", ["file", "simulated"])
def test_everything_that_was_synced_comes_back(kind: str, tmp_path: Path) -> None:
    disk = FileDisk(tmp_path) if kind == "file" else simulated()
    log, _ = opened(disk)
    meta = SnapshotMeta(50, 3, 777, Configuration.initial((2, 3)))
    persisted(
        log,
        BootstrapRecord(b"certificate"),
        ReplicaCreated(1, 1, 5, MEMBERS),
        ReplicaCreated(2, 4, 6, MEMBERS),
        ReplicaCreated(3, 1, 7, MEMBERS),
        entries(1, 9),
        HardStateChanged(1, 1, HardState(2, 3, 8)),
        entries(8, 8, term=2),
        *cut(4),
        SnapshotInstalled(2, 4, 8, meta),
        ReplicaRetired(3, 1),
    )
    log.close()
    _, recovered = opened(disk)
    assert (recovered.bootstrap, recovered.retired) == (b"certificate", {3: 1})
    assert set(recovered.replicas) == {1, 2}
    one, two = recovered.replicas[1], recovered.replicas[2]
    assert (one.log_start, one.log_start_stamp, one.configuration) == ((4, 1), 40, MEMBERS)
    assert one.hard_state == HardState(2, 3, 8)
    assert one.checkpoint_index == 4
    assert [(entry.index, entry.term) for entry in one.entries] == [(5, 1), (6, 1), (7, 1), (8, 2)]
    assert one.entries[-1] == entries(8, 8, term=2).entries[0]
    assert (two.replica, two.space, two.log_start, two.entries) == (4, 8, (50, 3), [])
    assert two.configuration == meta.configuration
    assert (two.hard_state.commit, two.checkpoint_index) == (50, 50)
    if isinstance(disk, FileDisk):
        disk.close()


def test_an_entry_larger_than_a_segment_gets_a_segment_of_its_own() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    persisted(log, entries(1, 1, size=1 << 20), entries(2, 2))
    persisted(log, entries(3, 3))
    assert log.segment_names == (segment_name(2), segment_name(3)), "the first holds no entry"
    disk.crash()
    _, recovered = opened(disk)
    assert [len(entry.payload) for entry in recovered.replicas[1].entries] == [1 << 20, 10, 10]


def test_segments_go_when_the_log_is_cut_and_disk_space_stays_bounded() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    for index in range(1, 1000):
        persisted(log, entries(index, index, size=300))
        if index % 20 == 0:
            persisted(log, *cut(index - 5))
        assert log.disk_bytes <= 10 * SEGMENT_BYTES
    assert disk.capacity_bytes - disk.free_bytes() == log.disk_bytes
    disk.crash()
    _, recovered = opened(disk)
    assert indexes(recovered) == list(range(976, 1000))


def test_a_group_that_does_not_cut_its_log_keeps_its_segments() -> None:
    log = log_of_one_group(simulated())
    persisted(log, ReplicaCreated(2, 1, 6, MEMBERS))
    idle = Entry(1, 1, EntryKind.NO_OP, 1, 1, b"")
    persisted(log, EntriesAppended(2, 1, (idle,)))
    oldest = log.segment_names[0]
    for index in range(1, 50):
        persisted(log, entries(index, index, size=500), *cut(index))
    assert log.segment_names[0] == oldest
    persisted(log, CheckpointTaken(((2, 1),)), LogCut(2, 1, 1, 1, 1, MEMBERS))
    assert len(log.segment_names) <= 2


def test_superseded_entries_keep_no_segment() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    persisted(log, entries(1, 10, size=300))
    before = len(log.segment_names)
    for term in range(2, 12):
        persisted(log, entries(1, 10, term=term, size=300))
    assert len(log.segment_names) <= before + 1
    disk.crash()
    _, recovered = opened(disk)
    assert {entry.term for entry in recovered.replicas[1].entries} == {11}


# --- Crashes ---


@pytest.mark.parametrize("seed", range(50))
def test_after_any_crash_the_log_is_one_that_was(seed: int) -> None:
    print(f"seed {seed}: LogHistory({seed}).run(150)")
    history = LogHistory(seed)
    history.run(150)
    history.crash()


def test_the_histories_reach_what_they_are_for() -> None:
    history = LogHistory(1)
    history.run(1000)
    assert history.crashes > 10
    assert history.removed_segments > 10


def test_a_write_torn_at_any_byte_is_gone_as_a_whole() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    start = log.durable_end
    log.append([entries(1, 2), HardStateChanged(1, 1, HardState(1, 1, 1)), entries(3, 3)])
    log.sync()
    name, size = segment_name(start.segment), log.durable_end.offset - start.offset
    for kept in range(size + 1):
        torn = copy.deepcopy(disk)
        torn.open(name).write(start.offset + kept, bytes(size - kept))
        _, recovered = opened(torn)
        whole = kept == size
        assert indexes(recovered) == ([1, 2, 3] if whole else [])
        assert recovered.replicas[1].hard_state.term == int(whole)
        assert (recovered.torn_bytes > 0) == (0 < kept < size)


def test_a_torn_tail_is_erased_so_that_it_can_never_join_the_log_again() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    place = log.durable_end
    boot_write = encode_write(place, place, [frame_of(NodeIdentity(IDENTITY, 2))])
    lost = CheckpointTaken(((1, 0),))
    log.append([lost])
    assert log.durable_end == place
    log.append([HardStateChanged(1, 1, HardState(9, 9, 0))])
    # The first write is lost, the second is there; the next boot record is as long as the first.
    file = disk.open(segment_name(place.segment))
    file.write(place.offset, bytes(len(boot_write)))
    assert len(boot_write) == len(encode_write(place, place, [frame_of(lost)]))
    log.close()
    log, recovered = opened(disk)
    assert recovered.torn_bytes > 0
    log.close()
    _, recovered = opened(disk)
    assert recovered.replicas[1].hard_state == HardState()
    assert recovered.torn_bytes == 0


def test_a_restart_does_not_trust_a_page_cache_that_a_failed_sync_left() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    log.append([entries(1, 1)])
    disk.fail_next_sync = True
    with pytest.raises(DiskFailure, match="cannot sync the write-ahead log"):
        log.sync()
    log.close()
    log, recovered = opened(disk)
    assert indexes(recovered) == [1]
    persisted(log, entries(2, 2))
    disk.crash()
    _, recovered = opened(disk)
    assert indexes(recovered) == [1, 2]


def test_after_a_failed_sync_the_log_refuses_everything() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    log.append([entries(1, 1)])
    disk.fail_next_sync = True
    with pytest.raises(DiskFailure):
        log.sync()
    for use in (log.sync, log.claim, lambda: log.append([entries(2, 2)])):
        with pytest.raises(AssertionError, match="after a failure"):
            use()


# --- Damage ---


def log_with_claims(disk: SimulatedDisk) -> Position:
    """Writes over three segments, all claimed; returns the claimed end."""
    log = log_of_one_group(disk)
    for index in range(1, 9):
        persisted(log, entries(index, index, size=900))
    claimed = log.durable_end
    log.claim()
    log.sync()
    log.close()
    return claimed


def used_places(disk: SimulatedDisk, end: Position) -> list[Position]:
    """Every byte below ``end`` that belongs to a prefix or write."""
    places = []
    for number in range(1, end.segment + 1):
        data = disk.open(segment_name(number)).read(0, 1 << 20)
        offset = PREFIX_BYTES
        while (write := write_at(data, number, offset)) is not None:
            offset = write.end
        stop = end.offset if number == end.segment else offset
        places += [Position(number, place) for place in range(stop)]
    return places


def test_any_flip_below_the_newest_claim_is_damage_and_changes_no_file() -> None:
    disk = simulated()
    claimed = log_with_claims(disk)
    places = used_places(disk, claimed)
    assert claimed.segment == 3
    for step, place in enumerate(places[::7]):
        damaged = copy.deepcopy(disk)
        damaged.flip(segment_name(place.segment), place.offset, step % 8)
        before = {name: damaged.open(name).read(0, 1 << 20) for name in damaged.names()}
        with pytest.raises(WalDamage) as damage:
            opened(damaged)
        assert damage.value.file == segment_name(place.segment)
        assert damage.value.offset <= place.offset
        assert {name: damaged.open(name).read(0, 1 << 20) for name in damaged.names()} == before


def test_a_flip_at_or_after_the_newest_claim_is_cut() -> None:
    disk = simulated()
    claimed = log_with_claims(disk)
    for offset in range(claimed.offset, claimed.offset + 300):
        flipped = copy.deepcopy(disk)
        flipped.flip(segment_name(claimed.segment), offset, offset % 8)
        _, recovered = opened(flipped)
        # The bare claim itself is what the flip hits, or the zeros after it.
        assert indexes(recovered) == list(range(1, 9))
        assert recovered.torn_bytes > 0


def test_a_flip_where_a_segment_was_left_empty_does_no_harm() -> None:
    disk = simulated()
    log_with_claims(disk)
    disk.flip(segment_name(1), SEGMENT_BYTES - 1)
    _, recovered = opened(disk)
    assert indexes(recovered) == list(range(1, 9))


def test_only_a_claim_makes_the_last_write_more_than_a_torn_one() -> None:
    for claimed in (False, True):
        disk = simulated()
        log = log_of_one_group(disk)
        place = log.durable_end
        persisted(log, entries(1, 1))
        if claimed:
            log.claim()
            log.sync()
        log.close()
        disk.flip(segment_name(place.segment), place.offset + 60)
        if claimed:
            with pytest.raises(WalDamage) as damage:
                opened(disk)
            assert damage.value.offset == place.offset
        else:
            _, recovered = opened(disk)
            assert indexes(recovered) == []


@pytest.mark.parametrize("number", [2, 3])
def test_a_missing_segment_is_damage(number: int) -> None:
    disk = simulated()
    log_with_claims(disk)
    disk.remove(segment_name(number))
    with pytest.raises(WalDamage, match="the segment is missing") as damage:
        opened(disk)
    assert damage.value.file == segment_name(number)


def test_a_missing_oldest_segment_is_noticed_by_its_entries() -> None:
    disk = simulated()
    log_with_claims(disk)
    disk.remove(segment_name(1))
    with pytest.raises(WalDamage, match=r"entries 1 to 3 of group 1 are missing") as damage:
        opened(disk)
    assert damage.value.file == segment_name(1)


def test_segments_of_nothing_but_zeros_are_no_empty_directory() -> None:
    disk = simulated()
    disk.create(segment_name(1), SEGMENT_BYTES)
    with pytest.raises(WalDamage, match="does not begin as a segment"):
        opened(disk)


def test_records_that_contradict_each_other_are_damage_in_spite_of_their_checksums() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    end = log.durable_end
    log.close()
    wrong = encode_write(end, end, [frame_of(entries(5, 5))])
    disk.open(segment_name(end.segment)).write(end.offset, wrong)
    with pytest.raises(WalDamage, match=r"entry 5 cannot follow entry 0") as damage:
        opened(disk)
    assert damage.value.offset == end.offset


def test_the_message_of_damage_is_one_line_with_file_place_and_remedy() -> None:
    message = str(WalDamage("0000000000000002.wal", 640, "the segment is missing"))
    assert message == (
        "write-ahead log damaged: 0000000000000002.wal at byte 640: the segment is missing; "
        "kvorum-server refuses to start; keep the directory, move it aside and bring the node back "
        "with an empty one through its peers"
    )


def test_a_later_format_is_refused_by_name() -> None:
    disk = simulated()
    log_with_claims(disk)
    disk.open(segment_name(2)).write(0, encode_prefix(2, SEGMENT_BYTES, version=2))
    with pytest.raises(NewerFormat, match=r"0000000000000002\.wal .*newer kvorum; upgrade"):
        opened(disk)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=3), st.booleans())
def test_garbage_in_place_of_segments_is_told_or_cut(files: list[bytes], prefixed: bool) -> None:
    disk = simulated()
    for number, garbage in enumerate(files, 1):
        prefix = encode_prefix(number, PREFIX_BYTES + len(garbage)) if prefixed else b""
        data = prefix + garbage
        disk.create(segment_name(number), len(data)).write(0, data)
    with pytest.raises(WalDamage):
        opened(disk)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(0, SEGMENT_BYTES - 1),
    st.binary(min_size=1, max_size=SEGMENT_BYTES),
    st.booleans(),
)
def test_any_overwriting_of_a_log_is_told_or_cut(
    number: int, offset: int, data: bytes, shortened: bool
) -> None:
    disk = copy.deepcopy(CLAIMED_DISK)
    name = segment_name(number)
    content = disk.open(name).read(0, 1 << 20)
    changed = content[:offset] + (b"" if shortened else data + content[offset + len(data) :])
    disk.remove(name)
    disk.create(name, len(changed)).write(0, changed)
    try:
        _, recovered = opened(disk)
    except WalDamage:
        return
    assert indexes(recovered) == list(range(1, 9))


CLAIMED_DISK = simulated()
log_with_claims(CLAIMED_DISK)

# --- Claims ---


def test_claims_are_written_once_and_only_for_what_is_durable() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    log.append([entries(1, 1)])
    log.claim()
    log.sync()
    end = log.durable_end
    log.claim()
    assert log.has_unsynced
    log.sync()
    assert log.durable_end == (end.segment, end.offset + 48)
    log.claim()
    assert not log.has_unsynced


# --- A full disk ---


def test_a_full_disk_refuses_a_write_cleanly_and_the_reserve_remains() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    disk.capacity_bytes -= disk.free_bytes()
    assert log.reserve_ok
    with pytest.raises(DiskFull):
        log.append([entries(1, 1, size=2 * SEGMENT_BYTES)])
    log.check_invariants()
    assert not log.has_unsynced
    written = 0
    with pytest.raises(DiskFull):
        while True:
            log.append([entries(written + 1, written + 1, size=1000)])
            log.check_invariants()
            written += 1
            log.sync()
    assert written >= 3 * SPARE_SEGMENTS
    assert not log.reserve_ok
    log.append([HardStateChanged(1, 1, HardState(1, 1, 1))])
    persisted(log, *cut(written))
    assert log.reserve_ok, "the segments that the cut freed are the new reserve"
    persisted(log, entries(written + 1, written + 1, size=1000))
    disk.crash()
    _, recovered = opened(disk)
    assert indexes(recovered) == [written + 1]


def test_without_room_for_a_first_segment_nothing_is_left_behind() -> None:
    disk = SimulatedDisk(Random(1), capacity_bytes=SEGMENT_BYTES - 1)
    with pytest.raises(DiskFull):
        opened(disk)
    assert disk.names() == []


# --- Bugs above the log are not written down ---


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (EntriesAppended(1, 2, entries(6, 6).entries), "group 1 has no replica 2"),
        (EntriesAppended(9, 1, entries(6, 6).entries), "group 9 has no replica 1"),
        (entries(7, 7), "entry 7 cannot follow entry 5"),
        (entries(3, 3), "entry 3 would replace what checkpoint 3 holds"),
        (HardStateChanged(1, 1, HardState(1, 1, 3)), "cannot follow"),
        (HardStateChanged(1, 1, HardState(2, 3, 3)), "the vote of term 2 was 1"),
        (HardStateChanged(1, 1, HardState(3, 3, 1)), "cannot follow"),
        (CheckpointTaken(((1, 6),)), "checkpoint 6 of group 1 is above 5"),
        (LogCut(1, 1, 4, 1, 1, MEMBERS), "cut 4 is not between"),
        (SnapshotInstalled(1, 1, 9, SnapshotMeta(3, 1, 1, MEMBERS)), "snapshot 3 is not newer"),
        (ReplicaCreated(1, 2, 9, MEMBERS), "group 1 has replica 1 already"),
        (ReplicaCreated(4, 2, 9, MEMBERS), "replica 2 of group 4 was removed"),
        (ReplicaCreated(5, 1, 5, MEMBERS), "space 5 has a replica already"),
        (BootstrapRecord(b"other"), "another cluster"),
        (NodeIdentity(IDENTITY, 1), "boot 1"),
    ],
    ids=lambda item: type(item).__name__ if not isinstance(item, str) else item[:20],
)
def test_a_record_that_does_not_follow_stops_the_program(record: Record, reason: str) -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    known: list[Record] = [
        BootstrapRecord(b"certificate"),
        entries(1, 5),
        HardStateChanged(1, 1, HardState(2, 1, 3)),
        CheckpointTaken(((1, 3),)),
        ReplicaRetired(4, 2),
    ]
    persisted(log, *known)
    with pytest.raises(AssertionError, match=reason):
        log.append([record])
    disk.crash()
    _, recovered = opened(disk)
    assert indexes(recovered) == [1, 2, 3, 4, 5]
