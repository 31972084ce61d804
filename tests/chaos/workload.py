"""What the clients of a chaos run ask for, as a pure function of a seed and the time.

All clients work on the same few keys, so that operations meet, and every value written is unique,
so that a read names the write that it saw. Every few seconds all of them move on to fresh keys, a
new *generation*: linearizability is a property of each object by itself, so each generation, its
transactions and scans included, can be judged as one short history, and a run may last for hours.
One write in ten goes to the *ledger*, keys written once and never again: what was acknowledged
there must be there at the end.
"""

import random
from dataclasses import dataclass, field

from tests.simulator.model import (
    Delete,
    Get,
    Increment,
    Operation,
    Put,
    Scan,
    Transaction,
)

GENERATION_SECONDS = 4
REGISTERS = 3
LEDGER = b"ledger/"
GENERATIONS = b"generation/"
READS, INCREMENTS, TRANSACTIONS = 0.42, 0.12, 0.10


def generation_at(now_ns: int) -> int:
    """The generation of a moment."""
    return now_ns // (GENERATION_SECONDS * 1_000_000_000)


def prefix_of(generation: int) -> bytes:
    """What the keys of a generation begin with.

    >>> prefix_of(7)
    b'generation/000000000007/'
    """
    return b"%s%012d/" % (GENERATIONS, generation)


def scan_of(generation: int) -> Scan:
    """A scan of all keys of a generation."""
    prefix = prefix_of(generation)
    return Scan(prefix, prefix[:-1] + b"0")


def generation_of(operation: Operation) -> int | None:
    """The generation that an operation belongs to; None: the ledger.

    >>> generation_of(Get(prefix_of(7) + b"counter")), generation_of(Put(b"ledger/1/2", b""))
    (7, None)
    """
    match operation:
        case Put(key=key) | Delete(key=key) | Increment(key=key) | Get(key=key):
            pass
        case Scan(start=key) | Transaction(expected=((key, _),)):
            pass
        case _:
            raise ValueError(f"no worker asks for {operation}")
    if not key.startswith(GENERATIONS):
        return None
    return int(key[len(GENERATIONS) : len(GENERATIONS) + 12])


@dataclass(slots=True)
class Workload:
    """The choices of one worker; ``client`` is its number and makes its values unique."""

    client: int
    generator: random.Random
    seen: dict[bytes, bytes | None] = field(default_factory=dict)
    """What the worker believes to be there, for compare-and-set."""
    _written: int = 0
    _generation: int = -1

    def choose(self, now_ns: int) -> Operation:
        """The next operation."""
        generation = generation_at(now_ns)
        if generation != self._generation:
            self._generation = generation
            self.seen.clear()
        prefix, choice = prefix_of(generation), self.generator.random()
        if choice < READS:
            return self._read(prefix)
        if choice < READS + INCREMENTS:
            return Increment(prefix + b"counter", self.generator.randrange(1, 5))
        if choice < READS + INCREMENTS + TRANSACTIONS:
            return self._move(prefix)
        if self.generator.random() < 0.1 / (1 - READS - INCREMENTS - TRANSACTIONS):
            return Put(LEDGER + b"%04d/%08d" % (self.client, self._written), self._value())
        return self._write(self._register(prefix))

    def _read(self, prefix: bytes) -> Operation:
        choice = self.generator.random()
        if choice < 0.6:
            return Get(self._register(prefix))
        return Get(prefix + b"counter") if choice < 0.8 else Scan(prefix, prefix[:-1] + b"0")

    def _write(self, key: bytes) -> Operation:
        choice = self.generator.random()
        if choice < 0.5:
            return Put(key, self._value())
        if choice < 0.9:
            return compare_and_set(key, self.seen.get(key), self._value())
        return Delete(key)

    def _move(self, prefix: bytes) -> Transaction:
        """Empties one register into another, if it is as last seen; else looks at everything."""
        numbers = self.generator.sample(range(REGISTERS), 2)
        source, target = (prefix + b"register/%d" % number for number in numbers)
        everything = Scan(prefix, prefix[:-1] + b"0")
        expected = self.seen.get(source)
        moves = (Delete(source), Put(target, self._value()), everything)
        return Transaction(((source, expected),), moves, (everything,))

    def _register(self, prefix: bytes) -> bytes:
        return prefix + b"register/%d" % self.generator.randrange(REGISTERS)

    def _value(self) -> bytes:
        self._written += 1
        return b"%d.%d" % (self.client, self._written)


def compare_and_set(key: bytes, expected: bytes | int | None, value: bytes) -> Transaction:
    """What the SDK's call of this name amounts to: a refusal shows the current item."""
    return Transaction(((key, expected),), (Put(key, value),), (Scan(key, key + b"\0"),))


def is_compare_and_set(transaction: Transaction) -> bool:
    """Whether a transaction is what :func:`compare_and_set` makes.

    >>> is_compare_and_set(compare_and_set(b"key", None, b"1"))
    True
    """
    (key, expected), *_ = transaction.expected
    (first, *rest) = transaction.success
    return (
        isinstance(first, Put)
        and not rest
        and transaction == compare_and_set(key, expected, first.value)
    )
