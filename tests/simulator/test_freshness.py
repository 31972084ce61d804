"""Old answers are told apart from answers that may be old: histories of a few calls."""

import pytest

from tests.simulator.checkers import Violation
from tests.simulator.freshness import CLOCK_GRAIN, check_freshness
from tests.simulator.linearizability import NEVER, Call
from tests.simulator.model import Found, Get, Put, Written
from tests.simulator.scheduler import MILLISECOND, SECOND

KEY = b"k"


def wrote(begin: int, end: int, revision: int) -> Call:
    return Call(1, begin, end, Put(KEY, b""), Written(revision))


def read(begin: int, end: int, revision: int, staleness: int | None = None) -> Call:
    return Call(2, begin, end, Get(KEY), Found(revision, ()), staleness=staleness)


def test_a_read_may_be_as_new_as_it_likes() -> None:
    check_freshness([wrote(0, 10, 2), read(20, 30, 2), read(20, 30, 9)], clock_drift=0.0)


def test_a_read_that_began_before_the_write_ended_may_miss_it() -> None:
    check_freshness([wrote(0, 10, 2), read(10, 30, 1)], clock_drift=0.0)


def test_a_read_that_misses_what_was_acknowledged_before_it_began_is_named() -> None:
    with pytest.raises(Violation, match=r"(?s)client=2.*had been told by Call\(client=1"):
        check_freshness([wrote(0, 10, 2), read(11, 30, 1)], clock_drift=0.0)


def test_a_revision_that_falls_between_two_reads_of_a_client_is_found() -> None:
    with pytest.raises(Violation, match="shows revision 4; 5 had been told"):
        check_freshness([read(0, 10, 5), read(11, 20, 4)], clock_drift=0.0)


def test_an_acknowledgement_with_a_smaller_revision_than_before_is_found() -> None:
    with pytest.raises(Violation, match="shows revision 4; 5 had been told"):
        check_freshness([wrote(0, 10, 5), wrote(11, 20, 4)], clock_drift=0.0)


def test_a_bound_is_counted_from_the_beginning_of_the_read() -> None:
    bound = 100 * MILLISECOND
    written = wrote(0, SECOND, 2)
    in_time = SECOND + bound + CLOCK_GRAIN
    check_freshness([written, read(in_time, 9 * SECOND, 1, bound)], clock_drift=0.0)
    with pytest.raises(Violation, match="too old by more than 102 ms"):
        check_freshness([written, read(in_time + 1, 9 * SECOND, 1, bound)], clock_drift=0.0)


def test_a_slow_clock_stretches_the_bound() -> None:
    bound = 100 * MILLISECOND
    history = [wrote(0, SECOND, 2), read(SECOND + 110 * MILLISECOND, 9 * SECOND, 1, bound)]
    check_freshness(history, clock_drift=0.2)
    with pytest.raises(Violation, match="too old"):
        check_freshness(history, clock_drift=0.0)


def test_what_a_stale_read_was_told_obliges_nobody() -> None:
    check_freshness([read(0, 10, 5, 0), read(20, 30, 4)], clock_drift=0.0)


def test_a_stale_read_without_bound_and_a_lost_write_are_left_alone() -> None:
    lost = Call(1, 20, NEVER, Put(KEY, b""), None)
    check_freshness([wrote(0, 10, 2), read(20, 30, 1, 0), lost], clock_drift=0.0)
