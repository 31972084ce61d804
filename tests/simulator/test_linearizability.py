"""The judge itself is judged: histories made by hand whose verdict is known."""

import random

import pytest

from kvorum_proto.command_pb2 import NOT_AN_INTEGER
from tests.simulator.linearizability import (
    NEVER,
    Call,
    check_history,
    check_keys,
    partition,
    search,
)
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
    Model,
    Operation,
    Outcome,
    Put,
    Refused,
    Scan,
    Transaction,
    Written,
)

A, B = b"a", b"b"


def call(begin: int, end: int, operation: Operation, outcome: Outcome) -> Call:
    return Call(client=0, begin=begin, end=end, operation=operation, outcome=outcome)


def unknown(begin: int, operation: Operation) -> Call:
    return Call(client=0, begin=begin, end=NEVER, operation=operation, outcome=None)


def found(revision: int, value: bytes, mod_revision: int, version: int = 1) -> Found:
    return Found(revision, (Item(A, value, 2, mod_revision, version),))


def verdict(*history: Call) -> bool | None:
    return check_history(history).linearizable


def test_an_empty_history_is_linearizable() -> None:
    assert verdict() is True


def test_a_read_sees_the_write_that_ended_before_it() -> None:
    assert verdict(call(0, 1, Put(A, b"1"), Written(2)), call(2, 3, Get(A), found(2, b"1", 2)))


def test_a_stale_read_is_found() -> None:
    first, second = call(0, 1, Put(A, b"1"), Written(2)), call(2, 3, Put(A, b"2"), Written(3))
    assert verdict(first, second, call(4, 5, Get(A), found(2, b"1", 2))) is False


def test_a_lost_write_is_found() -> None:
    assert verdict(call(0, 1, Put(A, b"1"), Written(2)), call(2, 3, Get(A), Found(1, ()))) is False


def test_a_read_during_a_write_may_see_either_state() -> None:
    write = call(0, 10, Put(A, b"1"), Written(2))
    assert verdict(write, call(1, 2, Get(A), Found(1, ())))
    assert verdict(write, call(1, 2, Get(A), found(2, b"1", 2)))


def test_two_reads_may_not_see_a_write_come_and_go() -> None:
    write = call(0, 10, Put(A, b"1"), Written(2))
    new, old = call(1, 2, Get(A), found(2, b"1", 2)), call(3, 4, Get(A), Found(1, ()))
    assert verdict(write, new, old) is False


def test_an_unknown_write_may_have_happened_or_not() -> None:
    lost = unknown(0, Put(A, b"1"))
    assert verdict(lost, call(5, 6, Get(A), Found(1, ())))
    assert verdict(lost, call(5, 6, Get(A), found(2, b"1", 2)))


def test_an_unknown_write_may_take_effect_long_after_it_began() -> None:
    history = [
        unknown(0, Put(A, b"1")),
        call(5, 6, Get(A), Found(1, ())),
        call(7, 8, Get(A), found(2, b"1", 2)),
    ]
    assert verdict(*history)


def test_an_unknown_write_takes_effect_once() -> None:
    history = [
        unknown(0, Increment(A, 1)),
        call(1, 2, Get(A), found(2, b"1", 2)),
        call(3, 4, Get(A), found(3, b"2", 3, version=2)),
    ]
    assert verdict(*history) is False


def test_an_unknown_write_does_not_happen_before_it_began() -> None:
    assert verdict(call(0, 1, Get(A), found(2, b"1", 2)), unknown(2, Put(A, b"1"))) is False


def test_an_increment_applied_twice_is_found() -> None:
    history = [
        call(0, 1, Increment(A, 1), Incremented(2, 1)),
        call(2, 3, Increment(A, 1), Incremented(4, 3)),
    ]
    assert verdict(*history) is False


def test_two_compare_and_sets_from_one_value_cannot_both_win() -> None:
    create = call(0, 1, Put(A, b"0"), Written(2))
    one = Transaction(((A, b"0"),), (Put(A, b"1"),), ())
    two = Transaction(((A, b"0"),), (Put(A, b"2"),), ())
    won_first = call(2, 9, one, Decided(3, True, (Written(0),)))
    won_second = call(2, 9, two, Decided(4, True, (Written(0),)))
    lost_second = call(2, 9, two, Decided(3, False, ()))
    assert verdict(create, won_first, won_second) is False
    assert verdict(create, won_first, lost_second)


def test_write_skew_over_two_keys_is_found() -> None:
    """Each key alone looks right; only the history as a whole convicts."""
    one = Transaction(((A, None),), (Put(B, b"1"),), ())
    two = Transaction(((B, None),), (Put(A, b"1"),), ())
    history = [
        call(0, 9, one, Decided(2, True, (Written(0),))),
        call(0, 9, two, Decided(3, True, (Written(0),))),
    ]
    assert verdict(*history) is False


def test_a_scan_sees_one_state_of_all_keys() -> None:
    writes = [call(0, 1, Put(A, b"1"), Written(2)), call(2, 3, Put(B, b"1"), Written(3))]
    torn = call(0, 9, Scan(A, b"z"), Found(3, (Item(B, b"1", 3, 3, 1),)))
    whole = call(0, 9, Scan(A, b"z"), Found(2, (Item(A, b"1", 2, 2, 1),)))
    assert verdict(*writes, torn) is False
    assert verdict(*writes, whole)


def test_a_revision_given_twice_is_found() -> None:
    assert (
        verdict(call(0, 9, Put(A, b"1"), Written(2)), call(0, 9, Put(B, b"1"), Written(2))) is False
    )


