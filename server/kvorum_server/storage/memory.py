"""An engine in memory: the reference for the others, and what simulations run on.

A dictionary holds the rows and a sorted list their keys, so a point access costs one look-up
and a scan starts with a binary search. Readers that outlive a write - snapshots and half-consumed
scans - share both with the engine until the first write after them, which copies first. Who still
reads is known through weak references: a scan that was dropped half-way costs nobody a copy.

Invariants: the list holds exactly the dictionary's keys, ascending; a shared table never changes.
Left out: durability. ``flush`` does nothing, and what is gone with the process is gone; the engine
of the simulator adds crashes on top.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from weakref import WeakSet

from kvorum_server.storage.engine import SPACE_BYTES, EngineStats, space_prefix


class MemorySnapshot:
    """The rows of a :class:`MemoryEngine` at one moment."""

    __slots__ = ("__weakref__", "_keys", "_readers", "_rows")

    def __init__(
        self, rows: dict[bytes, bytes], keys: list[bytes], readers: "WeakSet[object]"
    ) -> None:
        self._rows = rows
        self._keys = keys
        self._readers = readers
        readers.add(self)

    def get(self, key: bytes) -> bytes | None:
        """The value of a row, None when absent."""
        assert self in self._readers, "a closed snapshot is not read"
        return self._rows.get(key)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows of [start, end) in key order, or from the end backwards; lazily."""
        assert self in self._readers, "a closed snapshot is not read"
        rows = _scan(self._rows, self._keys, start, end, reverse)
        self._readers.add(rows)
        return rows

    def close(self) -> None:
        """Ends the reading. Idempotent; scans that were begun before go on."""
        self._readers.discard(self)


class MemoryEngine:
    """All rows in one dictionary.

    >>> engine = MemoryEngine()
    >>> engine.write({b"a": b"1", b"b": b"2", b"c": b"3"})
    >>> before = engine.snapshot()
    >>> engine.write({b"a": None, b"b": b"changed"})
    >>> list(engine.scan(b"a", b"z"))
    [(b'b', b'changed'), (b'c', b'3')]
    >>> list(before.scan(b"a", b"c", reverse=True))
    [(b'b', b'2'), (b'a', b'1')]
    """

    __slots__ = ("_bytes", "_keys", "_readers", "_rows")

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._readers: WeakSet[object] = WeakSet()
        self._bytes = 0

    def get(self, key: bytes) -> bytes | None:
        """The value of a row, None when absent."""
        return self._rows.get(key)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows of [start, end) in key order, or backwards; of the state at the call."""
        rows = _scan(self._rows, self._keys, start, end, reverse)
        self._readers.add(rows)
        return rows

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Puts all rows at once; None deletes, and deleting an absent row is no error."""
        self._leave_shared_table()
        table, keys = self._rows, self._keys
        for key, value in rows.items():
            old = table.get(key)
            if old is not None:
                self._bytes -= len(key) + len(old)
            if value is not None:
                if old is None:
                    insort(keys, key)
                table[key] = value
                self._bytes += len(key) + len(value)
            elif old is not None:
                del keys[bisect_left(keys, key)]
                del table[key]
        assert len(table) == len(keys), "every row has its place in the key order"

    def snapshot(self) -> MemorySnapshot:
        """A view that later writes do not change."""
        return MemorySnapshot(self._rows, self._keys, self._readers)

    def flush(self) -> None:
        """Nothing to do: memory is as durable as it will ever be."""

    def drop(self, space: int) -> None:
        """Deletes all rows of a space."""
        start, end = space_prefix(space), space_prefix(space + 1)
        self.write(dict.fromkeys(key for key, _ in self.scan(start, end)))

    def spaces(self) -> list[int]:
        """Spaces that hold at least one row, ascending."""
        return sorted({int.from_bytes(key[:SPACE_BYTES], "big") for key in self._keys})

    def stats(self) -> EngineStats:
        """Bytes of keys and values; there is no disk and never any pressure."""
        return EngineStats(disk_bytes=0, memory_bytes=self._bytes, pressure=0.0)

    def close(self) -> None:
        """Nothing to release."""

    def check_invariants(self) -> None:
        """Asserts what the module promises; for tests and simulations."""
        assert self._keys == sorted(self._rows), "keys are those of the rows, ascending"
        size = sum(len(key) + len(value) for key, value in self._rows.items())
        assert self._bytes == size, "the byte count is that of the rows"

    def _leave_shared_table(self) -> None:
        """Copies the table when someone still reads it; they keep the old one."""
        if self._readers:
            self._rows = self._rows.copy()
            self._keys = self._keys.copy()
            self._readers = WeakSet()


def _scan(
    rows: dict[bytes, bytes], keys: list[bytes], start: bytes, end: bytes, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """The bounds are found now, the rows are read when asked for."""
    low = bisect_left(keys, start)
    high = bisect_left(keys, end)
    places = range(high - 1, low - 1, -1) if reverse else range(low, high)
    return ((keys[place], rows[keys[place]]) for place in places)
