"""The log in memory: conflicts, durability per write, cuts, snapshots, configurations."""

import pytest

from kvorum_server.consensus.log import ENTRY_OVERHEAD_BYTES, Log
from kvorum_server.types import Configuration, Entry, EntryKind, SnapshotMeta

FIRST = Configuration.initial((11, 12, 13))
SECOND = Configuration.initial((11, 12, 13, 14))


def entry(index: int, term: int, payload: bytes = b"") -> Entry:
    return Entry(index, term, EntryKind.COMMANDS, 10 * index, 1, payload)


def log_of(*terms: int) -> Log:
    entries = [entry(index, term) for index, term in enumerate(terms, 1)]
    return Log(start=(0, 0), start_stamp=0, configuration=FIRST, entries=entries)


def terms(log: Log) -> list[int | None]:
    return [log.term_of(index) for index in range(log.first_index, log.last_index + 1)]


def test_entries_given_at_birth_are_durable() -> None:
    log = log_of(1, 1, 2)
    assert (log.last_index, log.last_term, log.last_stamp) == (3, 2, 30)
    assert log.durable == log.written == 3
    assert log.take_unwritten() == []


def test_a_gap_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="no gaps"):
        log_of(1).append(entry(3, 1))


def test_a_falling_term_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="terms never fall"):
        log_of(2).append(entry(2, 1))


def test_merge_keeps_what_is_held_and_adds_what_is_new() -> None:
    log = log_of(1, 1, 2)
    log.merge([entry(2, 1), entry(3, 2), entry(4, 2)], commit=0)
    assert terms(log) == [1, 1, 2, 2]
    assert log.durable == 3, "nothing was truncated"


def test_merge_of_an_old_prefix_does_not_truncate() -> None:
    log = log_of(1, 1, 1)
    log.merge([entry(1, 1)], commit=0)
    assert log.last_index == 3


def test_a_conflict_takes_everything_after_it_along() -> None:
    log = log_of(1, 1, 1, 1)
    log.merge([entry(2, 1), entry(3, 2)], commit=2)
    assert terms(log) == [1, 1, 2]
    assert (log.durable, log.written) == (2, 2)
    log.check_invariants()


def test_a_conflict_with_a_committed_entry_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="committed entry"):
        log_of(1, 1, 1).merge([entry(2, 2)], commit=2)


def test_an_entry_is_durable_when_its_write_is() -> None:
    log = log_of()
    log.append(entry(1, 1))
    assert log.take_unwritten() == [entry(1, 1)]
    log.append(entry(2, 1))
    log.append(entry(3, 1))
    assert [each.index for each in log.take_unwritten()] == [2, 3]
    assert log.durable == 0
    assert log.confirm(1, 1)
    assert log.durable == 1
    assert log.confirm(3, 1)
    assert log.durable == 3


def test_confirming_a_write_confirms_those_before_it() -> None:
    log = log_of()
    for index in (1, 2, 3):
        log.append(entry(index, 1))
        log.take_unwritten()
    assert log.confirm(3, 1)
    assert log.durable == 3
    assert not log.confirm(1, 1), "that is no news"


def test_a_replaced_write_confirms_what_is_left_of_it() -> None:
    log = log_of()
    log.append(entry(1, 1))
    log.append(entry(2, 1))
    log.take_unwritten()
    log.merge([entry(2, 2)], commit=0)
    log.take_unwritten()
    assert log.confirm(2, 1)
    assert log.durable == 1, "entry 2 is another one by now"
    assert log.confirm(2, 2)
    assert log.durable == 2


def test_an_entry_that_was_replaced_and_put_back_is_not_durable_by_its_first_write() -> None:
    log = log_of(1)
    log.append(entry(2, 1))
    log.take_unwritten()
    log.merge([entry(2, 2)], commit=0)
    log.take_unwritten()
    # The leader of a third term has the entry of term 1 and puts it back.
    log.merge([entry(2, 1)], commit=0)
    log.take_unwritten()
    assert not log.confirm(2, 1)
    assert log.durable == 1, "a crash now would bring back (2, term 2)"
    log.confirm(2, 2)
    assert log.durable == 1
    assert log.confirm(2, 1)
    assert log.durable == 2


