"""Between the model's operations and the protocol's messages, both ways.

The simulator's clients think in operations of ``model.py`` and speak ``command.proto``, as any
client would; what they sent is found again in the log, and what the SDK sends by itself (the pages
of a scan, the steps of a long deletion) is read from its messages. An answer may be shorter than
what was asked (a page of a scan): then the operation that really ran is the shorter one, and that
is what the history records.
"""

from dataclasses import replace
from typing import assert_never

from kvorum_proto import command_pb2
from tests.simulator.model import (
    INT64_MAX,
    INT64_MIN,
    Compact,
    Condition,
    Decided,
    Delete,
    Deleted,
    DeleteRange,
    Forgotten,
    Found,
    Get,
    Increment,
    Incremented,
    Item,
    Operation,
    Outcome,
    Part,
    Put,
    Refused,
    Scan,
    Transaction,
    Written,
)

TO_THE_END = b"\x00"
"""The range_end that stands for the end of the key space."""

AFTER_ALL_KEYS = b"\xff" * 8
"""The same as a key: no key of a simulation comes after it."""


class UnexpectedAnswer(AssertionError):
    """A node answered something that the protocol does not allow as an answer to the question."""


# --- To messages ---


def query_of(operation: Get | Scan) -> command_pb2.Query:
    """The wire form of a read."""
    if isinstance(operation, Get):
        get = command_pb2.Get(key=operation.key, revision=operation.revision)
        return command_pb2.Query(get=get)
    return command_pb2.Query(range=_range_of(operation))


def submission_of(operation: Operation) -> command_pb2.Submission:
    """The wire form of a write; session and sequence are still to be filled in."""
    match operation:
        case Put():
            return command_pb2.Submission(put=_put_of(operation))
        case Delete(key):
            return command_pb2.Submission(delete=command_pb2.Delete(key=key))
        case DeleteRange():
            return command_pb2.Submission(delete_range=_delete_range_of(operation))
        case Increment():
            return command_pb2.Submission(increment=_increment_of(operation))
        case Compact(revision):
            return command_pb2.Submission(compact=command_pb2.Compact(revision=revision))
        case Transaction():
            return command_pb2.Submission(txn=_txn_of(operation))
        case Get() | Scan():
            raise ValueError(f"{operation} is a read")
        case _:
            assert_never(operation)


def _put_of(put: Put) -> command_pb2.Put:
    return command_pb2.Put(key=put.key, value=put.value)


def _range_of(scan: Scan) -> command_pb2.Range:
    return command_pb2.Range(key=scan.start, range_end=scan.end, revision=scan.revision)


def _delete_range_of(delete: DeleteRange) -> command_pb2.DeleteRange:
    return command_pb2.DeleteRange(key=delete.start, range_end=delete.end)


def _increment_of(increment: Increment) -> command_pb2.Increment:
    message = command_pb2.Increment(key=increment.key, by=increment.by)
    if increment.minimum != INT64_MIN:
        message.minimum = increment.minimum
    if increment.maximum != INT64_MAX:
        message.maximum = increment.maximum
    return message


def _txn_of(transaction: Transaction) -> command_pb2.Txn:
    return command_pb2.Txn(
        compares=[_compare_of(*condition) for condition in transaction.expected],
        success=[_operation_of(part) for part in transaction.success],
        failure=[_operation_of(part) for part in transaction.failure],
    )


def _compare_of(key: bytes, expected: bytes | int | None) -> command_pb2.Compare:
    match expected:
        case None:
            return command_pb2.Compare(key=key, version=0)
        case int():
            return command_pb2.Compare(key=key, mod_revision=expected)
        case bytes():
            return command_pb2.Compare(key=key, value=expected)


def _operation_of(part: Part) -> command_pb2.Operation:
    match part:
        case Put():
            return command_pb2.Operation(put=_put_of(part))
        case Delete(key):
            return command_pb2.Operation(delete=command_pb2.Delete(key=key))
        case Increment():
            return command_pb2.Operation(increment=_increment_of(part))
        case DeleteRange():
            return command_pb2.Operation(delete_range=_delete_range_of(part))
        case Scan():
            return command_pb2.Operation(range=_range_of(part))
        case Transaction():
            return command_pb2.Operation(txn=_txn_of(part))
        case _:
            assert_never(part)


# --- From messages ---


def operation_of_query(query: command_pb2.Query) -> Get | Scan:
    """The read that a message asks for; a limit shows in the answer only."""
    if query.WhichOneof("query") == "get":
        return Get(query.get.key, query.get.revision)
    return _scan_from(query.range)


def operation_of_submission(
    submission: command_pb2.Submission, range_keys_max: int
) -> Operation | None:
    """The command that a client asks for; None: no client's operation, but about sessions or
    upkeep."""
    match submission.WhichOneof("command"):
        case "put":
            return Put(submission.put.key, submission.put.value)
        case "delete":
            return Delete(submission.delete.key)
        case "delete_range":
            return _delete_range_from(submission.delete_range, range_keys_max)
        case "increment":
            return _increment_from(submission.increment)
        case "compact":
            return Compact(submission.compact.revision)
        case "txn":
            return _transaction_from(submission.txn, range_keys_max)
        case _:
            return None


