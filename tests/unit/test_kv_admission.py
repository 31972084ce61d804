"""What never enters the log, and under which name it is refused."""

import pytest

from kvorum_proto.command_pb2 import (
    Compact,
    Compare,
    Delete,
    DeleteRange,
    ErrorCode,
    Increment,
    Operation,
    Put,
    RaiseLevel,
    Range,
    SessionClose,
    SessionOpen,
    Submission,
    Txn,
)
from kvorum_server.config import Config
from kvorum_server.kv.admission import Admission

CONFIG = Config(
    key_bytes_max=8,
    value_bytes_max=100,
    request_bytes_max=104,
    transaction_operations_max=6,
    transaction_depth_max=2,
)
INVALID, LIMIT, MALFORMED = (
    ErrorCode.INVALID_REQUEST,
    ErrorCode.LIMIT_EXCEEDED,
    ErrorCode.MALFORMED,
)


def code(submission: Submission) -> ErrorCode | None:
    error = Admission(CONFIG).admit(submission)
    assert error is None or error.message, "every refusal says why"
    return None if error is None else error.code


def txn(*success: Operation) -> Submission:
    return Submission(txn=Txn(success=success))


def put(key: bytes) -> Operation:
    return Operation(put=Put(key=key))


@pytest.mark.parametrize(
    "submission",
    [
        Submission(put=Put(key=b"k" * 8, value=b"v" * 96)),
        Submission(session=1, sequence=1, put=Put(key=b"k", ignore_value=True)),
        Submission(delete=Delete(key=b"k")),
        Submission(delete_range=DeleteRange(key=b"", range_end=b"\x00")),
        Submission(increment=Increment(key=b"k", minimum=1, maximum=1)),
        Submission(compact=Compact(revision=1)),
        Submission(session_open=SessionOpen()),
        Submission(session_close=SessionClose(session=3)),
        txn(put(b"a"), Operation(txn=Txn(success=[put(b"b")], failure=[put(b"b")]))),
        txn(Operation(range=Range(key=b"a", range_end=b"b"))),
        txn(Operation(range=Range(key=b"a", revision=3))),
        Submission(txn=Txn(compares=[Compare(key=b"a", version=0)])),
        Submission(txn=Txn(success=[put(b"a")], failure=[put(b"a")])),
    ],
)
def test_what_is_within_the_limits_is_admitted(submission: Submission) -> None:
    assert code(submission) is None


@pytest.mark.parametrize(
    ("submission", "expected"),
    [
        (Submission(), MALFORMED),
        (Submission(raise_level=RaiseLevel(level=2)), INVALID),
        (Submission(session=1, put=Put(key=b"k")), INVALID),
        (Submission(put=Put(value=b"v")), INVALID),
        (Submission(put=Put(key=b"\x00k")), INVALID),
        (Submission(put=Put(key=b"k" * 9)), LIMIT),
        (Submission(put=Put(key=b"k", value=b"v" * 101)), LIMIT),
        (Submission(put=Put(key=b"k" * 8, value=b"v" * 97)), LIMIT),
        (Submission(put=Put(key=b"k", value=b"v", ignore_value=True)), INVALID),
        (Submission(put=Put(key=b"k", lease=1, ignore_lease=True)), INVALID),
        (Submission(delete=Delete()), INVALID),
        (Submission(delete=Delete(key=b"\x00")), INVALID),
        (Submission(delete_range=DeleteRange()), INVALID),
        (Submission(delete_range=DeleteRange(key=b"\x00k")), INVALID),
        (Submission(delete_range=DeleteRange(key=b"k", range_end=b"l" * 10)), LIMIT),
        (Submission(increment=Increment(key=b"k", minimum=2, maximum=1)), INVALID),
        (Submission(txn=Txn(compares=[Compare(key=b"a")])), MALFORMED),
        (Submission(txn=Txn(compares=[Compare(version=1)])), INVALID),
        (txn(Operation()), MALFORMED),
        (txn(Operation(put=Put())), INVALID),
        (txn(Operation(range=Range(key=b"a", range_end=b"b", revision=3))), INVALID),
        (txn(*(put(b"%d" % n) for n in range(7))), LIMIT),
        (txn(*[Operation(delete=Delete(key=b"k" * 8))] * 20), LIMIT),
    ],
)
def test_what_is_not_is_refused(submission: Submission, expected: ErrorCode) -> None:
    assert code(submission) == expected


def test_an_unknown_relation_is_malformed() -> None:
    compare = Compare.FromString(Compare(key=b"a", version=1).SerializeToString() + b"\x08\x09")
    assert code(Submission(txn=Txn(compares=[compare]))) == MALFORMED


def test_operations_are_counted_over_all_nested_branches() -> None:
    branches = Txn(success=[put(b"a"), put(b"b")], failure=[put(b"c"), put(b"d")])
    assert code(txn(Operation(txn=branches), put(b"e"))) is None
    assert code(txn(Operation(txn=branches), put(b"e"), put(b"f"))) == LIMIT


def test_transactions_nest_as_deep_as_the_limit() -> None:
    inner = Operation(txn=Txn(success=[put(b"a")]))
    assert code(txn(inner)) is None
    assert code(txn(Operation(txn=Txn(success=[inner])))) == LIMIT


@pytest.mark.parametrize(
    "operations",
    [
        [put(b"a"), put(b"a")],
        [put(b"a"), Operation(increment=Increment(key=b"a"))],
        [put(b"a"), Operation(delete=Delete(key=b"a"))],
        [Operation(delete_range=DeleteRange(key=b"a", range_end=b"c")), put(b"b")],
        [Operation(delete_range=DeleteRange(key=b"a", range_end=b"\x00")), put(b"z")],
        [Operation(txn=Txn(failure=[put(b"a")])), put(b"a")],
        [Operation(txn=Txn(success=[put(b"a")])), Operation(txn=Txn(failure=[put(b"a")]))],
        [Operation(txn=Txn(success=[Operation(delete=Delete(key=b"a"))])), put(b"a")],
    ],
)
def test_no_key_is_written_twice_on_any_path(operations: list[Operation]) -> None:
    assert code(txn(*operations)) == INVALID
    assert code(Submission(txn=Txn(failure=operations))) == INVALID


def test_deleting_twice_is_no_contradiction() -> None:
    delete = Operation(delete=Delete(key=b"a"))
    assert code(txn(delete, delete, put(b"b"))) is None
