"""What a correct server would answer: the sequential specification, in plain Python values.

The simulator's clients record operations and the outcomes they saw; the checkers ask this model
whether some order of the operations explains the outcomes. The model shares no code with the
product: it knows nothing of rows, history tables, sessions or protobuf.

A model is a value: a revision, an ordered tuple of items, and the revision up to which the past is
forgotten. ``apply`` gives the next model and the outcome. Without revisions (``Model.unnumbered``)
the model forgets all revision numbers, which lets the history of each key be checked by itself;
with them, one order has to explain every number too.

A model has no past. What a read of an old revision must answer is the business of whoever keeps
the models of all revisions (``replay.py``): ``apply`` refuses such reads as a bug of its caller.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from kvorum_proto.command_pb2 import (
    COMPACTED,
    FUTURE_REVISION,
    NOT_AN_INTEGER,
    OUT_OF_BOUNDS,
)

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
    """Adds ``by``, unless the sum leaves the bounds."""

    key: bytes
    by: int
    minimum: int = INT64_MIN
    maximum: int = INT64_MAX


@dataclass(frozen=True, slots=True)
class Get:
    """``revision`` 0: now."""

    key: bytes
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """All items of [start, end). ``revision`` 0: as they are now."""

    start: bytes
    end: bytes
    revision: int = 0


@dataclass(frozen=True, slots=True)
class DeleteRange:
    """Deletes the first ``limit`` items of [start, end)."""

    start: bytes
    end: bytes
    limit: int


@dataclass(frozen=True, slots=True)
class Compact:
    """Forgets everything before a revision."""

    revision: int


Condition = tuple[bytes, bytes | int | None]
"""A key and its value, or its mod revision, or None: it is absent."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """Conditions decide which branch runs, in nested transactions too, before anything is written;
    all in one atomic step. One refusal refuses the whole."""

    expected: tuple[Condition, ...]
    success: "tuple[Part, ...]"
    failure: "tuple[Part, ...]"


Part = Put | Delete | Increment | DeleteRange | Scan | Transaction
"""What a branch of a transaction may hold."""

Operation = Put | Delete | Increment | Get | Scan | DeleteRange | Compact | Transaction

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
class Forgotten:
    """A compaction was done. ``revision`` is the group's."""

    revision: int


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


Outcome = Written | Deleted | Incremented | Found | Forgotten | Decided | Refused


