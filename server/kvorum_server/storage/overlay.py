"""The rows that a turn has changed and not yet written, laid over the engine.

Commands of one turn see each other through it; ``flush`` hands everything to the engine as one
write. Point access costs one dictionary look-up; the sorted key list that range access needs is
built when the first scan of a turn asks for it and kept up to date from then on.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from kvorum_server.storage.engine import Engine


class Overlay:
    """One per Host, shared by the state machines of all its groups.

    >>> from kvorum_server.storage.memory import MemoryEngine
    >>> engine = MemoryEngine()
    >>> engine.write({b"a": b"1", b"b": b"2"})
    >>> overlay = Overlay(engine)
    >>> overlay.put(b"c", b"3"); overlay.delete(b"a")
    >>> list(overlay.scan(b"a", b"z")), overlay.get(b"a")
    ([(b'b', b'2'), (b'c', b'3')], None)
    >>> overlay.flush(); engine.get(b"c")
    b'3'
    """

    __slots__ = ("_keys", "_rows", "engine")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._rows: dict[bytes, bytes | None] = {}
        self._keys: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: bytes) -> bytes | None:
        """The newest value of a row, None when absent."""
        # Most rows are not in here, and for those an exception would cost three times as much.
        if key in self._rows:
            return self._rows[key]
        return self.engine.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Sets a row."""
        if self._keys is not None and key not in self._rows:
            insort(self._keys, key)
        self._rows[key] = value

    def delete(self, key: bytes) -> None:
        """Deletes a row; deleting an absent one is no error."""
        if self._keys is not None and key not in self._rows:
            insort(self._keys, key)
        self._rows[key] = None

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows of [start, end) in key order or backwards, of the state at the call."""
        if self._keys is None:
            self._keys = sorted(self._rows)
        changed = self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, end)]
        below = self.engine.scan(start, end, reverse=reverse)
        if not changed:
            return below
        if reverse:
            changed.reverse()
        return _merge([(key, self._rows[key]) for key in changed], below, reverse)

    def flush(self) -> None:
        """Writes all rows to the engine at once and starts empty."""
        if self._rows:
            self.engine.write(self._rows)
            self._rows = {}
            self._keys = None


def _merge(
    above: list[tuple[bytes, bytes | None]], below: Iterator[tuple[bytes, bytes]], reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Both in scan order; a row above hides the one below of its key, None hides it for good."""
    row = next(below, None)
    for key, value in above:
        while row is not None and (row[0] > key if reverse else row[0] < key):
            yield row
            row = next(below, None)
        if row is not None and row[0] == key:
            row = next(below, None)
        if value is not None:
            yield key, value
    if row is not None:
        yield row
        yield from below
