"""What only the real disk does (locks, refusals) and only the simulated one (crashes)."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import DirectoryInUse, DirectoryUnusable
from kvorum_server.storage.filedisk import FileDisk, FileOfDisk
from tests.simulator.disk import SimulatedDisk

# --- The real disk ---


def test_a_second_user_of_the_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    first = FileDisk(tmp_path)
    with pytest.raises(DirectoryInUse) as refusal:
        FileDisk(tmp_path)
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    first.close()
    FileDisk(tmp_path).close()


def test_the_lock_holds_between_processes_and_dies_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from kvorum_server.storage.filedisk import FileDisk; "
        "FileDisk(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryInUse):
            FileDisk(tmp_path)
        holder.kill()
    FileDisk(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DirectoryUnusable, match=r"file/data .*Not a directory.*make it writable"):
        FileDisk(tmp_path / "file" / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DirectoryUnusable, match="Permission denied"):
        FileDisk(tmp_path)


def test_parents_are_made_and_strangers_are_not_listed(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "deep" / "data")
    (tmp_path / "deep" / "data" / "directory").mkdir()
    assert disk.names() == []
    disk.close()


def test_a_write_that_finds_no_room_is_disk_full() -> None:
    file = FileOfDisk(os.open("/dev/full", os.O_RDWR))
    with pytest.raises(DiskFull):
        file.write(0, b"x")
    file.close()


# --- The simulated disk ---


def survivors(word: bytes, *, synced: bool) -> set[bytes]:
    """What 200 different crashes leave of a word."""
    found = set()
    for seed in range(200):
        disk = SimulatedDisk(Random(seed))
        file = disk.create("a", len(word))
        file.sync()
        disk.sync_directory()
        file.write(0, word)
        if synced:
            file.sync()
        disk.crash()
        found.add(disk.open("a").read(0, len(word)))
    return found


def test_a_crash_never_touches_what_was_synced() -> None:
    assert survivors(b"word", synced=True) == {b"word"}


def test_a_crash_loses_keeps_or_tears_what_was_not() -> None:
    found = survivors(b"word", synced=False)
    assert {b"word", b"\0\0\0\0", b"wo\0\0", b"\0\0rd"} <= found
    assert all(
        byte in (0, whole) for left in found for byte, whole in zip(left, b"word", strict=True)
    )


def test_a_name_that_was_not_synced_may_vanish_or_stay() -> None:
    outcomes = set()
    for seed in range(50):
        disk = SimulatedDisk(Random(seed))
        disk.create("old", 1)
        disk.sync_directory()
        disk.rename("old", "new")
        disk.create("other", 1)
        disk.crash()
        outcomes.add(tuple(disk.names()))
    assert outcomes == {("old",), ("new",), ("old", "other"), ("new", "other")}


def test_a_failed_sync_loses_its_writes_and_the_next_one_lies() -> None:
    disk = SimulatedDisk(Random(1))
    file = disk.create("a", 1)
    file.sync()
    disk.sync_directory()
    file.write(0, b"x")
    disk.fail_next_sync = True
    with pytest.raises(OSError, match="sync failure"):
        file.sync()
    file.sync()
    assert file.read(0, 1) == b"x"
    disk.crash()
    assert disk.open("a").read(0, 1) == b"\0"


def test_one_seed_gives_one_crash() -> None:
    def crashed(seed: int) -> bytes:
        disk = SimulatedDisk(Random(seed))
        disk.create("a", 100)
        disk.sync_directory()
        for place in range(10):
            disk.open("a").write(place * 10, b"0123456789")
        disk.crash()
        return disk.open("a").read(0, 100)

    assert crashed(7) == crashed(7)
    assert len({crashed(seed) for seed in range(10)}) > 1
