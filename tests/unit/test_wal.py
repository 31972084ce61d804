"""The write-ahead log: nothing durable is forgotten and nothing torn is believed."""

import copy
import errno
from pathlib import Path
from random import Random

import pytest

from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import DiskFailure
from kvorum_server.storage.filedisk import FileDisk
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
    ReplicaCreated,
    ReplicaRetired,
    SnapshotInstalled,
    frame_of,
)
from kvorum_server.storage.segment import encode_write, segment_name
from kvorum_server.storage.wal import SPARE_SEGMENTS, Recovered, WriteAheadLog
from kvorum_server.types import Configuration, Entry, EntryKind, HardState, SnapshotMeta
from tests.simulator.disk import SimulatedDisk
from tests.simulator.log_history import LogHistory
from tests.unit.wal_setup import (
    IDENTITY,
    MEMBERS,
    SEGMENT_BYTES,
    cut,
    entries,
    indexes,
    log_of_one_group,
    opened,
    persisted,
    simulated,
)

# --- Memory ---


def test_an_empty_directory_gets_an_identity_and_keeps_it() -> None:
    disk = simulated()
    log, first = opened(disk)
    end = log.durable_end
    assert first == Recovered(IDENTITY, 1, None, {}, {}, 0, fresh=True, end=end)
    log.close()
    disk.crash()
    log, second = opened(disk)
    assert second == Recovered(IDENTITY, 2, None, {}, {}, 0, fresh=False, end=end)
    assert log.durable_end > end, "the start itself is in the log, and not in where it ended before"


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
    assert history.crashes >= 1


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


def entries_until_full(log: WriteAheadLog) -> int:
    """Appends entries of 1,000 bytes while there is room; how many there was room for."""
    index = 0
    while True:
        try:
            persisted(log, entries(index + 1, index + 1, size=1000))
        except DiskFull:
            return index
        index += 1


def test_a_full_disk_refuses_a_write_cleanly_and_the_reserve_remains() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    disk.capacity_bytes -= disk.free_bytes()
    assert log.reserve_ok
    with pytest.raises(DiskFull):
        log.append([entries(1, 1, size=2 * SEGMENT_BYTES)])
    log.check_invariants()
    assert not log.has_unsynced
    written = entries_until_full(log)
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


# --- What an operator has decided ---


def test_a_skipped_entry_is_remembered_until_the_log_starts_after_it() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    persisted(log, entries(1, 3))
    persisted(log, EntrySkipped(1, 1, 2, 0xC0FFEE), EntrySkipped(1, 1, 9, 0xBEEF))
    for index in range(4, 12):
        persisted(log, entries(index, index, size=900))
    log.close()
    assert len(log.segment_names) > 2, "the decision has to travel from segment to segment"
    log, recovered = opened(disk)
    assert recovered.replicas[1].skipped == {2: 0xC0FFEE, 9: 0xBEEF}
    persisted(log, *cut(5))
    log.close()
    log, recovered = opened(disk)
    assert recovered.replicas[1].skipped == {9: 0xBEEF}
    persisted(log, SnapshotInstalled(1, 1, 6, SnapshotMeta(20, 2, 900, MEMBERS)))
    log.close()
    _, recovered = opened(disk)
    assert recovered.replicas[1].skipped == {}


def test_an_entry_that_a_checkpoint_holds_cannot_be_skipped_any_more() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    persisted(log, entries(1, 3), CheckpointTaken(((1, 2),)))
    with pytest.raises(AssertionError, match="entry 2 is applied: checkpoint 2 holds it"):
        log.append([EntrySkipped(1, 1, 2, 7)])


def test_only_a_recovery_replaces_the_birth_certificate() -> None:
    disk = simulated()
    log = log_of_one_group(disk)
    with pytest.raises(AssertionError, match="the node belongs to no cluster yet"):
        log.append([ClusterRecovered(b"new")])
    disk = simulated()
    log = log_of_one_group(disk)
    persisted(log, BootstrapRecord(b"old"), ClusterRecovered(b"new"))
    log.close()
    _, recovered = opened(disk)
    assert recovered.bootstrap == b"new"


@pytest.mark.parametrize("operation", ["write", "rename", "sync directory"])
def test_a_segment_that_finds_no_room_half_way_can_be_tried_again(operation: str) -> None:
    """File systems that copy on write may be full after they have promised the blocks."""
    disk = simulated()
    log = log_of_one_group(disk)
    struck: list[str] = []

    def strike(name: str) -> None:
        is_new = any(known.endswith(".new") for known in disk.names())
        if name == operation and (is_new or operation != "write") and not struck:
            struck.append(name)
            raise DiskFull(errno.ENOSPC, "no space left")

    disk.interrupt = strike
    for index in range(1, 200):
        persisted(log, entries(index, index))
    assert struck
    assert log.reserve_ok
    log.close()
    _, recovered = opened(disk)
    assert indexes(recovered)[-1] == 199
