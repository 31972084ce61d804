"""What never enters the log.

The leader looks at every submission before it appends it: a command that breaks a limit, names a
reserved key or contradicts itself is refused here, with a typed error, and costs no entry. The
verdict is a function of the submission and Config alone, so it can be given again anywhere. What it
guarantees, apply does not check again; but apply stays deterministic for whatever it is given.

Keys that begin with a zero byte are reserved for the system; a *range* may still begin there, so
that "everything from the first key" can be said. The rule against writing a key twice is etcd's:
within the operations that one branch of a transaction may run, nested transactions with both their
branches included, no key is put twice and none is both put and deleted. An increment is a put.
"""

from collections.abc import Callable, Iterable
from typing import Any

from kvorum_proto.command_pb2 import (
    Compare,
    Delete,
    DeleteRange,
    Error,
    ErrorCode,
    Increment,
    Operation,
    Put,
    Range,
    Submission,
    Txn,
)
from kvorum_server.config import Config
from kvorum_server.kv.refusal import Refusal
from kvorum_server.state_machine import CATALOG_COMMANDS

RESERVED = b"\x00"


class Admission:
    """The limits of one node, ready to be applied.

    >>> admission = Admission(Config())
    >>> admission.admit(Submission(put=Put(key=b"greeting", value=b"hello"))) is None
    True
    >>> admission.admit(Submission(put=Put(value=b"hello"))).message
    'the key is empty'
    """

    __slots__ = ("_checks", "_config")

    def __init__(self, config: Config) -> None:
        self._config = config
        self._checks: dict[str, Callable[[Any], None]] = {
            "put": self._put,
            "delete": self._delete,
            "delete_range": self._delete_range,
            "txn": self._txn,
            "increment": self._increment,
            "compact": _anything,
            "hash_state": _anything,
            "session_open": _anything,
            "session_close": _anything,
        }

    def admit(self, submission: Submission) -> Error | None:
        """Why this must not be logged; None: it may."""
        arm = submission.WhichOneof("command")
        check = self._checks.get(arm) if arm is not None else None
        try:
            if check is None:
                _refuse_arm(arm)
            else:
                check(getattr(submission, arm))
        except Refusal as refusal:
            return refusal.error
        if submission.session and not submission.sequence:
            return _invalid("sequences of a session start at 1").error
        return None

    # --- One method for each command ---

    def _put(self, put: Put) -> None:
        key, value = put.key, put.value
        self._key(key)
        _at_most(self._config.value_bytes_max, "value_bytes_max", len(value), "bytes of value")
        self._request(len(key) + len(value))
        if put.ignore_value and value:
            raise _invalid("ignore_value keeps the present value: give none")
        if put.ignore_lease and put.lease:
            raise _invalid("ignore_lease keeps the present lease: give none")

    def _delete(self, delete: Delete) -> None:
        self._key(delete.key)

    def _delete_range(self, delete: DeleteRange) -> None:
        self._range(delete.key, delete.range_end)
        if not delete.range_end and delete.key.startswith(RESERVED):
            raise _invalid("keys that begin with a zero byte are reserved")

    def _increment(self, increment: Increment) -> None:
        self._key(increment.key)
        bounded = increment.HasField("minimum") and increment.HasField("maximum")
        if bounded and increment.minimum > increment.maximum:
            raise _invalid("the minimum is greater than the maximum")

    def _txn(self, txn: Txn) -> None:
        self._request(txn.ByteSize())
        self._count(txn, 0, depth=1)
        _written(txn.success)
        _written(txn.failure)

    def _count(self, txn: Txn, count: int, *, depth: int) -> int:
        """Checks every operation and compare; how many there are now."""
        config = self._config
        _at_most(config.transaction_depth_max, "transaction_depth_max", depth, "nested levels")
        count += len(txn.compares) + len(txn.success) + len(txn.failure)
        _at_most(
            config.transaction_operations_max,
            "transaction_operations_max",
            count,
            "operations and compares",
        )
        for compare in txn.compares:
            self._compare(compare)
        for branch in (txn.success, txn.failure):
            for operation in branch:
                if operation.HasField("txn"):
                    count = self._count(operation.txn, count, depth=depth + 1)
                else:
                    self._operation(operation)
        return count

    def _compare(self, compare: Compare) -> None:
        self._range(compare.key, compare.range_end)
        if compare.WhichOneof("target") is None:
            raise Refusal(ErrorCode.MALFORMED, "a compare names nothing to compare")
        if compare.relation not in Compare.Relation.values():
            raise Refusal(ErrorCode.MALFORMED, f"unknown relation {compare.relation}")

    def _operation(self, operation: Operation) -> None:
        match operation.WhichOneof("operation"):
            case "put":
                self._put(operation.put)
            case "delete":
                self._delete(operation.delete)
            case "delete_range":
                self._delete_range(operation.delete_range)
            case "increment":
                self._increment(operation.increment)
            case "range":
                self._transaction_range(operation.range)
            case _:
                raise Refusal(ErrorCode.MALFORMED, "an operation of the transaction is empty")

    def _transaction_range(self, query: Range) -> None:
        self._range(query.key, query.range_end)
        if query.revision and query.range_end:
            raise _invalid("a transaction reads the past key by key; read the range with a query")

    # --- Shared ---

    def _key(self, key: bytes) -> None:
        if not key:
            raise _invalid("the key is empty")
        if key.startswith(RESERVED):
            raise _invalid("keys that begin with a zero byte are reserved")
        _at_most(self._config.key_bytes_max, "key_bytes_max", len(key), "bytes of key")

    def _range(self, key: bytes, range_end: bytes) -> None:
        """Both ends have the size of a key, or of the zero byte above one."""
        if not key and not range_end:
            raise _invalid("the key is empty")
        longest = max(len(key), len(range_end)) - 1
        _at_most(self._config.key_bytes_max, "key_bytes_max", longest, "bytes of key")

    def _request(self, size: int) -> None:
        limit = self._config.request_bytes_max
        _at_most(limit, "request_bytes_max", size, "bytes of request")


