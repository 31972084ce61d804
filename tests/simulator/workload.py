"""What the clients of a run ask for: few keys, many kinds of operations, unique values.

Few keys make operations meet. Each written value is unique, so that a read names the write that
it saw; most are integers, so that increments work, and some are not, so that increments are
refused. How often each kind comes is drawn by the seed: a run in which every third command is a
compaction finds other things than one that only increments.

Runs without ranges keep to one key an operation, so that each key can be judged by itself.
"""

import random
from dataclasses import dataclass, field

from tests.simulator.model import (
    INT64_MAX,
    INT64_MIN,
    Compact,
    Condition,
    Delete,
    DeleteRange,
    Get,
    Increment,
    Operation,
    Part,
    Put,
    Scan,
    Transaction,
)
from tests.simulator.options import Options
from tests.simulator.scheduler import MILLISECOND

RANGE_START, RANGE_END = b"key", b"kez"

SINGLE_KEY_WRITES = ("put", "increment", "compare and set", "delete", "compact")
MANY_KEY_WRITES = ("delete range", "transfer", "nested")

Choice = tuple[Operation, int | None]
"""An operation, and for a read how old its answer may be (microseconds; 0 = however old; None =
it must be linearizable)."""


@dataclass(slots=True)
class Workload:
    """Chooses operations; one for all clients of a run."""

    options: Options
    generator: random.Random
    written: int = 0
    newest_revision: int = 1
    """The largest that any client was told."""
    _kinds: list[str] = field(default_factory=list)
    _weights: list[float] = field(default_factory=list)
    _past: float = 0.0

    def __post_init__(self) -> None:
        many = MANY_KEY_WRITES if self.options.ranges else ()
        self._kinds = [*SINGLE_KEY_WRITES, *many]
        self._weights = [self.generator.choice((0.2, 1, 1, 3)) for _ in self._kinds]
        self._weights[0] *= 2
        self._weights[self._kinds.index("compact")] *= self.generator.choice((0, 0.1, 0.3))
        self._past = self.generator.choice((0.0, 0.1, 0.3))

    def choose(self, reads: float) -> Choice:
        """The next operation."""
        if self.generator.random() < reads:
            return self._read(), self._staleness()
        return self._write(), None

    def heard(self, revision: int) -> None:
        """A client was told that the group has this revision."""
        self.newest_revision = max(self.newest_revision, revision)

    # --- Reads ---

    def _staleness(self) -> int | None:
        if self.generator.random() >= self.options.stale:
            return None
        if self.generator.random() < 0.3:
            return 0
        return self.generator.choice((1, 20, 100, 500, 2000)) * MILLISECOND

    def _read(self) -> Operation:
        revision = self._old_revision() if self.generator.random() < self._past else 0
        if not self.options.ranges or self.generator.random() < 0.6:
            return Get(self._key(), revision)
        if self.generator.random() < 0.5:
            return Scan(RANGE_START, RANGE_END, revision)
        return Scan(*self._range(), revision)

    def _old_revision(self) -> int:
        """Mostly one that still exists, sometimes one that does not exist yet."""
        back = int(self.generator.expovariate(0.1))
        return max(1, self.newest_revision - back + self.generator.randrange(2))

    # --- Writes ---

    def _write(self) -> Operation:
        match self.generator.choices(self._kinds, self._weights)[0]:
            case "put":
                return Put(self._key(), self._value())
            case "increment":
                return self._increment()
            case "compare and set":
                return self._compare_and_set()
            case "delete":
                return Delete(self._key())
            case "compact":
                return Compact(self._old_revision())
            case "delete range":
                return DeleteRange(*self._range(), self.options.config.range_keys_max)
            case "transfer":
                return self._transfer()
            case _:
                return self._nested()

    def _key(self) -> bytes:
        return b"key%d" % self.generator.randrange(self.options.keys)

    def _keys(self) -> list[bytes]:
        keys = [b"key%d" % number for number in range(self.options.keys)]
        self.generator.shuffle(keys)
        return keys

    def _value(self) -> bytes:
        self.written += 1
        if self.generator.random() < 0.2:
            return b"text %d" % self.written
        return b"%d" % (self.written * 1000)

    def _range(self) -> tuple[bytes, bytes]:
        return min(pair := (self._key(), self._key())), max(pair) + b"\0"

    def _increment(self) -> Increment:
        by = self.generator.randrange(-3, 10)
        match self.generator.randrange(4):
            case 0:
                return Increment(self._key(), by, minimum=0)
            case 1:
                top = self.generator.randrange(self.written + 1) * 1000 + 5
                return Increment(self._key(), by, INT64_MIN, top)
            case 2:
                return Increment(self._key(), self.generator.choice((by, INT64_MAX, INT64_MIN)))
            case _:
                return Increment(self._key(), by)

    def _condition(self, key: bytes) -> Condition:
        """Absent, or a value that may still be there, or a revision that may still be the last."""
        match self.generator.randrange(6):
            case 0 | 1:
                return key, None
            case 2:
                return key, self._old_revision()
            case _:
                return key, b"%d" % (self.generator.randrange(self.written + 1) * 1000)

    def _compare_and_set(self) -> Transaction:
        """Creates a key, or replaces a value that may still be there; else reads it."""
        key = self._key()
        read = Scan(key, key + b"\0")
        otherwise = (read,) if self.generator.random() < 0.5 else ()
        return Transaction((self._condition(key),), (Put(key, self._value()),), otherwise)

    def _transfer(self) -> Transaction:
        """Reads everything and writes two keys, if a third one is absent; else deletes that one."""
        keys = self._keys()
        everything = Scan(RANGE_START, RANGE_END)
        writes = tuple(Put(key, self._value()) for key in keys[:2])
        return Transaction(
            ((keys[-1], None),), (everything, *writes), (Delete(keys[-1]), everything)
        )

    def _nested(self) -> Transaction:
        """A choice inside a choice; each key is written once at most, as the product wants it."""
        keys = self._keys()
        parts = [self._part(key) for key in keys]
        middle = len(parts) // 2
        inner = Transaction(
            (self._condition(keys[0]),),
            (*parts[:middle], Scan(RANGE_START, RANGE_END)),
            tuple(self._part(key) for key in keys[:middle]),
        )
        return Transaction((self._condition(keys[-1]),), (*parts[middle:], inner), (inner,))

    def _part(self, key: bytes) -> Part:
        match self.generator.randrange(4):
            case 0:
                return Increment(key, self.generator.randrange(-3, 10))
            case 1:
                return Delete(key)
            case 2:
                return DeleteRange(key, key + b"\0", self.options.config.range_keys_max)
            case _:
                return Put(key, self._value())
