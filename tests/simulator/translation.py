"""Between the model's operations and the protocol's messages.

The simulator's clients think in operations of ``model.py`` and speak ``command.proto``, as any
client would. An answer may be shorter than what was asked (a page of a scan): then the operation
that really ran is the shorter one, and that is what the history records.
"""

from dataclasses import replace
from typing import assert_never

from kvorum_proto import command_pb2
from tests.simulator.model import (
    Decided,
    Delete,
    Deleted,
    DeleteRange,
    Found,
    Get,
    Increment,
    Incremented,
    Item,
    Operation,
    Outcome,
    Put,
    Refused,
    Scan,
    Transaction,
    Written,
)


class UnexpectedAnswer(AssertionError):
    """A node answered something that the protocol does not allow as an answer to the question."""


def query_of(operation: Get | Scan) -> command_pb2.Query:
    """The wire form of a read."""
    if isinstance(operation, Get):
        return command_pb2.Query(get=command_pb2.Get(key=operation.key))
    return command_pb2.Query(range=_range_of(operation))


def submission_of(operation: Operation) -> command_pb2.Submission:
    """The wire form of a write; session and sequence are still to be filled in."""
    match operation:
        case Put():
            return command_pb2.Submission(put=_put_of(operation))
        case Delete(key):
            return command_pb2.Submission(delete=command_pb2.Delete(key=key))
        case DeleteRange(start, end):
            body = command_pb2.DeleteRange(key=start, range_end=end)
            return command_pb2.Submission(delete_range=body)
        case Increment(key, by):
            return command_pb2.Submission(increment=command_pb2.Increment(key=key, by=by))
        case Transaction():
            return command_pb2.Submission(txn=_txn_of(operation))
        case Get() | Scan():
            raise ValueError(f"{operation} is a read")
        case _:
            assert_never(operation)


def _put_of(put: Put) -> command_pb2.Put:
    return command_pb2.Put(key=put.key, value=put.value)


def _range_of(scan: Scan) -> command_pb2.Range:
    return command_pb2.Range(key=scan.start, range_end=scan.end)


def _txn_of(transaction: Transaction) -> command_pb2.Txn:
    return command_pb2.Txn(
        compares=[_compare_of(key, value) for key, value in transaction.expected],
        success=[_operation_of(part) for part in transaction.success],
        failure=[_operation_of(part) for part in transaction.failure],
    )


def _compare_of(key: bytes, value: bytes | None) -> command_pb2.Compare:
    if value is None:
        return command_pb2.Compare(key=key, version=0)
    return command_pb2.Compare(key=key, value=value)


def _operation_of(part: Put | Delete | Scan) -> command_pb2.Operation:
    match part:
        case Put():
            return command_pb2.Operation(put=_put_of(part))
        case Delete(key):
            return command_pb2.Operation(delete=command_pb2.Delete(key=key))
        case Scan():
            return command_pb2.Operation(range=_range_of(part))
        case _:
            assert_never(part)


def outcome_of(operation: Operation, result: command_pb2.Result) -> tuple[Operation, Outcome]:
    """What really ran, and what came of it."""
    arm = result.WhichOneof("result")
    match operation, arm:
        case _, "error":
            return operation, Refused(result.error.code)
        case Put(), "put":
            return operation, Written(result.put.revision)
        case Delete(), "delete":
            return operation, Deleted(result.delete.revision, int(result.delete.deleted))
        case DeleteRange(), "delete_range":
            answer = result.delete_range
            return operation, Deleted(answer.revision, answer.deleted)
        case Increment(), "increment":
            return operation, Incremented(result.increment.revision, result.increment.value)
        case Get(), "get":
            items = (result.get.item,) if result.get.HasField("item") else ()
            return operation, Found(result.get.revision, tuple(map(_item, items)))
        case Scan(), "range":
            end = result.range.next_key or operation.end
            items_found = tuple(map(_item, result.range.items))
            return Scan(operation.start, end), Found(result.range.revision, items_found)
        case Transaction(), "txn":
            return _transaction_outcome(operation, result.txn)
        case _:
            raise UnexpectedAnswer(f"{operation} was answered {result}")


def _transaction_outcome(
    transaction: Transaction, answer: command_pb2.TxnResult
) -> tuple[Operation, Outcome]:
    branch = transaction.success if answer.succeeded else transaction.failure
    if len(branch) != len(answer.results):
        raise UnexpectedAnswer(f"{transaction} was answered {answer}")
    pairs = [outcome_of(part, result) for part, result in zip(branch, answer.results, strict=True)]
    ran = tuple(part for part, _ in pairs if isinstance(part, Put | Delete | Scan))
    outcomes = tuple(
        outcome if isinstance(outcome, Refused) else replace(outcome, revision=0)
        for _, outcome in pairs
    )
    decided = Decided(answer.revision, answer.succeeded, outcomes)
    if answer.succeeded:
        return replace(transaction, success=ran), decided
    return replace(transaction, failure=ran), decided


def _item(item: command_pb2.Item) -> Item:
    return Item(item.key, item.value, item.create_revision, item.mod_revision, item.version)
