"""What every Disk does, real or simulated: the log is written against this and nothing more."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from kvorum_server.storage.disk import Disk, DiskFull
from kvorum_server.storage.filedisk import FileDisk
from tests.simulator.disk import SimulatedDisk


@pytest.fixture(params=["file", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "simulated":
        yield SimulatedDisk(Random(1))
        return
    real = FileDisk(tmp_path / "data")
    yield real
    real.close()


def test_a_new_file_is_all_zeros_and_has_its_full_size(disk: Disk) -> None:
    file = disk.create("a", 5000)
    assert file.size() == 5000
    assert file.read(0, 6000) == bytes(5000)


def test_what_is_written_is_read_back_around_it_nothing_changes(disk: Disk) -> None:
    file = disk.create("a", 10)
    file.write(3, b"word")
    assert file.read(0, 10) == b"\0\0\0word\0\0\0"
    assert file.read(4, 2) == b"or"
    file.write(5, b"od")
    assert file.read(3, 4) == b"wood"


def test_reading_stops_at_the_end_of_the_file(disk: Disk) -> None:
    file = disk.create("a", 4)
    assert file.read(2, 100) == bytes(2)
    assert file.read(4, 1) == b""
    assert file.read(400, 1) == b""


def test_a_write_beyond_the_end_makes_the_file_longer(disk: Disk) -> None:
    file = disk.create("a", 2)
    file.write(4, b"x")
    assert file.size() == 5
    assert file.read(0, 5) == b"\0\0\0\0x"


def test_two_handles_see_one_file(disk: Disk) -> None:
    first = disk.create("a", 4)
    second = disk.open("a")
    first.write(0, b"data")
    assert second.read(0, 4) == b"data"
    first.close()
    assert second.read(0, 4) == b"data"


def test_closing_twice_is_harmless(disk: Disk) -> None:
    file = disk.create("a", 1)
    file.close()
    file.close()
    assert disk.open("a").size() == 1


def test_names_are_sorted_and_only_ours(disk: Disk) -> None:
    assert disk.names() == []
    for name in ("b", "c", "a"):
        disk.create(name, 0).close()
    assert disk.names() == ["a", "b", "c"]


def test_no_file_is_created_twice(disk: Disk) -> None:
    disk.create("a", 1)
    with pytest.raises(FileExistsError):
        disk.create("a", 1)


def test_a_rename_replaces_and_open_files_stay_what_they_are(disk: Disk) -> None:
    new = disk.create("new", 3)
    new.write(0, b"new")
    old = disk.create("real", 3)
    old.write(0, b"old")
    disk.rename("new", "real")
    assert disk.names() == ["real"]
    assert disk.open("real").read(0, 3) == b"new"
    assert old.read(0, 3) == b"old"


def test_a_removed_name_is_gone(disk: Disk) -> None:
    file = disk.create("a", 1)
    disk.remove("a")
    assert disk.names() == []
    assert file.read(0, 1) == b"\0"


def test_what_is_not_there_is_file_not_found(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open("absent")
    with pytest.raises(FileNotFoundError):
        disk.remove("absent")
    with pytest.raises(FileNotFoundError):
        disk.rename("absent", "other")


def test_a_file_that_does_not_fit_is_refused_and_leaves_nothing(disk: Disk) -> None:
    with pytest.raises(DiskFull):
        disk.create("large", disk.free_bytes() + (1 << 40))
    assert disk.names() == []
    disk.create("small", 1).write(0, b"x")


def test_syncs_change_nothing_that_one_can_see(disk: Disk) -> None:
    file = disk.create("a", 1)
    file.write(0, b"x")
    file.sync()
    disk.sync_directory()
    assert file.read(0, 1) == b"x"
    assert disk.names() == ["a"]