def _scan_from(message: command_pb2.Range) -> Scan:
    return Scan(message.key, _end(message.key, message.range_end), message.revision)


def _end(key: bytes, range_end: bytes) -> bytes:
    if not range_end:
        return key + b"\0"
    return AFTER_ALL_KEYS if range_end == TO_THE_END else range_end


def _delete_range_from(message: command_pb2.DeleteRange, limit: int) -> DeleteRange:
    return DeleteRange(message.key, _end(message.key, message.range_end), limit)


def _increment_from(message: command_pb2.Increment) -> Increment:
    return Increment(
        message.key,
        message.by,
        message.minimum if message.HasField("minimum") else INT64_MIN,
        message.maximum if message.HasField("maximum") else INT64_MAX,
    )


def _transaction_from(message: command_pb2.Txn, limit: int) -> Transaction:
    return Transaction(
        tuple(_condition_from(compare) for compare in message.compares),
        tuple(_part_from(part, limit) for part in message.success),
        tuple(_part_from(part, limit) for part in message.failure),
    )


def _condition_from(message: command_pb2.Compare) -> Condition:
    match message.WhichOneof("target"):
        case "value":
            return message.key, message.value
        case "mod_revision":
            return message.key, message.mod_revision
        case _:
            return message.key, None


def _part_from(message: command_pb2.Operation, limit: int) -> Part:
    match message.WhichOneof("operation"):
        case "put":
            return Put(message.put.key, message.put.value)
        case "delete":
            return Delete(message.delete.key)
        case "increment":
            return _increment_from(message.increment)
        case "delete_range":
            return _delete_range_from(message.delete_range, limit)
        case "range":
            return _scan_from(message.range)
        case "txn":
            return _transaction_from(message.txn, limit)
        case arm:
            raise ValueError(f"no simulated client sends {arm} in a transaction")


# --- Answers ---


def outcome_of(
    operation: Operation, result: command_pb2.Result, *, reverse: bool = False
) -> tuple[Operation, Outcome]:
    """What really ran, and what came of it. ``reverse``: the scan went backwards."""
    arm = result.WhichOneof("result")
    match operation, arm:
        case _, "error":
            return operation, Refused(result.error.code)
        case Put(), "put":
            return operation, Written(result.put.revision)
        case Delete(), "delete":
            return operation, Deleted(result.delete.revision, int(result.delete.deleted))
        case DeleteRange(start, end, limit), "delete_range":
            answer = result.delete_range
            ran = DeleteRange(start, answer.next_key or end, limit)
            return ran, Deleted(answer.revision, answer.deleted)
        case Increment(), "increment":
            return operation, Incremented(result.increment.revision, result.increment.value)
        case Compact(), "compact":
            return operation, Forgotten(result.compact.revision)
        case Get(), "get":
            items = (result.get.item,) if result.get.HasField("item") else ()
            return operation, Found(result.get.revision, tuple(map(_item, items)))
        case Scan(), "range":
            return _scan_outcome(operation, result.range, reverse)
        case Transaction(), "txn":
            return _transaction_outcome(operation, result.txn)
        case _:
            raise UnexpectedAnswer(f"{operation} was answered {result}")


def _scan_outcome(
    scan: Scan, answer: command_pb2.RangeResult, reverse: bool
) -> tuple[Operation, Outcome]:
    items = tuple(map(_item, answer.items))
    if reverse:
        start = answer.next_key + b"\0" if answer.next_key else scan.start
        return replace(scan, start=start), Found(answer.revision, items[::-1])
    return replace(scan, end=answer.next_key or scan.end), Found(answer.revision, items)


def _transaction_outcome(
    transaction: Transaction, answer: command_pb2.TxnResult
) -> tuple[Transaction, Decided]:
    branch = transaction.success if answer.succeeded else transaction.failure
    if len(branch) != len(answer.results):
        raise UnexpectedAnswer(f"{transaction} was answered {answer}")
    ran: list[Part] = []
    outcomes: list[Outcome] = []
    for part, result in zip(branch, answer.results, strict=True):
        did, outcome = outcome_of(part, result)
        if isinstance(outcome, Refused) or isinstance(did, Get | Compact):
            raise UnexpectedAnswer(f"{part} inside a transaction was answered {result}")
        ran.append(did)
        outcomes.append(replace(outcome, revision=0))
    decided = Decided(answer.revision, answer.succeeded, tuple(outcomes))
    if answer.succeeded:
        return replace(transaction, success=tuple(ran)), decided
    return replace(transaction, failure=tuple(ran)), decided


def _item(item: command_pb2.Item) -> Item:
    return Item(item.key, item.value, item.create_revision, item.mod_revision, item.version)
