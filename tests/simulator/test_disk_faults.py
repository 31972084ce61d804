"""The faults of the simulated disk: what is left when an operation does not end as it should."""

import errno
from collections.abc import Callable
from random import Random

import pytest

from tests.simulator.damage import flip_log, places_below_claim
from tests.simulator.disk import Killed, SimulatedDisk, SimulatedFile
from tests.unit.wal_setup import log_of_one_group

BROKEN = OSError(errno.EIO, "input/output error")


def disk_with_a_file(seed: int = 1) -> tuple[SimulatedDisk, SimulatedFile]:
    """A disk with one durable file, ``old``."""
    disk = SimulatedDisk(Random(seed))
    file = disk.create("a", 3)
    file.write(0, b"old")
    file.sync()
    disk.sync_directory()
    return disk, file


def interrupt(disk: SimulatedDisk, operation: str, outcome: Exception) -> None:
    def strike(name: str) -> None:
        if name == operation:
            raise outcome

    disk.interrupt = strike


def test_a_write_that_is_interrupted_has_happened_up_to_some_byte() -> None:
    found = set()
    for seed in range(50):
        disk, file = disk_with_a_file(seed)
        interrupt(disk, "write", Killed(power_loss=False))
        with pytest.raises(Killed):
            file.write(0, b"new")
        found.add(file.read(0, 3))
    assert found == {b"old", b"nld", b"ned", b"new"}


def test_a_sync_that_fails_forgets_and_what_is_seen_may_be_old() -> None:
    found = set()
    for seed in range(50):
        disk, file = disk_with_a_file(seed)
        file.write(0, b"new")
        interrupt(disk, "sync", BROKEN)
        with pytest.raises(OSError, match="input/output"):
            file.sync()
        disk.interrupt = lambda _: None
        file.sync()
        seen = file.read(0, 3)
        disk.crash()
        found.add((seen, disk.open("a").read(0, 3)))
    assert found == {(b"old", b"old"), (b"new", b"old")}, "the next sync has written nothing"


@pytest.mark.parametrize("operation", ["create", "rename", "remove", "sync directory", "read"])
def test_every_operation_can_be_interrupted_before_it_happens(operation: str) -> None:
    disk, file = disk_with_a_file()
    interrupt(disk, operation, BROKEN)
    actions: dict[str, Callable[[], object]] = {
        "create": lambda: disk.create("b", 1),
        "rename": lambda: disk.rename("a", "b"),
        "remove": lambda: disk.remove("a"),
        "sync directory": disk.sync_directory,
        "read": lambda: file.read(0, 3),
    }
    with pytest.raises(OSError, match="input/output"):
        actions[operation]()
    assert disk.names() == ["a"]


def test_a_copy_holds_what_is_durable() -> None:
    disk, file = disk_with_a_file()
    file.write(0, b"new")
    disk.create("b", 1)
    twin = disk.copy(Random(2))
    assert twin.names() == ["a"]
    assert twin.open("a").read(0, 3) == b"old"


def test_a_disk_is_damaged_as_long_as_the_flipped_file_is_there() -> None:
    disk, _ = disk_with_a_file()
    disk.flip("a", 1)
    assert disk.damaged
    disk.remove("a")
    assert not disk.damaged


def test_bits_of_a_log_flip_below_its_claim_only() -> None:
    disk = SimulatedDisk(Random(1))
    assert flip_log(disk, Random(1)) == "", "nothing was claimed"
    log = log_of_one_group(disk)
    log.claim()
    log.sync()
    ((name, used),) = places_below_claim(disk)
    assert used <= log.durable_end.offset
    assert flip_log(disk, Random(1)).startswith(name)
    assert disk.damaged
