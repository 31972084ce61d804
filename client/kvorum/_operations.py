"""What a txn is made of: operations, compares, ranges, and their wire forms.

Operations are values that a caller builds (``Put("a", "1")``) and this module turns into
messages. Compares are built by comparing a *field* of a key with a value: ``kv.version("a") ==
0``. To make that readable, the comparison operators of a field build a Compare instead of
answering True or False; a field therefore cannot be hashed or tested for truth.

A range is given as ``prefix``, or as ``start`` (included) and ``end`` (excluded), or as nothing
for all keys. On the wire it is [key, range_end); a range_end of one zero byte means "to the end".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union

from kvorum._errors import InvalidRequest
from kvorum._types import Bytes
from kvorum_proto import command_pb2 as wire

TO_THE_END = b"\x00"
"""The range_end that stands for the end of the key space."""

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def as_bytes(value: Bytes, name: str) -> bytes:
    """UTF-8 for str, the same for bytes; TypeError for the rest, numbers included.

    >>> as_bytes("é", "key")
    b'\\xc3\\xa9'
    """
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"{name} must be str or bytes, not {type(value).__name__}; convert it first")


def as_int64(value: int, name: str) -> int:
    """The number, when it fits into 64 bits with a sign; LimitExceeded is for the cluster to
    say."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    if not INT64_MIN <= value <= INT64_MAX:
        raise InvalidRequest(f"{name} is {value}; it must fit into a signed 64-bit integer")
    return value


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys with a prefix.

    >>> prefix_end(b"user/"), prefix_end(b"a\\xff"), prefix_end(b"\\xff")
    (b'user0', b'b', b'\\x00')
    """
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return TO_THE_END
    return stem[:-1] + bytes((stem[-1] + 1,))


def range_of(start: Bytes | None, end: Bytes | None, prefix: Bytes | None) -> tuple[bytes, bytes]:
    """(key, range_end) of the wire for the three ways to name a range.

    >>> range_of(None, None, "user/"), range_of("a", "c", None), range_of(None, None, None)
    ((b'user/', b'user0'), (b'a', b'c'), (b'\\x00', b'\\x00'))
    """
    if prefix is not None:
        if start is not None or end is not None:
            raise InvalidRequest("give either prefix or start and end, not both")
        stem = as_bytes(prefix, "prefix")
        return stem or TO_THE_END, prefix_end(stem)
    first = as_bytes(start, "start") if start is not None else b""
    last = as_bytes(end, "end") if end is not None else TO_THE_END
    if end is not None and not last:
        raise InvalidRequest("end is empty; leave it out to reach the end of the key space")
    return first or TO_THE_END, last


# --- Operations ---


@dataclass(frozen=True, slots=True)
class Put:
    """Stores a value; answers PutResult."""

    key: Bytes
    value: Bytes
    previous: bool = False


@dataclass(frozen=True, slots=True)
class Get:
    """Reads one key; answers Item, or None when it is absent."""

    key: Bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes one key; answers DeleteResult."""

    key: Bytes
    previous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRange:
    """Deletes a range, whole or not at all; answers DeleteRangeResult."""

    start: Bytes | None = None
    end: Bytes | None = None
    prefix: Bytes | None = None
    previous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Reads a range, one page of it; answers ScanResult."""

    start: Bytes | None = None
    end: Bytes | None = None
    prefix: Bytes | None = None
    limit: int = 0
    reverse: bool = False
    keys_only: bool = False
    count_only: bool = False


@dataclass(frozen=True, slots=True)
class Increment:
    """Adds to the decimal integer under a key (absent = 0); answers the sum."""

    key: Bytes
    by: int = 1
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Txn:
    """A txn inside a txn; answers TxnResult."""

    when: Sequence["Compare"] = ()
    then: Sequence["Operation"] = ()
    otherwise: Sequence["Operation"] = ()


Operation: TypeAlias = Union[Put, Get, Delete, DeleteRange, Scan, Increment, "Txn"]
"""What a branch of a txn may hold."""


# --- Compares ---


class Compare:
    """One condition of a txn. Make it with ``kv.value(key) == ...`` and the like."""

    __slots__ = ("message",)

    def __init__(self, message: wire.Compare) -> None:
        self.message = message

    def __repr__(self) -> str:
        return f"<Compare {self.message!s}>".replace("\n", " ")

    def __bool__(self) -> bool:
        raise TypeError("a Compare is judged by the cluster: pass it in txn(when=[...])")


class Field:
    """A field of a key, or of every key of [key, end), waiting to be compared.

    >>> isinstance(Field("version", "a") == 0, Compare)
    True
    """

    __slots__ = ("_end", "_key", "_name")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, name: str, key: Bytes, end: Bytes | None = None) -> None:
        self._name = name
        self._key = as_bytes(key, "key")
        self._end = as_bytes(end, "end") if end is not None else b""

    def __eq__(self, other: object) -> Compare:  # type: ignore[override]
        return self._compare(wire.Compare.EQUAL, other)

    def __ne__(self, other: object) -> Compare:  # type: ignore[override]
        return self._compare(wire.Compare.NOT_EQUAL, other)

    def __lt__(self, other: Bytes | int) -> Compare:
        return self._compare(wire.Compare.LESS, other)

    def __gt__(self, other: Bytes | int) -> Compare:
        return self._compare(wire.Compare.GREATER, other)

    def __bool__(self) -> bool:
        raise TypeError(f'compare it first: kv.{self._name}(key) == "..."')

    def _compare(self, relation: wire.Compare.Relation, other: object) -> Compare:
        message = wire.Compare(relation=relation, key=self._key, range_end=self._end)
        if self._name == "value":
            if not isinstance(other, (str, bytes)):
                raise TypeError(
                    f"a value is compared with str or bytes, not {type(other).__name__}"
                )
            message.value = as_bytes(other, "value")
        else:
            if not isinstance(other, int):
                raise TypeError(f"{self._name} is compared with int, not {type(other).__name__}")
            setattr(message, self._name, as_int64(other, self._name))
        return Compare(message)


# --- Wire forms ---


def write_increment(target: wire.Increment, operation: Increment) -> None:
    """Fills an Increment message."""
    target.key = as_bytes(operation.key, "key")
    target.by = as_int64(operation.by, "by")
    if operation.minimum is not None:
        target.minimum = as_int64(operation.minimum, "minimum")
    if operation.maximum is not None:
        target.maximum = as_int64(operation.maximum, "maximum")


def write_operation(target: wire.Operation, operation: Operation) -> None:
    """Fills an Operation message from a value."""
    match operation:
        case Put():
            target.put.key = as_bytes(operation.key, "key")
            target.put.value = as_bytes(operation.value, "value")
            target.put.previous = operation.previous
        case Get():
            target.range.key = as_bytes(operation.key, "key")
        case Delete():
            target.delete.key = as_bytes(operation.key, "key")
            target.delete.previous = operation.previous
        case DeleteRange():
            key, end = range_of(operation.start, operation.end, operation.prefix)
            target.delete_range.key, target.delete_range.range_end = key, end
            target.delete_range.previous = operation.previous
            target.delete_range.atomic = True
        case Scan():
            key, end = range_of(operation.start, operation.end, operation.prefix)
            target.range.key, target.range.range_end = key, end
            target.range.limit = operation.limit
            target.range.reverse = operation.reverse
            target.range.keys_only = operation.keys_only
            target.range.count_only = operation.count_only
        case Increment():
            write_increment(target.increment, operation)
        case Txn():
            target.txn.SetInParent()
            write_txn(target.txn, operation)
        case _:
            raise TypeError(
                f"a txn holds Put, Get, Delete, DeleteRange, Scan, Increment and Txn, "
                f"not {type(operation).__name__}"
            )


def write_txn(target: wire.Txn, txn: Txn) -> None:
    """Fills a Txn message from a value."""
    for compare in txn.when:
        if not isinstance(compare, Compare):
            raise TypeError(f"when holds compares such as kv.version(key) == 0, not {compare!r}")
        target.compares.append(compare.message)
    for operation in txn.then:
        write_operation(target.success.add(), operation)
    for operation in txn.otherwise:
        write_operation(target.failure.add(), operation)


def keys_of(txn: wire.Txn) -> set[bytes]:
    """Every key that a Txn message names; ranges count with their first key."""
    keys = {compare.key for compare in txn.compares}
    for operation in (*txn.success, *txn.failure):
        kind = operation.WhichOneof("operation")
        if kind == "txn":
            keys |= keys_of(operation.txn)
        elif kind is not None:
            keys.add(getattr(operation, kind).key)
    return keys


def has_range(txn: wire.Txn) -> bool:
    """Whether a Txn message names a range anywhere."""
    if any(compare.range_end for compare in txn.compares):
        return True
    for operation in (*txn.success, *txn.failure):
        match operation.WhichOneof("operation"):
            case "txn" if has_range(operation.txn):
                return True
            case "range" if operation.range.range_end:
                return True
            case "delete_range":
                return True
            case _:
                continue
    return False
