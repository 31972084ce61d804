"""What a correct server would answer: the sequential specification, in plain Python values.

The simulator's clients record operations and the outcomes they saw; the linearizability checker
asks this model whether some order of the operations explains the outcomes. The model shares no
code with the product: it knows nothing of rows, history tables, sessions or protobuf.

A model is a value: a revision and an ordered tuple of items. ``apply`` gives the next model and the
outcome. Without revisions (``Model.unnumbered``) the model forgets all revision numbers, which lets
the history of each key be checked by itself; with them, one order has to explain every number too.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from kvorum_proto.command_pb2 import NOT_AN_INTEGER, OUT_OF_BOUNDS

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)

# --- Operations ---


@dataclass(frozen=True, slots=True)
class Put:
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    key: bytes


@dataclass(frozen=True, slots=True)
class Increment:
    key: bytes
    by: int


@dataclass(frozen=True, slots=True)
class Get:
    key: bytes


@dataclass(frozen=True, slots=True)
class Scan:
    """All items of [start, end)."""

    start: bytes
    end: bytes


@dataclass(frozen=True, slots=True)
class DeleteRange:
    """Deletes the first ``limit`` items of [start, end)."""

    start: bytes
    end: bytes
    limit: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """``expected`` values (None = absent) decide which branch runs; all in one atomic step."""

    expected: tuple[tuple[bytes, bytes | None], ...]
    success: "tuple[Put | Delete | Scan, ...]"
    failure: "tuple[Put | Delete | Scan, ...]"


Operation = Put | Delete | Increment | Get | Scan | DeleteRange | Transaction

# --- Outcomes ---


@dataclass(frozen=True, slots=True)
class Item:
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int


@dataclass(frozen=True, slots=True)
class Written:
    revision: int


@dataclass(frozen=True, slots=True)
class Deleted:
    revision: int
    count: int


@dataclass(frozen=True, slots=True)
class Incremented:
    revision: int
    value: int


@dataclass(frozen=True, slots=True)
class Found:
    """Items that a get or a scan returned, in key order. ``revision`` is the group's."""

    revision: int
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Decided:
    """Which branch of a transaction ran, and what its operations returned (their revision is 0)."""

    revision: int
    succeeded: bool
    outcomes: "tuple[Outcome, ...]"


@dataclass(frozen=True, slots=True)
class Refused:
    """A deterministic refusal; it changes nothing."""

    code: int


Outcome = Written | Deleted | Incremented | Found | Decided | Refused


