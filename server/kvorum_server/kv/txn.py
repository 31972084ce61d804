"""One atomic step of many operations: compares decide, then one branch runs.

The semantics are those of etcd's ``Txn``. All compares are judged before anything is written, those
of nested transactions too: they pick one *path* through the tree of branches. The operations of the
path then run in order, and each sees the writes of those before it. All writes share one revision.
The first refusal (a value that is no integer, a revision that was compacted...) refuses the whole
transaction and nothing has changed; that is decided from replicated state alone, so every replica
refuses alike.

The work is bounded for the transaction as a whole: keys compared and keys deleted by
``range_keys_max``, items and bytes returned by one page's limits. A plain range that exceeds what
is left says where to go on, as it does outside; what cannot be cut is refused.

A range of the *past* is not offered here, one key at a time is: the past does not change, so a
query gives the same answer, in slices.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvorum_proto.command_pb2 import Compare, ErrorCode, Operation, Result, Txn
from kvorum_server.kv.mvcc import Versions, value_of
from kvorum_server.kv.operations import Operations
from kvorum_server.kv.refusal import Refusal
from kvorum_server.kv.rows import VERSION
from kvorum_server.kv.scan import Budget

_INTEGER_RELATIONS: dict[int, Callable[[int, int], bool]] = {
    Compare.Relation.EQUAL: operator.eq,
    Compare.Relation.NOT_EQUAL: operator.ne,
    Compare.Relation.LESS: operator.lt,
    Compare.Relation.GREATER: operator.gt,
}
_VALUE_RELATIONS: dict[int, Callable[[bytes, bytes], bool]] = {
    Compare.Relation.EQUAL: operator.eq,
    Compare.Relation.NOT_EQUAL: operator.ne,
    Compare.Relation.LESS: operator.lt,
    Compare.Relation.GREATER: operator.gt,
}
_HEADER_FIELDS = {"create_revision": 0, "mod_revision": 1, "version": 2, "lease": 3}


@dataclass(frozen=True, slots=True)
class Path:
    """Which branch of a transaction runs, and those of the transactions inside that branch."""

    succeeded: bool
    nested: tuple["Path", ...]


class Transaction:
    """One run of one Txn command."""

    __slots__ = ("_budget", "_operations", "_versions")

    def __init__(self, versions: Versions, operations: Operations, budget: Budget) -> None:
        self._versions = versions
        self._operations = operations
        self._budget = budget

    def run(self, txn: Txn, result: Result) -> None:
        """Applies the transaction as a whole, or raises Refusal and has changed nothing."""
        path = self._choose(txn)
        self._versions.begin_transaction()
        try:
            self._run(txn, path, result)
        except Refusal:
            self._versions.roll_back()
            raise

    def _run(self, txn: Txn, path: Path, result: Result) -> None:
        """The operations of the chosen branch, in order."""
        answer = result.txn
        answer.succeeded = path.succeeded
        answer.SetInParent()
        nested = iter(path.nested)
        for operation in _branch(txn, path.succeeded):
            one = answer.results.add()
            match operation.WhichOneof("operation"):
                case "put":
                    self._operations.put(operation.put, one, self._budget)
                case "delete":
                    self._operations.delete(operation.delete, one, self._budget)
                case "delete_range":
                    self._operations.delete_range(operation.delete_range, one, self._budget)
                case "increment":
                    self._operations.increment(operation.increment, one, self._budget)
                case "range":
                    self._operations.range(operation.range, one, self._budget)
                case "txn":
                    self._run(operation.txn, next(nested), one)
                case _:
                    raise Refusal(ErrorCode.MALFORMED, "an operation of the transaction is empty")
        answer.revision = self._versions.revision_so_far

    # --- Which branch ---

    def _choose(self, txn: Txn) -> Path:
        """Judges all compares of the path before anything is written."""
        succeeded = all(self._holds(compare) for compare in txn.compares)
        nested = tuple(
            self._choose(operation.txn)
            for operation in _branch(txn, succeeded)
            if operation.HasField("txn")
        )
        return Path(succeeded, nested)

    def _holds(self, compare: Compare) -> bool:
        if compare.WhichOneof("target") is None or compare.relation not in _INTEGER_RELATIONS:
            raise Refusal(ErrorCode.MALFORMED, "a compare has no target or an unknown relation")
        if not compare.range_end:
            return _compare(compare, self._versions.get(compare.key))
        empty = True
        for _, version in self._versions.scan(compare.key, compare.range_end):
            if self._budget.keys_left == 0:
                raise Refusal(ErrorCode.RANGE_TOO_LARGE, "the transaction compares too many keys")
            self._budget.keys_left -= 1
            empty = False
            if not _compare(compare, version):
                return False
        return _compare(compare, None) if empty else True


def _branch(txn: Txn, succeeded: bool) -> Sequence[Operation]:
    return txn.success if succeeded else txn.failure


def _compare(compare: Compare, version: bytes | None) -> bool:
    """Whether the relation holds for a key's version; an absent key has zeros and no value."""
    target = compare.WhichOneof("target")
    if target == "value":
        if version is None:
            return False
        return _VALUE_RELATIONS[compare.relation](value_of(version), compare.value)
    assert target is not None, "a compare has a target"
    present: int = 0
    if version is not None:
        present = VERSION.unpack_from(version)[_HEADER_FIELDS[target]]
    return _INTEGER_RELATIONS[compare.relation](present, getattr(compare, target))
