"""The write-ahead log of a simulated process, driven as ``log_writer.py`` drives the real one.

At most one sync is under way; writes that come meanwhile gather and share the next one. On a full
disk the oldest write goes alone, if it can, and the rest waits for the next tick. After a silence
the log is given a bare claim. Anything else that an append or a sync raises ends the process. The
one difference is time: a sync takes as long as the seed says, and happens at the end of that time.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvorum_server.events import Appended, Write
from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.wal import WriteAheadLog
from tests.simulator.scheduler import MILLISECOND

if TYPE_CHECKING:
    from tests.simulator.node import Node


class LogShell:
    """Takes the writes of a Host; dies with the process of its machine."""

    def __init__(self, node: "Node", wal: WriteAheadLog) -> None:
        self.wal = wal
        self._node = node
        self._writes: list[Write] = []
        self._syncing = False
        self._busy_at = 0

    def put(self, write: Write) -> None:
        """The next write; it is appended at once unless a sync is under way."""
        self._writes.append(write)
        if not self._syncing:
            self._write()

    def tick(self) -> None:
        """Tries again what found the disk full; after a silence claims what is durable."""
        if self._syncing:
            return
        silence = self._node.world.scheduler.now - self._busy_at
        if self._writes:
            self._write()
        elif not self.wal.reserve_ok:
            self._sync(())
        elif silence >= self._node.config.claim_idle_ms * MILLISECOND:
            self.wal.claim()
            if self.wal.has_unsynced:
                self._sync(())

    def _write(self) -> None:
        """All waiting writes become one; on a full disk the oldest goes alone, if it can."""
        for count in (len(self._writes), 1):
            writes = self._writes[:count]
            try:
                self.wal.append([record for write in writes for record in write.records])
            except DiskFull:
                continue
            del self._writes[:count]
            self._sync(writes)
            return

    def _sync(self, writes: Sequence[Write]) -> None:
        self._syncing = True

        def done() -> None:
            self.wal.sync()
            self._syncing = False
            self._busy_at = self._node.world.scheduler.now
            self._node.world.observer.synced(self._node, len(writes))
            if writes:
                self._node.state_is_lost = False  # The first write of a life says it, if it is so.
                self._node.put(Appended(writes[-1].number))
            if self._writes:
                self._write()

        self._node.after_disk(self._node.world.options.sync_mean, done)
