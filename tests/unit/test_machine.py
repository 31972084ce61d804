"""The state machine of a partition from outside: commands, queries, pages, slices, limits."""

import pytest

from kvorum_proto.command_pb2 import (
    Compact,
    Compare,
    Delete,
    DeleteRange,
    ErrorCode,
    Get,
    Increment,
    MembersQuery,
    Operation,
    Put,
    Query,
    Range,
    Result,
    SetMember,
    Submission,
    Txn,
)
from kvorum_server.config import Config
from kvorum_server.kv.machine import KvMachine
from kvorum_server.kv.operations import INTEGER_MAX, INTEGER_MIN
from kvorum_server.kv.refusal import Refusal
from kvorum_server.kv.scan import Budget
from kvorum_server.kv.txn import Path
from kvorum_server.state_machine import CATALOG_COMMANDS
from kvorum_server.storage.errors import NewerFormat
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rows import ROWS_FORMAT, DamagedRows, MetaRow
from kvorum_server.types import Entry, EntryKind
from tests.unit.kv_harness import SPACE, Harness


def txn(*success: Operation, compares: list[Compare] | None = None) -> Submission:
    return Submission(txn=Txn(success=success, compares=compares))


def filled(count: int, config: Config | None = None, value: bytes = b"v") -> Harness:
    harness = Harness(config)
    harness.apply(*(Submission(put=Put(key=b"k%03d" % n, value=value)) for n in range(count)))
    return harness


def read_all(
    *, limit: int = 0, revision: int = 0, reverse: bool = False, count_only: bool = False
) -> Range:
    return Range(
        key=b"k",
        range_end=b"l",
        limit=limit,
        revision=revision,
        reverse=reverse,
        count_only=count_only,
    )


def delete_all(*, previous: bool = False, atomic: bool = False) -> DeleteRange:
    return DeleteRange(key=b"k", range_end=b"l", previous=previous, atomic=atomic)


# --- Commands ---


def test_every_command_has_a_handler_or_belongs_to_the_catalog() -> None:
    harness = Harness()
    for field in Submission.DESCRIPTOR.oneofs_by_name["command"].fields:
        submission = Submission()
        getattr(submission, field.name).SetInParent()
        result = harness.do(submission)
        malformed = result.error.code == ErrorCode.MALFORMED
        assert malformed == (field.name in CATALOG_COMMANDS), field.name


def test_a_submission_without_a_known_command_is_malformed() -> None:
    harness = Harness()
    harness.put(b"a", b"1")
    results = harness.apply(Submission(), Submission(set_member=SetMember(identity=1)))
    assert [result.error.code for result in results] == [ErrorCode.MALFORMED] * 2
    assert harness.machine.status().revision == 2


def test_a_payload_that_is_no_batch_moves_the_applied_index_and_nothing_else() -> None:
    harness = Harness()
    before = harness.put(b"a", b"1")
    assert harness.machine.apply(Entry(2, 1, EntryKind.COMMANDS, 99, 1, b"\xff\xff")) == []
    status = harness.machine.status()
    assert (status.applied_index, status.log_time, status.revision) == (2, 99, before)


@pytest.mark.parametrize("kind", [EntryKind.NO_OP, EntryKind.CONFIGURATION])
def test_entries_of_other_kinds_move_index_and_log_time(kind: EntryKind) -> None:
    harness = Harness()
    assert harness.machine.apply(Entry(1, 3, kind, 50, 1, b"whatever")) == []
    status = harness.machine.status()
    assert (status.applied_index, status.applied_term, status.log_time) == (1, 3, 50)


def test_an_entry_out_of_order_is_a_bug_and_stops() -> None:
    with pytest.raises(AssertionError, match="in order"):
        Harness().machine.apply(Entry(2, 1, EntryKind.NO_OP, 0, 1, b""))


@pytest.mark.parametrize("value", [b"", b"x", b"+1", b"01", b"-0", b"1 ", b"1_0", b"9" * 19])
def test_what_is_no_integer_is_not_incremented(value: bytes) -> None:
    harness = Harness()
    harness.put(b"n", value)
    result = harness.do(Submission(increment=Increment(key=b"n", by=1)))
    assert result.error.code == ErrorCode.NOT_AN_INTEGER
    assert harness.get(b"n") == value


