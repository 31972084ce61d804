"""Opening a data directory whose state is damaged: moved away, or left alone and told why."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from kvorum_server.config import Config
from kvorum_server.events import Appended, Bootstrapped, Ticked
from kvorum_server.opening import is_state_damage, leave_note, open_state
from kvorum_server.storage.data_directory import noted_damage
from kvorum_server.storage.errors import (
    DiskFailure,
    EngineDamage,
    StateBeyondRepair,
    StateDamaged,
    StorageError,
)
from kvorum_server.storage.recovery import Recovered
from kvorum_server.storage.rocksdb import RocksEngine
from kvorum_server.storage.rows import DamagedRows
from kvorum_server.storage.wal import WriteAheadLog
from tests.simulator.disk import SimulatedDisk
from tests.unit.host_setup import certificate

ROT = EngineDamage("read", "/data/state", "Corruption: block checksum mismatch")


class Directory:
    """A data directory of a node that has just been born, its log on a simulated disk."""

    def __init__(self, path: Path, identities: tuple[int, ...] = (11, 22, 33)) -> None:
        self.config = Config(data=path)
        self.disk = SimulatedDisk(Random(1))
        self.moved: list[Path] = []
        wal, recovered = WriteAheadLog.open(
            self.disk, segment_bytes=64 * 1024, new_identity=lambda: 11
        )
        engine, host = open_state(self.config, recovered, self._note)
        effects = host.turn(0, [Bootstrapped(certificate(identities))])
        assert effects.append is not None
        wal.append(effects.append.records)
        wal.sync()
        host.turn(1, [Appended(effects.append.number), Ticked(1 << 40)])
        engine.flush()
        engine.close()
        wal.close()

    def _note(self, damage: StorageError, place: Path) -> None:
        self.moved.append(place)

    def open(self, recovered: Recovered | None = None) -> RocksEngine:
        """Opens the state again."""
        engine, _ = open_state(self.config, recovered or self.recovered(), self._note)
        return engine

    def recovered(self) -> Recovered:
        """What the log says."""
        wal, recovered = WriteAheadLog.open(
            self.disk, segment_bytes=64 * 1024, new_identity=lambda: 11
        )
        wal.close()
        return recovered


@pytest.mark.parametrize(
    ("error", "damaged"),
    [
        (ROT, True),
        (EngineDamage("open", "s", "IO error: No such file or directory: 12.sst"), True),
        (EngineDamage("open", "s", "it has rows but no format number"), True),
        (EngineDamage("flush", "s", "IO error: No space left on device"), False),
        (StateDamaged(1, 5, 9), True),
        (DamagedRows(1, "a meta row of 3 bytes"), True),
        (DiskFailure("sync", "Input/output error"), False),
    ],
)
def test_what_says_that_rows_cannot_be_trusted(error: StorageError, damaged: bool) -> None:
    assert is_state_damage(error) == damaged


def test_a_state_in_order_is_opened_and_nothing_moves(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    directory.open().close()
    assert directory.moved == []
    assert noted_damage(tmp_path) == ""


def test_damage_that_a_run_has_met_is_known_to_the_next_start(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    leave_note(directory.config, ROT)
    engine = directory.open()
    assert directory.moved == [tmp_path / "quarantine-state-1"]
    note = (tmp_path / "quarantine-state-1/damage.txt").read_text()
    assert "it was found damaged: cannot read the state in /data/state: Corruption" in note
    assert list(tmp_path.glob("quarantine-state-1/*.sst")), "the old files are kept"
    engine.close()
    leave_note(directory.config, ROT)
    directory.open().close()
    assert directory.moved[1:] == [tmp_path / "quarantine-state-2"]


def test_files_that_do_not_open_are_moved(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    for manifest in (tmp_path / "state").glob("MANIFEST-*"):
        manifest.write_bytes(b"nonsense")
    directory.open().close()
    assert directory.moved == [tmp_path / "quarantine-state-1"]


def test_a_disk_that_refuses_is_no_damage(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    leave_note(directory.config, DiskFailure("sync", "Input/output error"))
    assert noted_damage(tmp_path) == ""
    running = directory.open()
    with pytest.raises(StorageError, match="in use"):
        directory.open()
    running.close()
    assert directory.moved == []


def test_without_another_voter_nothing_is_moved(tmp_path: Path) -> None:
    directory = Directory(tmp_path, identities=(11,))
    recovered = directory.recovered()
    cut = {
        group: replace(replica, log_start=(5, 1), checkpoint_index=5)
        for group, replica in recovered.replicas.items()
    }
    with pytest.raises(StateBeyondRepair, match="no other voter has the state of group 0") as error:
        directory.open(replace(recovered, replicas=cut))
    assert "restore a backup" in str(error.value)
    assert directory.moved == []
    assert (tmp_path / "state").is_dir()
