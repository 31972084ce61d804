"""Writes of a multi-version map: every change has a revision, and old versions stay.

A write goes to three tables: the new version to *current*, the one it replaces to *history* (a
pointer, not a copy), and both what happened and the new value to the *event* row of the entry (see
``rows``). Reading the present therefore never meets an old version: a key overwritten a million
times costs one look-up like any other. Event rows are collected while an entry is applied and
written once at its end, so their cost is per entry.

Revisions are those of etcd: an empty group is at 1 and the first write makes 2; all writes between
two ``commit`` calls share one revision; what changes nothing takes none; the version number of a
key restarts at 1 after a delete.

A transaction may be refused half-way. ``begin_transaction`` starts to note what each row was
before; ``roll_back`` restores it. Restored rows are written again with their old value, which is
invisible: the state is a function of the rows, not of how often they were written.

Invariants: a current row's mod revision is at most the revision; the history rows of a key, taken
with its current row, name every version that is still readable exactly once; a history row that
points names an event row that stands, or a revision below the compacted one. A version at or below
the compacted revision is written inline when it is superseded, because its event row may be gone;
that looks at the compacted revision alone and never at how far the clean-up has come, which differs
between replicas.
"""

from collections.abc import Iterator

from kvorum_proto.command_pb2 import Item
from kvorum_server.kv.cache import RowCache
from kvorum_server.kv.rows import (
    CHUNK_BYTES,
    EVENT,
    EVENT_KEY,
    EVENT_ROW,
    INLINE,
    POINTER,
    REVISION,
    TOMBSTONE,
    VERSION,
    HistoryKind,
    mod_revision,
)
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rows import (
    PREFIX_BYTES,
    DamagedRows,
    Table,
    escape,
    table_prefix,
    table_range,
    unescape,
)

NOT_CACHED = b""
"""No row is empty: stands for one that the cache does not hold."""

FIRST_REVISION = 1
"""The revision of an empty group."""


