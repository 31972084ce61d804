"""A snapshot is installed in two places at once: in the log in memory and in the log on disk."""

from kvorum_server.consensus.log import Log
from kvorum_server.storage.log_state import LogState
from kvorum_server.storage.record import EntriesAppended, ReplicaCreated, SnapshotInstalled
from kvorum_server.types import Configuration, Entry, EntryKind, SnapshotMeta

CONFIGURATION = Configuration.initial((11, 22, 33))


def test_entries_that_survive_an_installation_in_memory_survive_it_on_disk() -> None:
    """Entries 6 to 10 agree with the leader's log and stay; the record drops what was on disk."""
    log = Log(start=(0, 0), start_stamp=0, configuration=CONFIGURATION, entries=())
    disk = LogState(identity=11, boot=1)
    disk.apply(ReplicaCreated(1, 1, 1, CONFIGURATION))
    for index in range(1, 11):
        log.append(Entry(index, 1, EntryKind.COMMANDS, index, 1, b""))
    disk.apply(EntriesAppended(1, 1, tuple(log.take_unwritten())))

    meta = SnapshotMeta(5, 1, 5, CONFIGURATION)
    log.install(meta)
    log.confirm(10, 1)
    disk.apply(SnapshotInstalled(1, 1, 2, meta))
    again = EntriesAppended(1, 1, tuple(log.take_unwritten()))

    assert [entry.index for entry in again.entries] == [6, 7, 8, 9, 10]
    assert disk.contradiction(again) is None
    disk.apply(again)
    assert disk.replicas[1].last_index == log.last_index == 10
    assert log.durable == 5
    log.confirm(10, 1)
    assert log.durable == 10
