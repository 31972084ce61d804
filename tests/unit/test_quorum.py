"""Quorums, checked against their definition by counting."""

from itertools import combinations

import pytest

from kvorum_server.consensus.quorum import Outcome, Tally, has_quorum, quorum_index
from kvorum_server.types import Configuration


def voters(*replicas: int, outgoing: tuple[int, ...] = ()) -> Configuration:
    return Configuration(replicas, outgoing, (), (), 100)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7])
def test_any_two_quorums_share_a_replica(size: int) -> None:
    configuration = voters(*range(1, size + 1))
    everybody = range(1, size + 1)
    quorums = [
        set(chosen)
        for count in range(size + 1)
        for chosen in combinations(everybody, count)
        if has_quorum(configuration, chosen)
    ]
    assert quorums
    assert all(one & other for one in quorums for other in quorums)


def test_a_joint_quorum_needs_both_halves() -> None:
    joint = voters(3, 4, 5, outgoing=(1, 2, 3))
    assert not has_quorum(joint, {3, 4, 5})
    assert not has_quorum(joint, {1, 2, 3})
    assert has_quorum(joint, {1, 3, 4})
    assert has_quorum(joint, {1, 2, 4, 5})


def test_nobody_is_no_quorum_of_nobody() -> None:
    assert not has_quorum(voters(), set())
    assert quorum_index(voters(), {1: 9}) == 0


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_quorum_index_is_the_highest_that_a_quorum_holds(size: int) -> None:
    configuration = voters(*range(1, size + 1))
    matched = {replica: replica * replica % 7 for replica in range(1, size + 1)}
    held = [
        index
        for index in range(10)
        if has_quorum(configuration, {r for r, match in matched.items() if match >= index})
    ]
    assert quorum_index(configuration, matched) == max(held)


def test_the_index_of_a_joint_quorum_is_that_of_the_slower_half() -> None:
    joint = voters(3, 4, 5, outgoing=(1, 2, 3))
    assert quorum_index(joint, {1: 9, 2: 9, 3: 9, 4: 2, 5: 4}) == 4


def test_learners_do_not_count() -> None:
    configuration = Configuration((1, 2, 3), (), (4, 5), (), 6)
    assert not has_quorum(configuration, {1, 4, 5})
    assert quorum_index(configuration, {1: 5, 4: 5, 5: 5}) == 0


def test_an_election_is_open_until_it_is_won_or_hopeless() -> None:
    configuration = voters(1, 2, 3, 4)
    tally = Tally()
    tally.record(1, True)
    tally.record(2, True)
    assert tally.outcome(configuration) is Outcome.OPEN
    tally.record(3, False)
    assert tally.outcome(configuration) is Outcome.OPEN
    tally.record(4, False)
    assert tally.outcome(configuration) is Outcome.LOST


def test_the_first_answer_counts() -> None:
    configuration = voters(1, 2, 3)
    tally = Tally()
    tally.record(1, True)
    tally.record(2, False)
    tally.record(2, True)
    assert tally.outcome(configuration) is Outcome.OPEN
    tally.record(3, True)
    assert tally.outcome(configuration) is Outcome.WON
