"""An engine that loses what a crash may lose, and what it loses is drawn from the seed.

The real engine holds, after a crash, some prefix of its writes that ends at a batch boundary and is
at least as new as its last completed flush; which one depends on when its memtables happened to be
full. Here every such prefix can come back. The two ends are drawn more often than chance would:
losing all and losing nothing are where mistakes show.

A flush takes time in reality, and writes go on meanwhile: ``start_flush`` remembers how far it will
reach, ``finish_flush`` makes that much durable. ``flush`` is both at once.

Beyond what crashes do there is damage, of two kinds. *Rotten* rows are there and cannot be read:
the real engine has a checksum on every block, so whoever touches one gets an EngineDamage and
never a wrong value. *Lost* files take the table back to an older durable state, or to none; what
is left looks whole, and only the log can tell that it is too old. ``copy`` is what a backup of the
machine would hold.
"""

import random
from collections.abc import Iterator, Mapping
from weakref import WeakSet

from kvorum_server.storage.engine import space_prefix
from kvorum_server.storage.errors import EngineDamage
from kvorum_server.storage.memory import MemoryEngine, MemorySnapshot

Row = tuple[bytes, bytes]


class RottenSnapshot(MemorySnapshot):
    """A snapshot some of whose rows cannot be read."""

    __slots__ = ("_rotten",)

    def __init__(
        self,
        rows: dict[bytes, bytes],
        keys: list[bytes],
        readers: "WeakSet[object]",
        rotten: frozenset[bytes],
    ) -> None:
        super().__init__(rows, keys, readers)
        self._rotten = rotten

    def get(self, key: bytes) -> bytes | None:
        """The value of a row; EngineDamage for a rotten one."""
        _check_readable(key, self._rotten)
        return super().get(key)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Row]:
        """Rows in order up to the first that is rotten: EngineDamage."""
        return _readable(super().scan(start, end, reverse=reverse), self._rotten)


class SimulatedEngine(MemoryEngine):
    """Survives its node: after ``crash`` it is what the restarted node finds.

    >>> engine = SimulatedEngine(random.Random(3))
    >>> engine.write({b"a": b"1"}); engine.flush()
    >>> engine.write({b"b": b"2", b"c": b"3"})
    >>> engine.crash()
    >>> engine.get(b"a"), engine.get(b"b") == engine.get(b"c") or "torn"
    (b'1', True)
    """

    __slots__ = ("_batches", "_durable", "_flushed", "_old", "_randomness", "_rotten", "was_rotten")

    def __init__(self, randomness: random.Random) -> None:
        super().__init__()
        self._randomness = randomness
        self._durable: dict[bytes, bytes] = {}
        self._batches: list[dict[bytes, bytes | None]] = []
        self._flushed = 0
        self._old: dict[bytes, bytes] = {}
        self._rotten: frozenset[bytes] = frozenset()
        self.was_rotten = False
        """Whether rows have been rotten since the last crash: old views may have them still."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a row, None when absent; EngineDamage for a rotten one."""
        if self._rotten:
            _check_readable(key, self._rotten)
        return super().get(key)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Row]:
        """Rows in order; EngineDamage at a rotten one."""
        rows = super().scan(start, end, reverse=reverse)
        return _readable(rows, self._rotten) if self._rotten else rows

    def snapshot(self) -> MemorySnapshot:
        """A view that later writes do not change."""
        if self._rotten:
            return RottenSnapshot(self._rows, self._keys, self._readers, self._rotten)
        return super().snapshot()

    def drop(self, space: int) -> None:
        """Deletes all rows of a space without reading them."""
        rows = super().scan(space_prefix(space), space_prefix(space + 1))
        self.write(dict.fromkeys(key for key, _ in rows))

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Puts all rows at once; durable after the next flush, or earlier, or never."""
        super().write(rows)
        if self._rotten:
            self._rotten -= rows.keys()
        self._batches.append(dict(rows))

    def start_flush(self) -> int:
        """How many writes the flush that starts now will make durable."""
        return self._flushed + len(self._batches)

    def finish_flush(self, reach: int) -> None:
        """The flush that got ``reach`` at its start is done; one that met a crash never is."""
        assert reach <= self._flushed + len(self._batches), "a flush reaches what was written"
        done = max(0, reach - self._flushed)
        for batch in self._batches[:done]:
            _apply(self._durable, batch)
        del self._batches[:done]
        self._flushed += done

    def flush(self) -> None:
        """Makes every write so far durable, in no time."""
        self.finish_flush(self.start_flush())

    def crash(self) -> None:
        """Forgets the writes after a batch boundary of the seed's choice."""
        unflushed = len(self._batches)
        kept = self._randomness.choice((0, unflushed, self._randomness.randint(0, unflushed)))
        for batch in self._batches[:kept]:
            _apply(self._durable, batch)
        self._flushed += kept
        self._batches.clear()
        self.was_rotten = self.is_rotten
        self._come_back(self._durable)

    # --- Damage ---

    @property
    def is_rotten(self) -> bool:
        """Whether there are rows that cannot be read."""
        return bool(self._rotten)

    def rot(self, rows: int) -> None:
        """Some durable rows of the seed's choice cannot be read any more."""
        keys = sorted(self._durable)
        self._rotten |= frozenset(self._randomness.sample(keys, min(rows, len(keys))))
        self.was_rotten = self.is_rotten

    def remember(self) -> None:
        """Notes the durable state of now as one that ``lose`` may take the table back to."""
        self._old = dict(self._durable)

    def lose(self) -> None:
        """While no process runs: the files of now are gone, older ones or none are there."""
        self._batches.clear()
        self._durable = dict(self._randomness.choice((self._old, {})))
        self._rotten = frozenset()
        self._come_back(self._durable)

    def copy(self, randomness: random.Random) -> "SimulatedEngine":
        """An engine of its own with what this one holds durably."""
        twin = SimulatedEngine(randomness)
        twin._durable = dict(self._durable)
        twin._come_back(twin._durable)
        return twin

    def _come_back(self, rows: Mapping[bytes, bytes]) -> None:
        super().__init__()
        super().write(rows)


def _check_readable(key: bytes, rotten: frozenset[bytes]) -> None:
    if key in rotten:
        raise EngineDamage("read", "the simulated engine", "Corruption: block checksum mismatch")


def _readable(rows: Iterator[Row], rotten: frozenset[bytes]) -> Iterator[Row]:
    for row in rows:
        _check_readable(row[0], rotten)
        yield row


def _apply(rows: dict[bytes, bytes], batch: Mapping[bytes, bytes | None]) -> None:
    for key, value in batch.items():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
