"""From Result messages to the values of ``_types``.

A :class:`Decoder` names the arm of the Result that a request must be answered with, and turns it
into a value. An answer with another arm (errors aside) means that client and node do not speak
the same protocol, and ends the stream.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from kvorum._operations import Get, Operation, Txn
from kvorum._types import (
    DeleteRangeResult,
    DeleteResult,
    ExpectedMember,
    GroupMembers,
    Item,
    Member,
    Membership,
    OperationResult,
    PutResult,
    ScanResult,
    TxnResult,
)
from kvorum_proto import command_pb2 as wire

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Decoder(Generic[T_co]):
    """The arm that the answer must have, and what it means."""

    arm: str
    decode: Callable[[wire.Result], T_co]


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """The answer to SessionOpen."""

    session: int
    idle_ms: int
    window: int


def item_of(message: wire.Item) -> Item:
    """An Item from its message."""
    return Item(
        message.key,
        message.value,
        message.create_revision,
        message.mod_revision,
        message.version,
        message.lease,
    )


def _put(result: wire.Result) -> PutResult:
    message = result.put
    if message.HasField("previous"):
        return PutResult(message.revision, item_of(message.previous))
    return PutResult(message.revision)


def _get(result: wire.Result) -> Item | None:
    message = result.get
    return item_of(message.item) if message.HasField("item") else None


def _delete(result: wire.Result) -> DeleteResult:
    message = result.delete
    previous = item_of(message.previous) if message.HasField("previous") else None
    return DeleteResult(message.revision, message.deleted, previous)


def _range(result: wire.Result) -> ScanResult:
    message = result.range
    items = tuple(map(item_of, message.items))
    return ScanResult(message.revision, items, message.count, message.next_key)


def _members(result: wire.Result) -> tuple[Member, ...]:
    return tuple(
        Member(
            member.identity,
            member.name,
            member.address,
            member.supported_level,
            learner=member.learner,
            leaving=bool(member.leaving_since),
        )
        for member in sorted(result.members.members, key=lambda member: member.name)
    )


def _membership(result: wire.Result) -> Membership:
    message = result.members
    names = {member.identity: member.name for member in message.members}
    reports = {report.group: report for report in message.reports}
    return Membership(
        members=_members(result),
        expected=tuple(
            ExpectedMember(one.name, one.address, one.learner, names.get(one.replaces, ""))
            for one in message.expected
        ),
        groups=tuple(
            _group_members(placement, reports.get(placement.group), names)
            for placement in message.placements
        ),
    )


def _group_members(
    placement: wire.Placement, report: wire.GroupReport | None, names: dict[int, str]
) -> GroupMembers:
    """A group that never changed may have reported nothing yet: it is as it was born."""
    voters = {seat.identity for seat in placement.seats if seat.voter}
    learners = {seat.identity for seat in placement.seats if not seat.voter}
    if report is None:
        settled = placement.version == 0
    else:
        settled = set(report.voters) == voters and set(report.learners) == learners
    return GroupMembers(
        placement.group,
        tuple(sorted(names[voter] for voter in voters)),
        tuple(sorted(names[learner] for learner in learners)),
        settled,
    )


def _opened(result: wire.Result) -> OpenedSession:
    message = result.session_open
    return OpenedSession(message.session, message.idle_ms, message.window)


PUT = Decoder("put", _put)
GET = Decoder("get", _get)
DELETE = Decoder("delete", _delete)
DELETE_RANGE: Decoder[wire.DeleteRangeResult] = Decoder(
    "delete_range", lambda result: result.delete_range
)
INCREMENT: Decoder[int] = Decoder("increment", lambda result: result.increment.value)
RANGE = Decoder("range", _range)
TXN: Decoder[wire.TxnResult] = Decoder("txn", lambda result: result.txn)
COMPACT: Decoder[int] = Decoder("compact", lambda result: result.compact.revision)
MEMBERS = Decoder("members", _members)
MEMBERSHIP = Decoder("members", _membership)
DONE: Decoder[None] = Decoder("done", lambda result: None)
SESSION_OPEN = Decoder("session_open", _opened)
SESSION_CLOSE: Decoder[None] = Decoder("session_close", lambda result: None)


def deleted_range(message: wire.DeleteRangeResult) -> DeleteRangeResult:
    """One command's part of a delete_range."""
    return DeleteRangeResult(
        message.revision, message.deleted, tuple(map(item_of, message.previous))
    )


def txn_result(message: wire.TxnResult, txn: Txn) -> TxnResult:
    """A txn's answer; the txn says what each result was asked as."""
    branch = txn.then if message.succeeded else txn.otherwise
    return TxnResult(message.succeeded, message.revision, _results(message.results, branch))


def _results(
    results: Sequence[wire.Result], operations: Sequence[Operation]
) -> tuple[OperationResult, ...]:
    return tuple(map(_operation_result, results, operations))


def _operation_result(result: wire.Result, operation: Operation) -> OperationResult:
    match result.WhichOneof("result"):
        case "put":
            return _put(result)
        case "delete":
            return _delete(result)
        case "delete_range":
            return deleted_range(result.delete_range)
        case "increment":
            return result.increment.value
        case "range":
            page = _range(result)
            if isinstance(operation, Get):
                return page.items[0] if page.items else None
            return page
        case "txn":
            assert isinstance(operation, Txn), "a txn answers a txn"
            return txn_result(result.txn, operation)
        case _:
            return None