@dataclass(frozen=True, slots=True)
class Model:
    """The state of the model: what a group holds after some prefix of its commands.

    >>> model, outcome = Model.numbered().apply(Put(b"k", b"1"))
    >>> outcome
    Written(revision=2)
    >>> model.apply(Increment(b"k", 4))[1]
    Incremented(revision=3, value=5)
    """

    revision: int
    items: tuple[Item, ...]

    @classmethod
    def numbered(cls) -> "Model":
        """An empty model that counts revisions as the product does: from 1."""
        return cls(1, ())

    @classmethod
    def unnumbered(cls) -> "Model":
        """An empty model in which every revision is 0."""
        return cls(0, ())

    def apply(self, operation: Operation) -> "tuple[Model, Outcome]":
        """The model after the operation, and its outcome."""
        if isinstance(operation, Transaction):
            return self._decide(operation)
        revision = self.revision + 1 if self.revision else 0
        after, outcome = self._one(operation, revision)
        if after is self:
            return self, outcome
        return replace(after, revision=revision), outcome

    def _one(
        self, operation: Put | Delete | Increment | Get | Scan | DeleteRange, revision: int
    ) -> "tuple[Model, Outcome]":
        """``revision`` is this write's number; reads and empty deletes show the store's own."""
        match operation:
            case Put():
                return self._put(operation.key, operation.value, revision), Written(revision)
            case Delete(key):
                return self._delete(key, key + b"\0", 1, revision)
            case DeleteRange(start, end, limit):
                return self._delete(start, end, limit, revision)
            case Increment():
                return self._increment(operation, revision)
            case Get(key):
                return self, Found(self.revision, self._range(key, key + b"\0"))
            case Scan(start, end):
                return self, Found(self.revision, self._range(start, end))
            case _:
                assert_never(operation)

    def _decide(self, transaction: Transaction) -> "tuple[Model, Outcome]":
        succeeded = all(self.value(key) == value for key, value in transaction.expected)
        revision = self.revision + 1 if self.revision else 0
        model = self
        outcomes: list[Outcome] = []
        for operation in transaction.success if succeeded else transaction.failure:
            changed, outcome = model._one(operation, revision)
            if changed is not model:
                model = replace(changed, revision=revision)
            outcomes.append(
                outcome if isinstance(outcome, Refused) else replace(outcome, revision=0)
            )
        return model, Decided(model.revision, succeeded, tuple(outcomes))

    def value(self, key: bytes) -> bytes | None:
        """The value of a key, None when absent."""
        return next((item.value for item in self.items if item.key == key), None)

    def _range(self, start: bytes, end: bytes) -> tuple[Item, ...]:
        return tuple(item for item in self.items if start <= item.key < end)

    def _put(self, key: bytes, value: bytes, revision: int) -> "Model":
        old = next((item for item in self.items if item.key == key), None)
        created = old.create_revision if old else revision
        item = Item(key, value, created, revision, old.version + 1 if old else 1)
        others = [other for other in self.items if other.key != key]
        return Model(self.revision, tuple(sorted([*others, item], key=lambda item: item.key)))

    def _delete(
        self, start: bytes, end: bytes, limit: int, revision: int
    ) -> "tuple[Model, Outcome]":
        gone = self._range(start, end)[:limit]
        if not gone:
            return self, Deleted(self.revision, 0)
        kept = tuple(item for item in self.items if item not in gone)
        return Model(self.revision, kept), Deleted(revision, len(gone))

    def _increment(self, operation: Increment, revision: int) -> "tuple[Model, Outcome]":
        old = self.value(operation.key)
        try:
            total = int(old or b"0") + operation.by
        except ValueError:
            return self, Refused(NOT_AN_INTEGER)
        if not INT64_MIN <= total <= INT64_MAX:
            return self, Refused(OUT_OF_BOUNDS)
        return self._put(operation.key, b"%d" % total, revision), Incremented(revision, total)


def keys_of(operation: Operation) -> frozenset[bytes] | None:
    """The keys that an operation touches; None when it touches a range.

    >>> sorted(keys_of(Transaction(((b"a", None),), (Put(b"b", b""),), ())))
    [b'a', b'b']
    """
    match operation:
        case Put() | Delete() | Increment() | Get():
            return frozenset((operation.key,))
        case Scan() | DeleteRange():
            return None
        case Transaction():
            keys = {key for key, _ in operation.expected}
            for part in (*operation.success, *operation.failure):
                if isinstance(part, Scan):
                    return None
                keys.add(part.key)
            return frozenset(keys)
        case _:
            assert_never(operation)


def without_revisions(outcome: Outcome) -> Outcome:
    """The outcome as a model without numbers would give it.

    >>> without_revisions(Deleted(17, 1))
    Deleted(revision=0, count=1)
    """
    match outcome:
        case Written():
            return Written(0)
        case Deleted(_, count):
            return Deleted(0, count)
        case Incremented(_, value):
            return Incremented(0, value)
        case Found(_, items):
            stripped = (replace(item, create_revision=0, mod_revision=0) for item in items)
            return Found(0, tuple(stripped))
        case Decided(_, succeeded, outcomes):
            return Decided(0, succeeded, tuple(without_revisions(part) for part in outcomes))
        case Refused():
            return outcome
        case _:
            assert_never(outcome)


def is_read(operation: Operation) -> bool:
    """Whether an operation can change nothing, whatever it meets."""
    return isinstance(operation, Get | Scan)