@dataclass(frozen=True, slots=True)
class _Path:
    """The branch that a transaction takes, and those of the transactions inside it."""

    succeeded: bool
    nested: "tuple[_Path, ...]"


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
    compacted_revision: int = 0

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
        revision = self.revision + 1 if self.revision else 0
        if isinstance(operation, Transaction):
            after, outcome = self._run(operation, self._choose(operation), revision)
            return (self, outcome) if isinstance(outcome, Refused) else (after, outcome)
        if isinstance(operation, Compact):
            return self._compact(operation.revision)
        after, outcome = self._one(operation, revision)
        if after.items is self.items:
            return self, outcome
        return replace(after, revision=revision), outcome

    def _one(
        self, operation: Put | Delete | Increment | Get | Scan | DeleteRange, revision: int
    ) -> "tuple[Model, Outcome]":
        """``revision`` is this write's number; reads and empty deletes show the group's own."""
        match operation:
            case Put():
                return self._put(operation.key, operation.value, revision), Written(revision)
            case Delete(key):
                return self._delete(key, key + b"\0", 1, revision)
            case DeleteRange(start, end, limit):
                return self._delete(start, end, limit, revision)
            case Increment():
                return self._increment(operation, revision)
            case Get(key, asked):
                assert not asked, "a model has no past"
                return self, Found(self.revision, self._range(key, key + b"\0"))
            case Scan(start, end, asked):
                assert not asked, "a model has no past"
                return self, Found(self.revision, self._range(start, end))
            case _:
                assert_never(operation)

    # --- Transactions ---

    def _choose(self, transaction: Transaction) -> _Path:
        """All conditions are judged before anything is written."""
        succeeded = all(self._holds(*condition) for condition in transaction.expected)
        branch = transaction.success if succeeded else transaction.failure
        nested = (self._choose(part) for part in branch if isinstance(part, Transaction))
        return _Path(succeeded, tuple(nested))

    def _holds(self, key: bytes, expected: bytes | int | None) -> bool:
        item = next((item for item in self.items if item.key == key), None)
        match expected:
            case None:
                return item is None
            case int():
                return (item.mod_revision if item else 0) == expected
            case bytes():
                return item is not None and item.value == expected

    def _run(self, transaction: Transaction, path: _Path, revision: int) -> "tuple[Model, Outcome]":
        """The operations of the chosen branch, in order, each seeing those before it."""
        model = self
        outcomes: list[Outcome] = []
        nested = iter(path.nested)
        for part in transaction.success if path.succeeded else transaction.failure:
            if isinstance(part, Transaction):
                changed, outcome = model._run(part, next(nested), revision)
            else:
                changed, outcome = model._one(part, revision)
            if isinstance(outcome, Refused):
                return self, outcome
            if changed.items is not model.items:
                model = replace(changed, revision=revision)
            outcomes.append(replace(outcome, revision=0))
        return model, Decided(model.revision, path.succeeded, tuple(outcomes))

    # --- Single operations ---

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
        items = tuple(sorted([*others, item], key=lambda item: item.key))
        return Model(self.revision, items, self.compacted_revision)

    def _delete(
        self, start: bytes, end: bytes, limit: int, revision: int
    ) -> "tuple[Model, Outcome]":
        gone = self._range(start, end)[:limit]
        if not gone:
            return self, Deleted(self.revision, 0)
        kept = tuple(item for item in self.items if item not in gone)
        return Model(self.revision, kept, self.compacted_revision), Deleted(revision, len(gone))

    def _increment(self, operation: Increment, revision: int) -> "tuple[Model, Outcome]":
        old = self.value(operation.key)
        try:
            total = int(old or b"0") + operation.by
        except ValueError:
            return self, Refused(NOT_AN_INTEGER)
        if not operation.minimum <= total <= operation.maximum:
            return self, Refused(OUT_OF_BOUNDS)
        return self._put(operation.key, b"%d" % total, revision), Incremented(revision, total)

    def _compact(self, revision: int) -> "tuple[Model, Outcome]":
        if revision <= self.compacted_revision:
            return self, Refused(COMPACTED)
        if revision > self.revision:
            return self, Refused(FUTURE_REVISION)
        return replace(self, compacted_revision=revision), Forgotten(self.revision)


# --- What operations touch ---


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
        case Compact():
            return frozenset()
        case Transaction():
            keys = {key for key, _ in operation.expected}
            for part in (*operation.success, *operation.failure):
                touched = keys_of(part)
                if touched is None:
                    return None
                keys |= touched
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
        case Forgotten():
            return Forgotten(0)
        case Decided(_, succeeded, outcomes):
            return Decided(0, succeeded, tuple(without_revisions(part) for part in outcomes))
        case Refused():
            return outcome
        case _:
            assert_never(outcome)


def revision_of(outcome: Outcome) -> int | None:
    """The revision that the group had after the operation, as its answer says; None: it does not.

    >>> revision_of(Written(7)), revision_of(Refused(NOT_AN_INTEGER))
    (7, None)
    """
    return None if isinstance(outcome, Refused) else outcome.revision


def is_read(operation: Operation) -> bool:
    """Whether an operation can change nothing, whatever it meets."""
    return isinstance(operation, Get | Scan)


def is_about_the_past(operation: Operation) -> bool:
    """Whether an operation reads old revisions or forgets them; the present stays as it is."""
    return isinstance(operation, Compact) or (
        isinstance(operation, Get | Scan) and operation.revision > 0
    )
