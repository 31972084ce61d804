"""The parts of a data directory, and how they are set aside when the log is damaged.

::

    DATA/log            the write-ahead log, with the lock of the directory
    DATA/state          the engine
    DATA/quarantine-1   a log that was damaged, its state, and damage.txt, which says what was found
    DATA/quarantine-state-1     a state that was damaged while its log was intact, with damage.txt

A node whose log has lost something that it had promised must not come back as its old self: it may
have forgotten a vote or an entry that it acknowledged. What it has is therefore *quarantined*:
moved away, never deleted. Then the directory is that of a new node, under a new identity, that
holds nothing and may only join: three nodes that were damaged together would otherwise found an
empty cluster in the place of their own.

*Crashes.* The log moves last. Until it has moved, the next start finds the same damage and goes on
with the same quarantine, which is the newest one and has no log yet; afterwards the quarantine is
complete. So a crash leaves no state without its log, and never a new log beside an old state.

A *state* that was damaged alone is moved away alone: the node stays who it is and gets another
state from its peers (``opening.py``). A running node that meets rotten rows leaves a note beside
them, ``state/damage.txt``, and stops; the next start finds it.

A quarantine of a log is also the memory that this node must not found a cluster, so it may be
removed when the node has joined one again, and not before.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import DirectoryUnusable, NoRoom, StorageError, WalDamage
from kvorum_server.storage.filedisk import FileDisk
from kvorum_server.storage.wal import Recovered, WriteAheadLog

LOG_DIRECTORY = "log"
STATE_DIRECTORY = "state"
DAMAGE_FILE = "damage.txt"

_QUARANTINE = re.compile(r"quarantine-([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class OpenLog:
    """The log of a node that starts. ``damage`` and ``place``: what was set aside just now, and
    where it is.
    """

    disk: FileDisk
    log: WriteAheadLog
    recovered: Recovered
    damage: WalDamage | None = None
    place: Path | None = None

    def close(self) -> None:
        """Gives the directory back."""
        self.log.close()
        self.disk.close()


def open_log(
    data: Path, *, segment_bytes: int, new_identity: Callable[[], int], may_join: bool
) -> OpenLog:
    """Opens the log of a data directory; one that is damaged is set aside for a new one.

    Unless the node ``may_join``, knows others to join, that is: then a damaged log stays where it
    is and WalDamage is raised, because a new node alone could only found an empty cluster. Raises
    NoRoom and every other StorageError.
    """
    disk = FileDisk(data / LOG_DIRECTORY)
    try:
        return OpenLog(disk, *_opened(disk, segment_bytes, new_identity))
    except WalDamage as damage:
        if not may_join:
            disk.close()
            raise
        found = damage
    except BaseException:
        disk.close()
        raise
    # The lock is held until everything has moved, so no other process can begin in between.
    try:
        place = quarantine(data, found)
    except OSError as error:
        raise DirectoryUnusable(str(data), error.strerror or str(error)) from error
    finally:
        disk.close()
    disk = FileDisk(data / LOG_DIRECTORY)
    try:
        return OpenLog(disk, *_opened(disk, segment_bytes, new_identity), found, place)
    except BaseException:
        disk.close()
        raise


def _opened(
    disk: FileDisk, segment_bytes: int, new_identity: Callable[[], int]
) -> tuple[WriteAheadLog, Recovered]:
    try:
        return WriteAheadLog.open(disk, segment_bytes=segment_bytes, new_identity=new_identity)
    except DiskFull:
        raise NoRoom(str(disk.path), disk.free_bytes()) from None


def must_join(data: Path, recovered: Recovered) -> bool:
    """Whether a node may only join a running cluster: it belonged to one, and knows nothing of it
    any more.
    """
    return recovered.bootstrap is None and bool(quarantines(data))


def quarantines(data: Path) -> list[Path]:
    """What was set aside in a data directory, oldest first."""
    if not data.is_dir():
        return []
    numbered = [(_QUARANTINE.fullmatch(path.name), path) for path in data.iterdir()]
    found = [(int(match[1]), path) for match, path in numbered if match and path.is_dir()]
    return [path for _, path in sorted(found)]


def quarantine(data: Path, damage: WalDamage) -> Path:
    """Moves log and state away; where they are now. The log must be closed; its lock may be held.

    Goes on with what an earlier call began and a crash interrupted. Raises OSError.
    """
    place = _place(data)
    place.mkdir(exist_ok=True)
    _sync(data)
    note = place / DAMAGE_FILE
    note.write_text(f"{damage.found}\n", encoding="utf-8")
    with note.open("rb") as file:
        os.fsync(file.fileno())
    for part in (STATE_DIRECTORY, LOG_DIRECTORY):
        if (data / part).exists():
            os.rename(data / part, place / part)
            _sync(place)
            _sync(data)
    assert (place / LOG_DIRECTORY).exists(), "the damaged log is in quarantine"
    return place


def note_damage(data: Path, damage: StorageError) -> None:
    """Leaves a note in the state directory: the next start must not trust it. Raises OSError."""
    note = data / STATE_DIRECTORY / DAMAGE_FILE
    note.write_text(f"{damage}\n", encoding="utf-8")
    with note.open("rb") as file:
        os.fsync(file.fileno())
    _sync(note.parent)


def noted_damage(data: Path) -> str:
    """What an earlier run found wrong with the state; empty when it found nothing."""
    note = data / STATE_DIRECTORY / DAMAGE_FILE
    return note.read_text(encoding="utf-8").strip() if note.exists() else ""


def quarantine_state(data: Path, damage: StorageError) -> Path:
    """Moves the state away, with a note; where it is now. It must be closed. Raises OSError."""
    note_damage(data, damage)
    number = 1
    while (place := data / f"quarantine-{STATE_DIRECTORY}-{number}").exists():
        number += 1
    os.rename(data / STATE_DIRECTORY, place)
    _sync(data)
    return place


def _place(data: Path) -> Path:
    """The quarantine that is not complete yet, or a new one."""
    held = quarantines(data)
    if not held:
        return data / "quarantine-1"
    newest = held[-1]
    if not (newest / LOG_DIRECTORY).exists():
        return newest
    return data / f"quarantine-{int(newest.name.partition('-')[2]) + 1}"


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
