"""Read-index rounds: who shares one, what confirms it, and what dies with the leadership."""

from kvorum_server.consensus.core import ReadReady
from kvorum_server.consensus.reads import ReadRounds
from kvorum_server.types import NO_ROUND, Configuration, ReadRound

THREE = Configuration.initial((11, 12, 13))


def test_a_quorum_confirms_all_reads_of_a_round() -> None:
    reads = ReadRounds(boot=4)
    reads.queue(7)
    reads.queue(8)
    assert reads.start(commit=20, leader=1) == ReadRound(4, 1)
    assert reads.confirmed(THREE) == []
    reads.acknowledge(3, ReadRound(4, 1))
    assert reads.confirmed(THREE) == [ReadReady(7, 20), ReadReady(8, 20)]
    assert reads.round == NO_ROUND


def test_reads_that_come_later_wait_for_the_next_round() -> None:
    reads = ReadRounds(boot=4)
    reads.queue(7)
    first = reads.start(20, 1)
    reads.queue(8)
    assert not reads.can_start(), "one round at a time"
    reads.acknowledge(2, first)
    assert reads.confirmed(THREE) == [ReadReady(7, 20)]
    assert reads.start(25, 1) != first
    reads.acknowledge(3, first)
    assert reads.confirmed(THREE) == [], "an answer to the first round"


def test_answers_of_another_boot_or_without_a_round_confirm_nothing() -> None:
    reads = ReadRounds(boot=5)
    reads.queue(7)
    reads.start(20, 1)
    reads.acknowledge(2, ReadRound(4, 1))
    reads.acknowledge(3, NO_ROUND)
    assert reads.confirmed(THREE) == []


def test_a_group_of_one_confirms_at_once() -> None:
    reads = ReadRounds(boot=1)
    reads.queue(7)
    reads.start(3, 1)
    assert reads.confirmed(Configuration.initial((11,))) == [ReadReady(7, 3)]


def test_a_lost_leadership_refuses_everything_and_reuses_no_number() -> None:
    reads = ReadRounds(boot=1)
    reads.queue(7)
    first = reads.start(3, 1)
    reads.queue(8)
    assert reads.refuse_all() == [ReadReady(7, None), ReadReady(8, None)]
    reads.queue(9)
    assert reads.start(3, 1) != first
