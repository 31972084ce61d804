"""An engine that loses what a crash may lose, and what it loses is drawn from the seed.

The real engine holds, after a crash, some prefix of its writes that ends at a batch boundary and is
at least as new as its last completed flush; which one depends on when its memtables happened to be
full. Here every such prefix can come back. The two ends are drawn more often than chance would:
losing all and losing nothing are where mistakes show.

A flush takes time in reality, and writes go on meanwhile: ``start_flush`` remembers how far it will
reach, ``finish_flush`` makes that much durable. ``flush`` is both at once.
"""

import random
from collections.abc import Mapping

from kvorum_server.storage.memory import MemoryEngine


class SimulatedEngine(MemoryEngine):
    """Survives its node: after ``crash`` it is what the restarted node finds.

    >>> engine = SimulatedEngine(random.Random(3))
    >>> engine.write({b"a": b"1"}); engine.flush()
    >>> engine.write({b"b": b"2", b"c": b"3"})
    >>> engine.crash()
    >>> engine.get(b"a"), engine.get(b"b") == engine.get(b"c") or "torn"
    (b'1', True)
    """

    __slots__ = ("_batches", "_durable", "_flushed", "_randomness")

    def __init__(self, randomness: random.Random) -> None:
        super().__init__()
        self._randomness = randomness
        self._durable: dict[bytes, bytes] = {}
        self._batches: list[dict[bytes, bytes | None]] = []
        self._flushed = 0

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Puts all rows at once; durable after the next flush, or earlier, or never."""
        super().write(rows)
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
        super().__init__()
        super().write(self._durable)


def _apply(rows: dict[bytes, bytes], batch: Mapping[bytes, bytes | None]) -> None:
    for key, value in batch.items():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
