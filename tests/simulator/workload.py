"""What the clients of a run ask for: few keys, many kinds of operations, unique values.

Few keys make operations meet. Each written value is unique, so that a read names the write that
it saw; most are integers, so that increments work, and some are not, so that increments are
refused.
"""

import random
from dataclasses import dataclass

from tests.simulator.model import (
    Delete,
    DeleteRange,
    Get,
    Increment,
    Operation,
    Put,
    Scan,
    Transaction,
)
from tests.simulator.options import Options

RANGE_START, RANGE_END = b"key", b"kez"


@dataclass(slots=True)
class Workload:
    """Chooses operations; one for all clients of a run."""

    options: Options
    generator: random.Random
    written: int = 0

    def choose(self, reads: float) -> tuple[Operation, bool]:
        """The next operation, and whether it is a read that may be stale."""
        if self.generator.random() < reads:
            return self._read(), self.generator.random() < self.options.stale
        return self._write(), False

    def _read(self) -> Operation:
        if not self.options.ranges or self.generator.random() < 0.6:
            return Get(self._key())
        if self.generator.random() < 0.5:
            return Scan(RANGE_START, RANGE_END)
        return Scan(*self._range())

    def _write(self) -> Operation:
        match self.generator.randrange(8 if self.options.ranges else 6):
            case 0 | 1:
                return Put(self._key(), self._value())
            case 2 | 3:
                return Increment(self._key(), self.generator.randrange(-3, 10))
            case 4:
                return self._compare_and_set()
            case 5:
                return Delete(self._key())
            case 6:
                return DeleteRange(*self._range(), self.options.config.range_keys_max)
            case _:
                return self._transfer()

    def _key(self) -> bytes:
        return b"key%d" % self.generator.randrange(self.options.keys)

    def _value(self) -> bytes:
        self.written += 1
        if self.generator.random() < 0.2:
            return b"text %d" % self.written
        return b"%d" % (self.written * 1000)

    def _range(self) -> tuple[bytes, bytes]:
        return min(pair := (self._key(), self._key())), max(pair) + b"\0"

    def _compare_and_set(self) -> Transaction:
        """Creates a key, or replaces a value that may still be there."""
        key = self._key()
        guess = b"%d" % (self.generator.randrange(self.written + 1) * 1000)
        expected = None if self.generator.random() < 0.3 else guess
        return Transaction(((key, expected),), (Put(key, self._value()),), ())

    def _transfer(self) -> Transaction:
        """Reads everything and writes two keys, if a third one is absent; else deletes that one."""
        keys = [b"key%d" % number for number in range(self.options.keys)]
        self.generator.shuffle(keys)
        everything = Scan(RANGE_START, RANGE_END)
        writes = tuple(Put(key, self._value()) for key in keys[:2])
        return Transaction(
            ((keys[-1], None),), (everything, *writes), (Delete(keys[-1]), everything)
        )
