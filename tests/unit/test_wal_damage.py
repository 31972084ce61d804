"""Damage of the write-ahead log: what was promised and is gone is told, the rest is cut."""

import contextlib
import copy
import errno
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import DiskFailure, NewerFormat, WalDamage
from kvorum_server.storage.record import frame_of
from kvorum_server.storage.segment import (
    FORMAT,
    PREFIX_BYTES,
    Position,
    decode_start,
    encode_prefix,
    encode_write,
    segment_name,
    start_frames,
    write_at,
)
from kvorum_server.types import HardState
from tests.simulator.disk import SimulatedDisk
from tests.unit.wal_setup import (
    SEGMENT_BYTES,
    entries,
    indexes,
    log_of_one_group,
    opened,
    persisted,
    simulated,
)


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


def test_a_segment_that_begins_with_a_state_of_its_own_is_damage() -> None:
    disk = simulated()
    log_with_claims(disk)
    name = segment_name(2)
    first = write_at(disk.open(name).read(0, SEGMENT_BYTES), 2, PREFIX_BYTES)
    assert first is not None
    previous_end, state = decode_start(first.frames)
    state.replicas[1].hard_state = HardState(9, 9, 0)
    forged = encode_write(Position(2, PREFIX_BYTES), first.claim, start_frames(previous_end, state))
    disk.open(name).write(PREFIX_BYTES, forged)
    with pytest.raises(WalDamage, match="a state that its predecessors do not give"):
        opened(disk)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_damaged_segment_leaves_no_file_open(number: int) -> None:
    disk = simulated()
    log_with_claims(disk)
    disk.flip(segment_name(number), PREFIX_BYTES)
    with pytest.raises(WalDamage):
        opened(disk)
    assert disk.open_files == 0


def test_missing_entries_leave_no_file_open() -> None:
    disk = simulated()
    log_with_claims(disk)
    disk.remove(segment_name(1))
    with pytest.raises(WalDamage, match="are missing"):
        opened(disk)
    assert disk.open_files == 0


def torn_log() -> SimulatedDisk:
    """A log whose tail has to be cut: the last write is torn, and a spare is not blank."""
    disk = simulated()
    end = log_with_claims(disk)
    disk.flip(segment_name(end.segment), end.offset)
    disk.flip(segment_name(end.segment + 1), PREFIX_BYTES)
    return disk


def started(disk: SimulatedDisk, error: OSError, *, fails_at: int) -> int:
    """Opens and closes the log of a disk one of whose operations fails; how many there were."""
    operations = 0

    def strike(_: str) -> None:
        nonlocal operations
        operations += 1
        if operations == fails_at:
            raise error

    disk.interrupt = strike
    with contextlib.suppress(DiskFull, DiskFailure):
        log, _ = opened(disk)
        log.close()
    return operations


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), DiskFull(errno.ENOSPC, "full")])
@pytest.mark.parametrize("made", [simulated, torn_log])
def test_a_disk_that_fails_at_any_moment_of_a_start_leaves_no_file_open(
    made: Callable[[], SimulatedDisk], error: OSError
) -> None:
    operations = started(made(), error, fails_at=0)
    assert operations > 10
    for number in range(1, operations + 1):
        disk = made()
        assert started(disk, error, fails_at=number) >= number
        assert disk.open_files == 0, f"operation {number} of {operations}"


def test_the_message_of_damage_is_one_line_with_file_place_and_remedy() -> None:
    message = str(WalDamage("0000000000000002.wal", 640, "the segment is missing"))
    assert message == (
        "write-ahead log damaged: 0000000000000002.wal at byte 640: the segment is missing; "
        "nothing was changed; start the node with --join and addresses of other members, or "
        "restore a backup; `kvorum-server verify` tells more"
    )


def test_a_later_format_is_refused_by_name() -> None:
    disk = simulated()
    log_with_claims(disk)
    disk.open(segment_name(2)).write(0, encode_prefix(2, SEGMENT_BYTES, version=FORMAT + 1))
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
    # What takes the newest claim away together with what it covers is outside the fault model.
    covers_claim = Position(number, offset) < CLAIMED < Position(number, offset + len(data))
    assume(shortened or not covers_claim)
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
CLAIMED = log_with_claims(CLAIMED_DISK)