def test_a_revision_that_goes_back_is_found() -> None:
    assert (
        verdict(call(0, 1, Put(A, b"1"), Written(3)), call(2, 3, Put(B, b"1"), Written(2))) is False
    )


def test_version_starts_again_after_a_delete() -> None:
    history = [
        call(0, 1, Put(A, b"1"), Written(2)),
        call(2, 3, Delete(A), Deleted(3, 1)),
        call(4, 5, Delete(A), Deleted(3, 0)),
        call(6, 7, Put(A, b"2"), Written(4)),
        call(8, 9, Get(A), Found(4, (Item(A, b"2", 4, 4, 1),))),
    ]
    assert verdict(*history)


def test_a_range_delete_counts_what_it_deleted() -> None:
    writes = [call(0, 1, Put(A, b"1"), Written(2)), call(2, 3, Put(B, b"1"), Written(3))]
    assert verdict(*writes, call(4, 5, DeleteRange(A, b"z", 9), Deleted(4, 2)))
    assert verdict(*writes, call(4, 5, DeleteRange(A, b"z", 1), Deleted(4, 1)))
    assert verdict(*writes, call(4, 5, DeleteRange(A, b"z", 9), Deleted(4, 1))) is False


def test_a_refusal_must_have_its_reason() -> None:
    text = call(0, 1, Put(A, b"words"), Written(2))
    refused = call(2, 3, Increment(A, 1), Refused(NOT_AN_INTEGER))
    assert verdict(text, refused)
    assert verdict(refused) is False


def test_a_search_that_costs_too_much_is_undecided() -> None:
    puzzle = [unknown(number, Put(A, b"%d" % number)) for number in range(12)]
    impossible = call(99, 100, Get(A), found(2, b"never written", 2))
    assert search([*puzzle, impossible], Model.unnumbered(), steps_max=100).linearizable is None


def test_the_explanation_names_what_could_not_follow() -> None:
    history = [call(0, 1, Put(A, b"1"), Written(2)), call(2, 3, Get(A), Found(1, ()))]
    explanation = check_history(history).explanation
    assert "key b'a' alone" in explanation
    assert "expected Found" in explanation


def test_keys_are_judged_apart_unless_an_operation_ties_them_together() -> None:
    puts = [call(0, 1, Put(key, b"1"), Written(2 + n)) for n, key in enumerate((A, B, b"c"))]
    tie = call(2, 3, Transaction(((A, None),), (Put(B, b"2"),), ()), Decided(4, False, ()))
    assert [keys for keys, _ in partition(puts)] == [(A,), (B,), (b"c",)]
    assert [keys for keys, _ in partition([*puts, tie])] == [(A, B), (b"c",)]


def test_a_violation_that_needs_two_keys_is_found_where_they_are_tied() -> None:
    one = Transaction(((A, None),), (Put(B, b"1"),), ())
    two = Transaction(((B, None),), (Put(A, b"1"),), ())
    history = [
        call(0, 9, one, Decided(2, True, (Written(0),))),
        call(0, 9, two, Decided(3, True, (Written(0),))),
    ]
    assert check_keys(history).linearizable is False


def test_revisions_alone_convict_where_values_would_not() -> None:
    """Both orders of two equal writes explain the read; the revisions allow only one."""
    history = [
        call(0, 9, Put(A, b"1"), Written(3)),
        call(0, 9, Put(A, b"1"), Written(2)),
        call(10, 19, Get(A), Found(2, (Item(A, b"1", 2, 2, 2),))),
    ]
    assert check_keys(history).linearizable is False


def test_reads_of_the_past_are_nobodys_business_here() -> None:
    history = [call(0, 1, Put(A, b"1"), Written(2)), call(2, 3, Get(A, 1), Found(2, ()))]
    assert verdict(*history)


def test_a_busy_key_with_known_revisions_costs_a_step_for_each_call() -> None:
    """Twelve clients at once, for long: without the order of revisions no search would end."""
    generator = random.Random(1)
    model = Model.numbered()
    history: list[Call] = []
    for instant in range(2000):
        operation: Operation = generator.choice((Put(A, b"%d" % instant), Increment(A, 1), Get(A)))
        model, outcome = model.apply(operation)
        history.append(call(instant - generator.randrange(12), instant + 12, operation, outcome))
    judged = check_keys(history, steps_max=10 * len(history))
    assert judged.linearizable


@pytest.mark.parametrize("seed", range(20))
def test_executed_histories_pass_and_forged_ones_do_not(seed: int) -> None:
    """What the model executed, with overlapping calls, passes; one forged answer fails."""
    generator = random.Random(seed)
    model = Model.numbered()
    history: list[Call] = []
    for instant in range(0, 1500, 10):
        key = generator.choice((A, B))
        operation: Operation = generator.choice(
            (Put(key, b"%d" % instant), Increment(key, 1), Get(key), Delete(key), Scan(A, b"z"))
        )
        model, outcome = model.apply(operation)
        begin, end = instant - generator.randrange(40), instant + generator.randrange(40)
        lost = generator.random() < 0.03
        history.append(unknown(begin, operation) if lost else call(begin, end, operation, outcome))
    assert verdict(*history), f"seed {seed}"
    number, witness = generator.choice(
        [(n, one) for n, one in enumerate(history) if isinstance(one.outcome, Written | Found)]
    )
    assert witness.outcome is not None
    forged = Written(9999) if isinstance(witness.outcome, Written) else Found(9999, ())
    history[number] = call(witness.begin, witness.end, witness.operation, forged)
    assert verdict(*history) is not True, f"seed {seed}"