@pytest.mark.parametrize(
    ("start", "by", "end"),
    [
        (0, INTEGER_MAX, INTEGER_MAX),
        (INTEGER_MAX, 1, None),
        (INTEGER_MIN, -1, None),
        (INTEGER_MIN, INTEGER_MAX, -1),
        (INTEGER_MAX, INTEGER_MIN, -1),
    ],
)
def test_increments_stay_within_64_bits(start: int, by: int, end: int | None) -> None:
    harness = Harness()
    harness.put(b"n", b"%d" % start)
    result = harness.do(Submission(increment=Increment(key=b"n", by=by)))
    if end is None:
        assert result.error.code == ErrorCode.OUT_OF_BOUNDS
    else:
        assert result.increment.value == end
        assert harness.get(b"n") == b"%d" % end


def test_a_delete_range_takes_its_fill_and_says_where_to_go_on() -> None:
    harness = filled(5, Config(range_keys_max=2))
    first = harness.do(Submission(delete_range=delete_all())).delete_range
    assert (first.deleted, first.next_key) == (2, b"k002")
    assert harness.machine.status().revision == first.revision == 7, "one revision for both"
    whole = harness.do(Submission(delete_range=delete_all(atomic=True)))
    assert whole.error.code == ErrorCode.RANGE_TOO_LARGE
    assert harness.keys(read_all()) == [b"k002", b"k003", b"k004"]


def test_previous_items_of_a_delete_range_are_bounded_in_bytes() -> None:
    harness = filled(4, Config(scan_page_bytes_max=250), value=b"v" * 60)
    answer = harness.do(Submission(delete_range=delete_all(previous=True))).delete_range
    assert (len(answer.previous), answer.next_key) == (2, b"k002")
    atomic = DeleteRange(key=b"k", range_end=b"\x00", previous=True, atomic=True)
    assert harness.do(Submission(delete_range=atomic)).delete_range.deleted == 2


# --- Transactions ---


def test_nested_compares_see_the_state_before_the_transaction() -> None:
    harness = Harness()
    absent = Compare(key=b"a", version=0)
    inner = Txn(compares=[absent], success=[Operation(put=Put(key=b"b", value=b"first"))])
    result = harness.do(txn(Operation(put=Put(key=b"a", value=b"1")), Operation(txn=inner)))
    assert result.txn.results[1].txn.succeeded
    assert (harness.get(b"a"), harness.get(b"b")) == (b"1", b"first")
    assert result.txn.revision == 2, "all writes share one revision"


def test_a_transaction_that_changes_nothing_takes_no_revision() -> None:
    harness = filled(1)
    reading = txn(Operation(range=read_all()), Operation(delete=Delete(key=b"missing")))
    assert harness.do(reading).txn.revision == harness.machine.status().revision == 2
    assert harness.do(txn()).txn.succeeded, "no compares hold"


def test_a_transaction_reads_its_own_writes_under_its_own_revision() -> None:
    harness = filled(1)
    result = harness.do(
        txn(Operation(put=Put(key=b"k001", value=b"new")), Operation(range=read_all()))
    )
    page = result.txn.results[1].range
    assert [(item.key, item.mod_revision) for item in page.items] == [(b"k000", 2), (b"k001", 3)]
    assert page.revision == 3


def test_a_range_compare_holds_for_every_key_or_not_at_all() -> None:
    harness = filled(3)
    same = Compare(key=b"k", range_end=b"l", value=b"v")
    assert harness.do(txn(compares=[same])).txn.succeeded
    harness.put(b"k001", b"other")
    assert not harness.do(txn(compares=[same])).txn.succeeded
    nothing = Compare(key=b"x", range_end=b"y", version=0)
    assert harness.do(txn(compares=[nothing])).txn.succeeded, "absent keys have version 0"


