"""The write-ahead log as the event loop sees it: append at once, make durable in a thread.

At most one sync is under way. Writes that come meanwhile gather and share the next one, so a slow
disk makes syncs bigger and not more frequent. Numbers are confirmed in order: when a sync returns,
everything that had been appended before it began is durable.

*A full disk* is lived with: the oldest write goes alone, if it can, the rest waits, and every tick
tries again. Nothing is dropped; the Host refuses new work when it sees how little space is left.

*A silence* is used: the log is given a bare claim of what is durable, which lets the next start
tell a torn tail from damage to what was acknowledged.

Anything else that an append or a sync raises ends the node (``fail``); a failed sync says nothing
about what is on disk and is never retried.
"""

import itertools
from collections import deque
from collections.abc import Callable

from kvorum_server.events import Write
from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.wal import WriteAheadLog
from kvorum_server.worker import Worker


class LogWriter:
    """Takes the writes of a Host. ``appended`` is told the number of the newest durable one."""

    def __init__(
        self,
        *,
        wal: WriteAheadLog,
        claim_idle_ms: int,
        clock: Callable[[], float],
        appended: Callable[[int], None],
        disk_full: Callable[[str, int], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._wal = wal
        self._claim_idle_ms = claim_idle_ms
        self._clock = clock
        self._appended = appended
        self._disk_full = disk_full
        self._fail = fail
        self._worker = Worker("sync", fail)
        self._writes: deque[Write] = deque()
        self._sync_under_way = False
        self._busy_at = 0.0
        self._stopped = False
        self.has_reserve = True
        """Whether the log has room prepared for what it will have to write next."""

    def put(self, write: Write) -> None:
        """The next write; it is appended at once unless a sync is under way."""
        self._writes.append(write)
        if not self._sync_under_way:
            self._write()

    def tick(self) -> None:
        """Tries again what found the disk full; after a silence, claims what is durable."""
        if self._sync_under_way:
            return
        if self._writes:
            self._write()
        elif not self._wal.reserve_ok:
            self._sync(lambda: None)
        elif (self._clock() - self._busy_at) * 1000 >= self._claim_idle_ms:
            self._wal.claim()
            if self._wal.has_unsynced:
                self._sync(lambda: None)

    def stop(self) -> None:
        """Waits for the sync under way; nothing is written any more."""
        self._stopped = True
        self._worker.stop()

    def _write(self) -> None:
        count = len(self._writes)
        try:
            self._append(count)
        except DiskFull as error:
            self._disk_full(str(error), count)
            count = 1
            try:
                self._append(count)
            except DiskFull:
                return
        self._busy_at = self._clock()
        newest = [self._writes.popleft().number for _ in range(count)][-1]
        self._sync(lambda: self._appended(newest))

    def _append(self, count: int) -> None:
        """Appends the oldest ``count`` writes; raises DiskFull and leaves the log as it was."""
        oldest = itertools.islice(self._writes, count)
        self._wal.append([record for write in oldest for record in write.records])

    def _sync(self, then: Callable[[], None]) -> None:
        self._sync_under_way = True
        self._worker.submit(self._wal.sync, lambda: self._synced(then))

    def _synced(self, then: Callable[[], None]) -> None:
        self._sync_under_way = False
        self.has_reserve = self._wal.reserve_ok
        then()
        if self._writes and not self._stopped:
            try:
                self._write()
            except BaseException as error:  # noqa: BLE001 - a bug or a broken machine: stop
                self._fail(error)
