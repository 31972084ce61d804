"""Data directories as a node leaves them behind: real files, made by a Host without a process.

:class:`DiskNode` is one node on a directory. The test gives it commands and stops it; what the
tools then find is what ``kvorum-server`` would have left.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

from kvorum_proto import command_pb2 as wire
from kvorum_server.config import KIB, Config
from kvorum_server.events import Appended, Bootstrapped, Effects, Event, Flushed, Proposed, Ticked
from kvorum_server.host import Host
from kvorum_server.storage.filedisk import FileDisk
from kvorum_server.storage.record import BootstrapRecord, Record
from kvorum_server.storage.rocksdb import RocksEngine
from kvorum_server.storage.wal import WriteAheadLog
from tests.unit.host_setup import CLIENT, GROUP, PLENTY, certificate, encoded

IDENTITY = 0xAB
CONFIG = Config(segment_bytes=16 * KIB, checkpoint_entries=20, log_tail_entries=10)


class DiskNode:
    """A node that runs on ``data`` until :meth:`stop`."""

    def __init__(self, data: Path, config: Config = CONFIG) -> None:
        self.data = data
        self.config = config
        self.now = 1000
        self.answers: dict[int, wire.Result] = {}
        self.names: list[str] = []
        self._last_request = 0
        self._disk = FileDisk(data / "log")
        self._wal, recovered = WriteAheadLog.open(
            self._disk, segment_bytes=config.segment_bytes, new_identity=lambda: IDENTITY
        )
        self._engine = RocksEngine(data / "state", config)
        self.host = Host(
            config=config, engine=self._engine, recovered=recovered, randomness=Random(1)
        )

    def turn(self, *events: Event) -> None:
        """Turns until the node has nothing left to do by itself."""
        waiting, again = self._perform(self.host.turn(self.now, events))
        while waiting or again:
            waiting, again = self._perform(self.host.turn(self.now, waiting))

    def _perform(self, effects: Effects) -> tuple[list[Event], bool]:
        done: list[Event] = []
        if effects.append is not None:
            self._wal.append(effects.append.records)
            self._wal.sync()
            done.append(Appended(effects.append.number))
        if effects.flush is not None:
            self._engine.flush()
            done.append(Flushed(effects.flush))
        for reply in effects.replies:
            results = map(wire.Result.FromString, reply.results)
            self.answers.update(zip(reply.ids, results, strict=True))
        self.names += [transition.name for transition in effects.transitions]
        return done, effects.again

    def found(self) -> None:
        """The cluster of this node alone begins, and it leads."""
        self.turn(Bootstrapped(certificate([IDENTITY])))
        self.lead()

    def lead(self) -> None:
        """Waits until this node leads all of its groups."""
        for _ in range(4 * self.config.election_ticks_max):
            if all(replica.is_leader for replica in self.host.replicas.values()):
                return
            self.tick()
        raise AssertionError("the node does not become a leader")

    def tick(self) -> None:
        """Time passes."""
        self.now += self.config.tick_ms
        self.turn(Ticked(PLENTY))

    def submit(self, *submissions: wire.Submission) -> list[wire.Result]:
        """Commands for the partition, as one entry, and what they came to."""
        ids = tuple(range(self._last_request + 1, self._last_request + 1 + len(submissions)))
        self._last_request += len(submissions)
        self.turn(Proposed(CLIENT, GROUP, ids, encoded(*submissions)))
        return [self.answers[number] for number in ids]

    def log(self, records: Sequence[Record]) -> None:
        """Records that no Host has made."""
        self._wal.append(records)
        self._wal.sync()

    def stop(self, *, flush: bool = True) -> None:
        """Ends as after a silence: all is claimed. ``flush``: the rows are in files."""
        self._wal.claim()
        self._wal.sync()
        if flush:
            self._engine.flush()
        self._engine.close()
        self._wal.close()
        self._disk.close()


def node_with_history(data: Path) -> None:
    """A stopped node of a cluster of its own, with rows in all tables and several segments."""
    node = DiskNode(data)
    node.found()
    (opened,) = node.submit(wire.Submission(session_open=wire.SessionOpen()))
    session = opened.session_open.session
    for number in range(60):
        node.submit(
            wire.Submission(
                session=session,
                sequence=number + 1,
                acknowledged_below=number // 2 + 1,
                put=wire.Put(key=b"key\x00%d" % (number % 20), value=b"%d" % number * 300),
            )
        )
    node.submit(wire.Submission(compact=wire.Compact(revision=30)))
    node.submit(wire.Submission(delete=wire.Delete(key=b"key\x003")))
    node.submit(
        wire.Submission(put=wire.Put(key=b"a", value=b"1")),
        wire.Submission(put=wire.Put(key=b"b", value=b"2")),
    )
    node.stop()


def log_of_a_stranger(data: Path, records: Sequence[Record], *, members: Sequence[int]) -> None:
    """A log made by hand: a node of a cluster of ``members``, then these records."""
    disk = FileDisk(data / "log")
    wal, _ = WriteAheadLog.open(
        disk, segment_bytes=CONFIG.segment_bytes, new_identity=lambda: IDENTITY
    )
    bootstrap = certificate(members).SerializeToString(deterministic=True)
    wal.append([BootstrapRecord(bootstrap), *records])
    wal.sync()
    wal.claim()
    wal.sync()
    wal.close()
    disk.close()


def fingerprint(directory: Path) -> dict[str, tuple[str, int]]:
    """Every file below a directory with its contents and the time of its last change."""
    return {
        str(path.relative_to(directory)): (
            hashlib.blake2b(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    } | {
        str(path.relative_to(directory)): ("directory", path.stat().st_mtime_ns)
        for path in sorted(directory.rglob("*"))
        if path.is_dir()
    }