def test_a_transaction_shares_one_budget() -> None:
    harness = filled(4, Config(range_keys_max=3, scan_page_keys_max=3))
    whole = Operation(range=read_all())
    first, second = harness.do(txn(whole, whole)).txn.results
    assert (len(first.range.items), first.range.next_key) == (3, b"k003")
    assert (len(second.range.items), second.range.next_key) == (0, b"k000")
    compare = Compare(key=b"k", range_end=b"l", value=b"v")
    result = harness.do(txn(compares=[compare, compare]))
    assert result.error.code == ErrorCode.RANGE_TOO_LARGE


def test_previous_items_that_do_not_fit_refuse_the_transaction() -> None:
    harness = filled(3, Config(scan_page_bytes_max=150), value=b"v" * 60)
    puts = [Operation(put=Put(key=b"k%03d" % n, previous=True)) for n in range(3)]
    assert harness.do(txn(*puts)).error.code == ErrorCode.LIMIT_EXCEEDED
    assert harness.get(b"k000") == b"v" * 60


def test_a_compacted_range_refuses_the_whole_transaction_wherever_the_clean_up_is() -> None:
    results = []
    for cleared in (False, True):
        harness = Harness()
        for value in (b"1", b"2", b"3"):
            harness.put(b"a", value)
        harness.do(Submission(compact=Compact(revision=4)))
        while cleared and harness.machine.clear_away():
            harness.overlay.flush()
        past = Operation(range=Range(key=b"a", revision=3))
        results.append(harness.do(txn(Operation(put=Put(key=b"b")), past)))
        assert harness.get(b"b") is None
    assert results[0] == results[1]
    assert results[0].error.code == ErrorCode.COMPACTED


def test_malformed_parts_of_a_transaction_are_a_result_even_past_admission() -> None:
    harness = Harness()
    unknown_relation = Compare.FromString(b"\x08\x09\x12\x01a\x58\x01")
    for submission in (
        txn(Operation(put=Put(key=b"a")), Operation()),
        txn(compares=[Compare(key=b"a")]),
        txn(compares=[unknown_relation]),
    ):
        assert harness.do(submission).error.code == ErrorCode.MALFORMED
    past_range = txn(Operation(range=read_all(revision=1)))
    assert harness.do(past_range).error.code == ErrorCode.INVALID_REQUEST
    assert harness.get(b"a") is None


def test_a_path_names_the_branch_of_every_nested_transaction() -> None:
    assert Path(True, (Path(False, ()),)).nested[0].succeeded is False


# --- Queries ---


def test_pages_end_at_the_limit_and_say_where_to_go_on() -> None:
    harness = filled(5)
    page = harness.read(Query(range=read_all(limit=2))).range
    assert ([item.key for item in page.items], page.next_key) == ([b"k000", b"k001"], b"k002")
    assert page.count == 2
    last = harness.read(Query(range=Range(key=b"k003", range_end=b"l", limit=2))).range
    assert (last.count, last.next_key) == (2, b"")


def test_a_page_backwards_goes_on_with_the_key_below() -> None:
    harness = filled(5)
    page = harness.read(Query(range=read_all(limit=2, reverse=True))).range
    assert ([item.key for item in page.items], page.next_key) == ([b"k004", b"k003"], b"k002")
    rest = Range(key=b"k", range_end=page.next_key + b"\x00", reverse=True)
    assert harness.keys(rest) == [b"k002", b"k001", b"k000"]


def test_a_page_has_at_least_one_item_however_large() -> None:
    harness = filled(3, Config(scan_page_bytes_max=10), value=b"v" * 100)
    page = harness.read(Query(range=read_all())).range
    assert ([item.key for item in page.items], page.next_key) == ([b"k000"], b"k001")
    assert page.items[0].value == b"v" * 100
    budget = Budget(harness.config)
    assert [budget.take(100), budget.take(1)] == [True, False]


def test_a_long_read_comes_in_slices_of_a_view_that_does_not_move() -> None:
    harness = filled(10, Config(scan_slice_rows=4))
    scan = harness.machine.read(Query(range=read_all(count_only=True)))
    assert not isinstance(scan, Result)
    harness.do(Submission(delete_range=delete_all()))
    assert scan.advance() is None
    result = scan.advance()
    assert result is not None
    assert (result.range.count, result.range.revision) == (10, 11)
    scan.close()