class Versions:
    """The write side of a group's map, over the turn's overlay.

    >>> from kvorum_server.storage.memory import MemoryEngine
    >>> versions = Versions(1, Overlay(MemoryEngine()), revision=1, compacted_revision=0)
    >>> versions.begin_entry(stamp=1000)
    >>> versions.put(b"greeting", b"hello"); versions.commit()
    2
    >>> versions.delete(b"missing"); versions.commit()
    2
    >>> versions.finish_entry()
    """

    __slots__ = (
        "_cache",
        "_changed",
        "_chunks",
        "_current_prefix",
        "_event_prefix",
        "_history_prefix",
        "_mark",
        "_offset",
        "_overlay",
        "_stamp",
        "_undo",
        "compacted_revision",
        "revision",
        "space",
    )

    def __init__(
        self,
        space: int,
        overlay: Overlay,
        *,
        revision: int,
        compacted_revision: int,
        cache_bytes_max: int = 0,
    ) -> None:
        assert revision >= FIRST_REVISION, "revisions start at 1"
        self.space = space
        self.revision = revision
        self.compacted_revision = compacted_revision
        self._overlay = overlay
        self._cache = RowCache(cache_bytes_max)
        self._current_prefix = table_prefix(space, Table.CURRENT)
        self._history_prefix = table_prefix(space, Table.HISTORY)
        self._event_prefix = table_prefix(space, Table.EVENT)
        self._stamp = 0
        self._changed = False
        self._chunks: list[list[bytes]] = [[]]
        self._offset = EVENT_ROW.size
        self._undo: list[tuple[bytes, bytes | None]] | None = None
        self._mark = (0, 0, 0)

    # --- Entries and transactions ---

    def begin_entry(self, stamp: int) -> None:
        """The next writes belong to one entry, stamped with log time (ms)."""
        assert not self._changed, "the entry before is committed"
        self._stamp = stamp

    def finish_entry(self) -> None:
        """Writes the events of the entry, a row for every 64 KiB."""
        assert not self._changed, "every write is committed before its entry ends"
        assert self._undo is None, "a transaction ends with its command"
        if not self._chunks[0]:
            return
        head = EVENT_ROW.pack(self._stamp)
        for chunk, parts in enumerate(self._chunks):
            key = self._event_prefix + EVENT_KEY.pack(self.revision, chunk)
            self._overlay.put(key, head + b"".join(parts))
        self._chunks = [[]]
        self._offset = EVENT_ROW.size

    def commit(self) -> int:
        """Ends a command: its writes, if any, are the next revision. Returns the revision."""
        if self._changed:
            self.revision += 1
            self._changed = False
        self._undo = None
        return self.revision

    @property
    def revision_so_far(self) -> int:
        """What ``commit`` would return now."""
        return self.revision + self._changed

    def begin_transaction(self) -> None:
        """From here to ``commit`` everything can be rolled back."""
        assert self._undo is None, "transactions nest as operations, not as undo logs"
        assert not self._changed, "a transaction is a command of its own"
        self._undo = []
        self._mark = (len(self._chunks), len(self._chunks[-1]), self._offset)

    def roll_back(self) -> None:
        """Undoes every write since ``begin_transaction``."""
        assert self._undo is not None, "there is a transaction to undo"
        for key, row in reversed(self._undo):
            if row is None:
                self._overlay.delete(key)
            else:
                self._overlay.put(key, row)
            self._cache.forget(key)
        chunks, parts, self._offset = self._mark
        del self._chunks[chunks:]
        del self._chunks[-1][parts:]
        self._undo = None
        self._changed = False

    # --- Reading the present, this entry's writes included ---

    def get(self, key: bytes) -> bytes | None:
        """The current version of a key, None when there is none."""
        return self._current(self._current_prefix + escape(key))

    def _current(self, row_key: bytes) -> bytes | None:
        version = self._cache.find(row_key, NOT_CACHED)
        if version is NOT_CACHED:
            version = self._overlay.get(row_key)
            if version is not None:
                self._cache.put(row_key, version)
        return version

    def scan(self, key: bytes, range_end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys of the range with their current versions, in key order; lazily, of the state now."""
        start, end = table_range(self.space, Table.CURRENT, key, range_end)
        if start >= end:
            return
        for row_key, version in self._overlay.scan(start, end):
            yield unescape(row_key[PREFIX_BYTES:]), version

    def pending(self, chunk: int, key: bytes, revision: int) -> bytes:
        """A version whose event belongs to the entry being applied and is no row yet."""
        parts = self._chunks[chunk]
        for place in range(1, len(parts), 3):
            version = parts[place + 1]
            if parts[place] == key and mod_revision(version) == revision:
                return version
        raise DamagedRows(self.space, f"revision {revision} is in no event row and not pending")

    # --- Writing ---

    def put(self, key: bytes, value: bytes, lease: int = 0) -> bytes | None:
        """Sets a key; returns the version that was replaced."""
        overlay = self._overlay
        escaped = escape(key)
        current = self._current_prefix + escaped
        old = self._current(current)
        revision = self.revision + 1
        if old is None:
            create_revision, previous, number = revision, 0, 1
        else:
            create_revision, previous, number, _, chunk, offset = VERSION.unpack_from(old)
            self._supersede(escaped, old, previous, revision, chunk, offset)
            number += 1
        version = self._record(key, value, previous, create_revision, number, lease)
        overlay.put(current, version)
        self._cache.put(current, version)
        if self._undo is not None:
            self._undo.append((current, old))
        return old

    def delete(self, key: bytes) -> bytes | None:
        """Deletes a key; returns the version that was there; without one nothing changes."""
        escaped = escape(key)
        current = self._current_prefix + escaped
        old = self._current(current)
        if old is None:
            return None
        _, previous, _, _, chunk, offset = VERSION.unpack_from(old)
        revision = self.revision + 1
        assert previous <= revision, "a version is not newer than what supersedes it"
        self._supersede(escaped, old, previous, revision, chunk, offset)
        self._record(key, b"", previous, 0, 0, 0)
        tombstone = self._history_prefix + escaped + REVISION.pack(revision)
        self._overlay.delete(current)
        self._cache.put(current, None)
        self._overlay.put(tombstone, TOMBSTONE)
        if self._undo is not None:
            self._undo += ((current, old), (tombstone, None))
        return old

    def _record(
        self,
        key: bytes,
        value: bytes,
        previous: int,
        create_revision: int,
        number: int,
        lease: int,
    ) -> bytes:
        """Adds an event to the entry's; returns the version in it."""
        size = EVENT.size + len(key) + VERSION.size + len(value)
        parts = self._chunks[-1]
        if self._offset + size > CHUNK_BYTES and parts:
            parts = []
            self._chunks.append(parts)
            self._offset = EVENT_ROW.size
        chunk = len(self._chunks) - 1
        head = VERSION.pack(create_revision, self.revision + 1, number, lease, chunk, self._offset)
        version = head + value
        parts += (EVENT.pack(previous, len(key), len(version)), key, version)
        self._offset += size
        self._changed = True
        return version

    def _supersede(
        self, escaped: bytes, old: bytes, mod: int, revision: int, chunk: int, offset: int
    ) -> None:
        """Keeps a version readable at the revisions before the one that replaces it."""
        row_key = self._history_prefix + escaped + REVISION.pack(mod)
        if mod <= self.compacted_revision:
            self._overlay.put(row_key, INLINE + old)
        else:
            pointer = POINTER.pack(HistoryKind.POINTER, revision, chunk, offset)
            self._overlay.put(row_key, pointer)
        if self._undo is not None:
            self._undo.append((row_key, None))


def fill_item(item: Item, key: bytes, version: bytes, *, keys_only: bool = False) -> None:
    """Writes a version into the message that clients get."""
    create_revision, revision, number, lease, _, _ = VERSION.unpack_from(version)
    item.key = key
    if not keys_only:
        item.value = version[VERSION.size :]
    item.create_revision = create_revision
    item.mod_revision = revision
    item.version = number
    if lease:
        item.lease = lease


def value_of(version: bytes) -> bytes:
    """The value of a version."""
    return version[VERSION.size :]


def lease_of(version: bytes) -> int:
    """The lease that a version belongs to, 0 = none."""
    lease: int = REVISION.unpack_from(version, 24)[0]
    return lease
