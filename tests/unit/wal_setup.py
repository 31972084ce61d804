"""A small log with one group, and the records that tests write into it."""

from random import Random

from kvorum_server.storage.filedisk import FileDisk
from kvorum_server.storage.record import (
    CheckpointTaken,
    EntriesAppended,
    LogCut,
    Record,
    ReplicaCreated,
)
from kvorum_server.storage.wal import Recovered, WriteAheadLog
from kvorum_server.types import Configuration, Entry, EntryKind
from tests.simulator.disk import SimulatedDisk

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
        Entry(
            index, term, EntryKind.COMMANDS, index * 10, 1, f"{index}@{term}".encode().ljust(size)
        )
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