def test_a_scan_that_nobody_wants_any_more_is_closed() -> None:
    harness = filled(10, Config(scan_slice_rows=4))
    scan = harness.machine.read(Query(range=read_all()))
    assert not isinstance(scan, Result)
    scan.close()
    scan.close()


def test_counts_have_no_page_and_no_items() -> None:
    harness = filled(5, Config(scan_page_keys_max=2))
    page = harness.read(Query(range=read_all(count_only=True, limit=1))).range
    assert (page.count, len(page.items), page.next_key) == (5, 0, b"")


def test_following_the_past_costs_more_of_a_slice_than_reading_a_row() -> None:
    harness = filled(3, Config(scan_slice_rows=10))
    for n in range(3):
        harness.put(b"k%03d" % n, b"new")
    slices = 1
    scan = harness.machine.read(Query(range=read_all(revision=4)))
    while not isinstance(scan, Result):
        slices += 1
        scan = scan.advance() or scan
    assert slices > 3
    assert [item.value for item in scan.range.items] == [b"v"] * 3


@pytest.mark.parametrize(
    ("range_end", "expected"),
    [(b"", [b"k001"]), (b"\x00", [b"k001", b"k002"]), (b"k001", []), (b"a", [])],
)
def test_the_forms_of_a_range(range_end: bytes, expected: list[bytes]) -> None:
    harness = filled(3)
    for revision in (0, 4):
        query = Range(key=b"k001", range_end=range_end, revision=revision)
        assert harness.keys(query) == expected
        query.reverse = True
        assert harness.keys(query) == expected[::-1]


def test_revisions_that_cannot_be_read_are_refused_by_name() -> None:
    harness = Harness()
    for value in (b"1", b"2", b"3"):
        harness.put(b"a", value)
    harness.do(Submission(compact=Compact(revision=3)))
    codes = {
        revision: harness.read(Query(get=Get(key=b"a", revision=revision))).error
        for revision in (-1, 2, 5)
    }
    assert codes[-1].code == ErrorCode.INVALID_REQUEST
    assert (codes[2].code, codes[2].oldest_revision) == (ErrorCode.COMPACTED, 3)
    assert codes[5].code == ErrorCode.FUTURE_REVISION
    assert harness.get(b"a", 3) == b"2"
    past = Query(range=Range(key=b"a", revision=2))
    assert harness.read(past).error.code == ErrorCode.COMPACTED


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (Query(), ErrorCode.MALFORMED),
        (Query(members=MembersQuery()), ErrorCode.MALFORMED),
        (Query(get=Get()), ErrorCode.INVALID_REQUEST),
        (Query(range=Range()), ErrorCode.INVALID_REQUEST),
    ],
)
def test_queries_that_make_no_sense_are_refused(query: Query, code: ErrorCode) -> None:
    assert Harness().read(query).error.code == code


# --- Rows that cannot be used ---


def test_rows_of_a_newer_program_are_refused_by_name() -> None:
    engine = MemoryEngine()
    row = (ROWS_FORMAT + 1).to_bytes(2, "big") + MetaRow().encode()[2:]
    engine.write({MetaRow.key(SPACE): row})
    with pytest.raises(NewerFormat, match="newer kvorum"):
        KvMachine(space=SPACE, overlay=Overlay(engine), config=Config(), group=1)


def test_a_meta_row_of_the_wrong_size_is_damage() -> None:
    engine = MemoryEngine()
    engine.write({MetaRow.key(SPACE): MetaRow().encode() + b"x"})
    with pytest.raises(DamagedRows):
        KvMachine(space=SPACE, overlay=Overlay(engine), config=Config(), group=1)


def test_a_refusal_carries_its_result() -> None:
    refusal = Refusal(ErrorCode.COMPACTED, "gone", oldest_revision=7)
    assert refusal.result().error.oldest_revision == 7
