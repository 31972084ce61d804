"""Opening the state of a node, and what becomes of one that is damaged while the log is intact.

Rows are only a copy of what the log says, so a node that has lost them is still itself: it keeps
its identity, its log and its vote. The old directory is moved into quarantine, never deleted; the
node begins with an empty one, makes again what its own log still tells from the beginning, and gets
the rest from its peers (``lost_state.py``). While that lasts it acknowledges and votes, but neither
leads nor serves, and ``status`` has an alarm.

Three things count as damage: files that the engine cannot open or rows it cannot read, rows that
contradict each other, and a state that ends before a checkpoint that was durable. A disk that is
full or refuses access is none. What a running node finds, it notes beside the state before it
stops, so that the next start knows.

Where no other voter exists, nothing is moved and the node says so: only a backup helps.
"""

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

from kvorum_server.config import Config
from kvorum_server.host import Host
from kvorum_server.lost_state import irreplaceable, without_states
from kvorum_server.storage.data_directory import (
    STATE_DIRECTORY,
    note_damage,
    noted_damage,
    quarantine_state,
)
from kvorum_server.storage.errors import (
    DirectoryUnusable,
    EngineDamage,
    StateBeyondRepair,
    StateDamaged,
    StorageError,
)
from kvorum_server.storage.recovery import Recovered
from kvorum_server.storage.rocksdb import RocksEngine
from kvorum_server.storage.rows import DamagedRows


def is_state_damage(error: Exception) -> bool:
    """Whether an error says that the rows cannot be trusted, and nothing else."""
    if isinstance(error, EngineDamage):
        return error.is_rot
    return isinstance(error, StateDamaged | DamagedRows)


def open_state(
    config: Config, recovered: Recovered, moved: Callable[[StorageError, Path], None]
) -> tuple[RocksEngine, Host]:
    """The engine of a data directory and a Host on it; on an empty one if the state is damaged.

    ``moved`` is told what was wrong and where the damaged state is now. Raises StorageError when
    neither can be opened.
    """
    try:
        noted = noted_damage(config.data)
        if noted:
            directory = str(config.data / STATE_DIRECTORY)
            raise EngineDamage("use", directory, f"it was found damaged: {noted}")
        return _open(config, recovered)
    except StorageError as damage:
        if not is_state_damage(damage):
            raise
        group = irreplaceable(recovered.replicas)
        if group is not None:
            raise StateBeyondRepair(damage, group) from damage
        try:
            place = quarantine_state(config.data, damage)
        except OSError as error:
            raise DirectoryUnusable(str(config.data), error.strerror or str(error)) from error
        moved(damage, place)
    return _open(config, without_states(recovered))


def leave_note(config: Config, error: StorageError) -> None:
    """A node stops over an error: if its state is damaged, the next start has to know."""
    if is_state_damage(error):
        # A disk that takes no note either is not made better by another error.
        with contextlib.suppress(OSError):
            note_damage(config.data, error)


def _open(config: Config, recovered: Recovered) -> tuple[RocksEngine, Host]:
    engine = RocksEngine(config.data / STATE_DIRECTORY, config)
    try:
        host = Host(config=config, engine=engine, recovered=recovered, randomness=random.Random())
    except StorageError:
        engine.close()
        raise
    return engine, host