def test_agreement_skips_whole_terms() -> None:
    log = log_of(1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    assert log.agreement(10, 6) == (10, 6)
    assert log.agreement(10, 4) == (5, 4)
    assert log.agreement(10, 3) == (3, 1)
    assert log.agreement(4, 6) == (4, 4)
    assert log.agreement(99, 9) == (10, 6)
    assert log.agreement(10, 0) == (0, 0)


def test_up_to_date_compares_terms_before_indexes() -> None:
    log = log_of(1, 1, 2)
    assert log.is_up_to_date(3, 2)
    assert log.is_up_to_date(1, 3)
    assert not log.is_up_to_date(9, 1)
    assert not log.is_up_to_date(2, 2)


def test_a_slice_holds_at_least_one_entry_and_respects_the_limit() -> None:
    log = log_of()
    for index in (1, 2, 3):
        log.append(entry(index, 1, b"x" * 36))
    size = 36 + ENTRY_OVERHEAD_BYTES
    assert len(log.slice(1, 1)) == 1
    assert len(log.slice(1, 2 * size)) == 2
    assert len(log.slice(2, 99 * size)) == 2
    assert log.slice(4, size) == ()
    assert log.bytes == 3 * size


def test_a_cut_keeps_the_place_where_it_was_made() -> None:
    log = log_of(1, 1, 2, 2)
    log.cut(3)
    assert (log.first_index, log.start_index, log.start_term, log.start_stamp) == (4, 3, 2, 30)
    assert log.term_of(3) == 2
    assert log.term_of(2) is None
    log.cut(1)
    assert log.start_index == 3, "an older cut changes nothing"
    assert log.start() == SnapshotMeta(3, 2, 30, FIRST)
    log.check_invariants()


def test_only_durable_entries_are_cut() -> None:
    log = log_of(1)
    log.append(entry(2, 1))
    with pytest.raises(AssertionError, match="durable"):
        log.cut(2)


def test_a_snapshot_that_the_log_agrees_with_keeps_what_follows() -> None:
    log = log_of(1, 1, 2, 2)
    log.install(SnapshotMeta(3, 2, 30, SECOND))
    assert terms(log) == [2]
    assert log.durable == 3
    assert log.take_unwritten() == [entry(4, 2)], "the same write drops the old log and repeats it"
    assert log.configuration == SECOND
    log.check_invariants()


def test_a_snapshot_that_the_log_contradicts_leaves_nothing() -> None:
    log = log_of(1, 1, 1, 1, 1)
    log.install(SnapshotMeta(3, 2, 30, SECOND))
    assert (log.start_index, log.start_term, log.last_index, log.durable) == (3, 2, 3, 3)
    assert log.bytes == 0
    log.check_invariants()


def test_a_write_from_before_a_snapshot_confirms_nothing_behind_it() -> None:
    log = log_of(1)
    for index in (2, 3, 4):
        log.append(entry(index, 1))
    log.take_unwritten()
    log.install(SnapshotMeta(3, 2, 30, FIRST))
    log.merge([entry(4, 2)], commit=3)
    log.take_unwritten()
    log.confirm(4, 1)
    assert log.durable == 3
    log.confirm(4, 2)
    assert log.durable == 4


def test_a_configuration_is_in_force_from_its_append_until_it_is_truncated() -> None:
    log = log_of(1, 1)
    log.append(Entry(3, 1, EntryKind.CONFIGURATION, 30, 1, SECOND.encode()))
    assert (log.configuration, log.configuration_index) == (SECOND, 3)
    assert log.configuration_at(2) == FIRST
    log.merge([entry(3, 2)], commit=2)
    assert (log.configuration, log.configuration_index) == (FIRST, 0)


def test_a_cut_keeps_the_configuration_in_force_there() -> None:
    log = log_of(1)
    log.append(Entry(2, 1, EntryKind.CONFIGURATION, 20, 1, SECOND.encode()))
    log.append(entry(3, 1))
    log.take_unwritten()
    log.confirm(3, 1)
    log.cut(3)
    assert log.start().configuration == SECOND
    log.check_invariants()
