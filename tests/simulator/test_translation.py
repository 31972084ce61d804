"""What a client sends is what the log is read as: every operation there and back again."""

import random

import pytest

from kvorum_proto.command_pb2 import Compact as CompactMessage
from kvorum_proto.command_pb2 import (
    Item,
    RangeResult,
    Result,
    SessionOpen,
    Submission,
)
from tests.simulator.model import Compact, DeleteRange, Found, Get, Put, Scan, Transaction
from tests.simulator.options import draw_options
from tests.simulator.translation import (
    AFTER_ALL_KEYS,
    UnexpectedAnswer,
    operation_of_query,
    operation_of_submission,
    outcome_of,
    query_of,
    submission_of,
)
from tests.simulator.workload import MANY_KEY_WRITES, SINGLE_KEY_WRITES, Workload


@pytest.mark.parametrize("seed", range(10))
def test_everything_that_the_workload_asks_for_survives_the_wire(seed: int) -> None:
    options = draw_options(seed)
    workload = Workload(options, random.Random(seed))
    limit = options.config.range_keys_max
    for number in range(200):
        operation, _ = workload.choose(0.3)
        workload.heard(number)
        if isinstance(operation, Get | Scan):
            assert operation_of_query(query_of(operation)) == operation
        else:
            assert operation_of_submission(submission_of(operation), limit) == operation


def test_what_is_no_operation_of_a_client_is_left_alone() -> None:
    assert operation_of_submission(Submission(session_open=SessionOpen()), 9) is None
    compact = Submission(compact=CompactMessage(revision=4))
    assert operation_of_submission(compact, 9) == Compact(4)


def test_a_page_forwards_ends_before_its_next_key() -> None:
    page = Result(range=RangeResult(revision=7, items=[Item(key=b"a")], next_key=b"c"))
    ran, outcome = outcome_of(Scan(b"a", b"z"), page)
    assert ran == Scan(b"a", b"c")
    assert isinstance(outcome, Found)


def test_a_page_backwards_begins_after_its_next_key() -> None:
    page = Result(range=RangeResult(revision=7, items=[Item(key=b"c"), Item(key=b"b")]))
    page.range.next_key = b"a"
    ran, outcome = outcome_of(Scan(b"a", b"z"), page, reverse=True)
    assert ran == Scan(b"a\0", b"z")
    assert isinstance(outcome, Found)
    assert [item.key for item in outcome.items] == [b"b", b"c"]


def test_ends_of_ranges() -> None:
    whole = Submission()
    whole.delete_range.key, whole.delete_range.range_end = b"a", b"\0"
    assert operation_of_submission(whole, 9) == DeleteRange(b"a", AFTER_ALL_KEYS, 9)
    single = Submission()
    single.txn.success.add().range.key = b"a"
    read = Transaction((), (Scan(b"a", b"a\0"),), ())
    assert operation_of_submission(single, 9) == read


def test_an_answer_to_another_question_is_found() -> None:
    with pytest.raises(UnexpectedAnswer):
        outcome_of(Put(b"a", b"1"), Result(range=RangeResult()))


def test_every_kind_of_write_comes_up() -> None:
    """A seed may leave compactions out; over a few of them nothing is missing."""
    kinds = {
        type(workload.choose(0.0)[0]).__name__
        for seed in range(20)
        for workload in [Workload(draw_options(seed), random.Random(seed))]
        for _ in range(50)
    }
    assert kinds == {"Put", "Increment", "Transaction", "Delete", "Compact", "DeleteRange"}
    assert len(SINGLE_KEY_WRITES) + len(MANY_KEY_WRITES) == 8
