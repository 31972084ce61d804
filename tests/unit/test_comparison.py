"""Whose state is right, and who is told: the leader's judgement of the replicas' hashes."""

from dataclasses import replace

import pytest

from kvorum_server.comparison import RESEND_TICKS, RESENDS, Verdict, judge
from kvorum_server.storage.rows import Table, table_prefix
from kvorum_server.types import Configuration, Member, SnapshotChunk, StateDamage, StateHash
from tests.unit.host_setup import CONFIG, GROUP, Machine, Sent, Trio, put, trio

TRIO = Configuration.initial((11, 22, 33))
FIVE = Configuration.initial((11, 22, 33, 44, 55))
WITH_LEARNER = Configuration.initial((11, 22, 33), (44,))
JOINT = Configuration(
    (3, 4, 5), (1, 2, 3), (), tuple(Member(n, n) for n in range(1, 6)), next_replica=6
)


@pytest.mark.parametrize(
    ("configuration", "answers", "agreed", "differing", "missing"),
    [
        (TRIO, {1: 7, 2: 7, 3: 7}, 7, (), ()),
        (TRIO, {1: 7, 2: 7, 3: 8}, 7, (3,), ()),
        (TRIO, {1: 8, 2: 7, 3: 7}, 7, (1,), ()),
        (TRIO, {1: 7, 2: 7}, 7, (), (3,)),
        (TRIO, {1: 7, 2: 8}, None, (1, 2), (3,)),
        (TRIO, {1: 7}, None, (), (2, 3)),
        (TRIO, {1: 7, 2: 8, 3: 9}, None, (1, 2, 3), ()),
        (FIVE, {1: 7, 2: 7, 3: 8, 4: 8, 5: 7}, 7, (3, 4), ()),
        (FIVE, {1: 7, 2: 7, 3: 8, 4: 8}, None, (1, 2, 3, 4), (5,)),
        # A learner has no say in what is right, and may be wrong.
        (WITH_LEARNER, {1: 7, 2: 7, 3: 7, 4: 8}, 7, (4,), ()),
        (WITH_LEARNER, {1: 7, 4: 7}, None, (), (2, 3)),
        # A joint configuration takes a quorum of both halves.
        (JOINT, {3: 7, 4: 7, 5: 7}, None, (), (1, 2)),
        (JOINT, {2: 7, 3: 7, 4: 7, 5: 8}, 7, (5,), (1,)),
    ],
)
def test_what_a_quorum_of_the_voters_has_is_right(
    configuration: Configuration,
    answers: dict[int, int],
    agreed: int | None,
    differing: tuple[int, ...],
    missing: tuple[int, ...],
) -> None:
    assert judge(configuration, 9, 100, answers) == Verdict(9, 100, agreed, differing, missing)


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        (Verdict(9, 0, 7, (), ()), "entry 9: equal (0000000000000007)"),
        (Verdict(9, 0, 7, (), (2,)), "entry 9: equal (0000000000000007), no answer of replica 2"),
        (
            Verdict(9, 0, None, (), (2, 3)),
            "entry 9: too few answers, no answer of replicas 2 and 3",
        ),
        (
            Verdict(9, 0, None, (1, 2), (3,)),
            "entry 9: the states of replicas 1 and 2 differ and no quorum agrees, "
            "no answer of replica 3",
        ),
    ],
)
def test_a_verdict_is_one_line(verdict: Verdict, line: str) -> None:
    assert verdict.describe() == line


COMPARING = replace(CONFIG, state_hash_interval_ms=500)


def compared(cluster: Trio) -> Machine:
    """Some keys, and a round that is over; the leader."""
    leader = cluster.machines[0]
    for number in range(4):
        leader.propose(put(b"key%d" % number))
        cluster.settle()
    for _ in range(60):
        if leader.replica.comparison.verdict is None:
            cluster.tick()
    return leader


def test_who_is_told_of_damage_looks_for_itself() -> None:
    cluster = trio(COMPARING)
    leader = compared(cluster)
    follower = cluster.machines[1].replica
    verdict = leader.replica.comparison.verdict
    assert verdict is not None
    assert verdict.agreed is not None
    term, index = follower.consensus.term, verdict.index
    comparison, agreed = follower.comparison, verdict.agreed
    right, wrong = StateDamage(term, index, agreed), StateDamage(term, index, agreed + 1)
    assert not comparison.is_damaged(follower, leader.replica.replica, right)
    assert comparison.is_damaged(follower, leader.replica.replica, wrong)
    assert not comparison.is_damaged(follower, 3, wrong), "only the leader judges"
    assert not comparison.is_damaged(
        follower, leader.replica.replica, StateDamage(term - 1, index, agreed + 1)
    )
    assert not comparison.is_damaged(
        follower, leader.replica.replica, StateDamage(term, index - 1, agreed + 1)
    )
    comparison.reset()
    assert not comparison.is_damaged(follower, leader.replica.replica, wrong), "another state now"


def test_lost_hashes_are_sent_again_but_not_for_ever() -> None:
    cluster = trio(COMPARING)
    sent: list[int] = []

    def lossy(messages: list[Sent]) -> list[Sent]:
        hashes = [
            m for m in messages if isinstance(m[2].message, StateHash) and m[2].group == GROUP
        ]
        sent.extend(machine.identity for machine, _, _ in hashes)
        return [message for message in messages if message not in hashes]

    cluster.fate = lossy
    leader = compared(cluster)
    cluster.tick(RESEND_TICKS * (RESENDS + 1))
    assert sent.count(22) == sent.count(33) == RESENDS
    verdict = leader.replica.comparison.verdict
    assert verdict is not None
    assert verdict.missing == (2, 3)
    assert not verdict.differs


def test_a_leader_in_doubt_gives_its_state_to_nobody() -> None:
    """Its state may be the wrong one: a lagging replica must not make it that of a quorum."""
    config = replace(COMPARING, checkpoint_entries=10, log_tail_entries=0, log_bytes_max=1)
    cluster = trio(config)
    leader, follower, away = cluster.machines
    cluster.cut_off.add(away.identity)
    start = table_prefix(follower.replica.space, Table.CURRENT)
    follower.engine.write({start + b"ghost\x00\x01": b"rot"})
    for number in range(40):
        leader.propose(put(b"key%d" % number))
        cluster.settle()
    while not leader.replica.comparison.is_in_doubt:
        cluster.tick()
    chunks: list[SnapshotChunk] = []

    def watched(messages: list[Sent]) -> list[Sent]:
        for _, _, envelope in messages:
            if isinstance(envelope.message, SnapshotChunk) and envelope.group == GROUP:
                chunks.append(envelope.message)
        return messages

    cluster.fate = watched
    cluster.cut_off.clear()
    cluster.tick(60)
    assert not chunks
    assert away.replica.applied < leader.replica.applied
    # The difference is gone: the one that lags gets its snapshot.
    follower.engine.write({start + b"ghost\x00\x01": None})
    cluster.tick(300)
    assert chunks
    assert away.replica.applied == leader.replica.applied