def _anything(_: object) -> None:
    """Commands that nothing can be wrong with."""


def _refuse_arm(arm: str | None) -> None:
    if arm in CATALOG_COMMANDS:
        raise _invalid(f"{arm} is a command of the catalog (group 0)")
    raise Refusal(ErrorCode.MALFORMED, "the submission has no command that this node knows")


def _invalid(message: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, message)


def _at_most(limit: int, option: str, found: int, what: str) -> None:
    if found > limit:
        raise Refusal(ErrorCode.LIMIT_EXCEEDED, f"{found} {what} exceed {option} ({limit})")


# --- No key is written twice ---

_Ranges = list[tuple[bytes, bytes]]


def _written(branch: Iterable[Operation]) -> tuple[set[bytes], _Ranges]:
    """Keys that a branch may put and ranges it may delete; refuses what meets itself."""
    deleted: _Ranges = []
    for operation in branch:
        if operation.HasField("delete"):
            deleted.append((operation.delete.key, b""))
        elif operation.HasField("delete_range"):
            deleted.append((operation.delete_range.key, operation.delete_range.range_end))
    put: set[bytes] = set()
    for operation in branch:
        if not operation.HasField("txn"):
            continue
        keys_then, ranges_then = _written(operation.txn.success)
        keys_else, ranges_else = _written(operation.txn.failure)
        for key in keys_then | keys_else:
            _add(put, key, deleted)
        deleted += ranges_then + ranges_else
    for operation in branch:
        if operation.HasField("put"):
            _add(put, operation.put.key, deleted)
        elif operation.HasField("increment"):
            _add(put, operation.increment.key, deleted)
    return put, deleted


def _add(put: set[bytes], key: bytes, deleted: _Ranges) -> None:
    if key in put or any(_contains(start, end, key) for start, end in deleted):
        raise _invalid("the transaction writes a key twice")
    put.add(key)


def _contains(start: bytes, range_end: bytes, key: bytes) -> bool:
    if not range_end:
        return key == start
    return start <= key and (range_end == b"\x00" or key < range_end)
