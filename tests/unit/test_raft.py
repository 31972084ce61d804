"""One replica by itself: what it says to a message, and what it must not say before an fsync.

How replicas work together is told by the scripts in ``tests/scripts/consensus``.
"""

import random

import pytest

from kvorum_server.config import Config
from kvorum_server.consensus.core import ProposeRefusal, Ready, Role
from kvorum_server.consensus.raft import Raft
from kvorum_server.types import (
    AppendRequest,
    AppendResponse,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    HeartbeatRequest,
    HeartbeatResponse,
    PreVoteRequest,
    PreVoteResponse,
    ReplicaId,
    SnapshotMeta,
    VoteRequest,
    VoteResponse,
)

CONFIG = Config(heartbeat_ticks=2, election_ticks_min=10, election_ticks_max=20)
THREE = Configuration.initial((11, 12, 13))
NOBODY = Configuration((), (), (), (), 1)


def log_of(*terms: int) -> list[Entry]:
    return [
        Entry(index, term, EntryKind.COMMANDS, 0, 1, b"") for index, term in enumerate(terms, 1)
    ]


def replica(
    *terms: int,
    number: ReplicaId = 1,
    configuration: Configuration = THREE,
    hard_state: HardState = HardState(),
    applied: int = 0,
) -> Raft:
    return Raft(
        replica=number,
        boot=1,
        config=CONFIG,
        randomness=random.Random(number),
        configuration=configuration,
        hard_state=hard_state,
        log_start=(0, 0),
        entries=log_of(*terms),
        applied=applied,
    )


def drain(raft: Raft) -> Ready:
    """Everything that a replica has to say now, in one Ready."""
    total = Ready()
    while raft.has_ready():
        ready = raft.ready()
        assert ready != Ready(), "has_ready promised something"
        total.hard_state = ready.hard_state or total.hard_state
        total.entries += ready.entries
        total.messages += ready.messages
        total.messages_after_append += ready.messages_after_append
        total.committed += ready.committed
    raft.check_invariants()
    assert raft.ready() == Ready(), "what is drained is empty"
    return total


def test_a_new_replica_has_nothing_to_say() -> None:
    raft = replica()
    assert not raft.has_ready()
    assert raft.role is Role.FOLLOWER
    assert (raft.term, raft.leader, raft.last) == (0, None, (0, 0))


def test_a_vote_is_a_promise() -> None:
    raft = replica()
    raft.step(2, VoteRequest(1, 0, 0))
    ready = drain(raft)
    assert ready.hard_state == HardState(1, 2, 0)
    assert ready.messages == []
    assert ready.messages_after_append == [(2, VoteResponse(1, True))]


def test_a_refusal_promises_nothing() -> None:
    raft = replica(1, hard_state=HardState(1, 3))
    raft.step(2, VoteRequest(1, 1, 1))
    ready = drain(raft)
    assert ready.messages == [(2, VoteResponse(1, False))]
    assert ready.messages_after_append == []
    assert ready.hard_state is None


def test_a_promise_ends_with_its_term() -> None:
    """What a leader of the next term replaces in the same turn was never written here."""
    raft = replica(1, 1)
    old = Entry(3, 1, EntryKind.COMMANDS, 0, 1, b"old")
    raft.step(2, AppendRequest(1, 2, 1, (old,), 0))
    raft.step(3, VoteRequest(2, 3, 1))
    raft.step(2, AppendRequest(3, 2, 1, (), 0))
    ready = drain(raft)
    assert ready.hard_state == HardState(3, 0, 0)
    assert ready.messages_after_append == [(2, AppendResponse(3, True, 2))]


def test_a_repeated_request_gets_the_same_vote_again() -> None:
    raft = replica(hard_state=HardState(1, 2))
    raft.step(2, VoteRequest(1, 0, 0))
    assert drain(raft).messages_after_append == [(2, VoteResponse(1, True))]


def test_a_pre_vote_changes_nothing() -> None:
    raft = replica(1, hard_state=HardState(1, 3))
    raft.step(2, PreVoteRequest(7, 1, 1))
    ready = drain(raft)
    assert ready.messages == [(2, PreVoteResponse(7, True))]
    assert ready.hard_state is None
    assert (raft.term, raft.status().vote) == (1, 3)


def test_an_empty_replica_votes_for_nobody() -> None:
    raft = replica(number=4, configuration=NOBODY)
    assert raft.role is Role.LEARNER
    raft.step(1, PreVoteRequest(1, 5, 1))
    raft.step(1, VoteRequest(1, 5, 1))
    ready = drain(raft)
    assert (1, PreVoteResponse(0, False)) in ready.messages
    assert (1, VoteResponse(1, False)) in ready.messages
    assert ready.messages_after_append == []


def test_an_acceptance_is_a_promise() -> None:
    raft = replica()
    entries = tuple(log_of(1, 1))
    raft.step(2, AppendRequest(1, 0, 0, entries, 1))
    ready = drain(raft)
    assert ready.messages == []
    assert ready.entries == list(entries)
    assert ready.messages_after_append == [(2, AppendResponse(1, True, matched_index=2))]
    assert ready.committed == [], "entry 1 is committed, and not durable here"
    raft.appended(2, 1)
    assert drain(raft).committed == [entries[0]]


def test_a_refused_append_leaves_at_once_with_a_hint() -> None:
    raft = replica(1, 1, hard_state=HardState(2, 0))
    raft.step(2, AppendRequest(2, 7, 2, (), 0))
    ready = drain(raft)
    refusal = AppendResponse(2, False, refused_index=7, hint_index=2, hint_term=1)
    assert ready.messages == [(2, refusal)]


def test_an_old_leader_is_told_the_term() -> None:
    raft = replica(hard_state=HardState(5, 0))
    raft.step(2, HeartbeatRequest(4, 0))
    assert drain(raft).messages == [(2, HeartbeatResponse(5))]


def test_two_leaders_in_one_term_are_a_bug() -> None:
    raft = replica()
    raft.step(2, HeartbeatRequest(1, 0))
    with pytest.raises(AssertionError, match="two leaders"):
        raft.step(3, HeartbeatRequest(1, 0))


def test_the_commit_index_alone_is_not_worth_a_write() -> None:
    raft = replica(1, 1, hard_state=HardState(1, 2))
    raft.step(2, HeartbeatRequest(1, 2))
    ready = drain(raft)
    assert [entry.index for entry in ready.committed] == [1, 2]
    assert ready.hard_state is None
    # It travels with the next write.
    raft.step(2, AppendRequest(1, 2, 1, (Entry(3, 1, EntryKind.COMMANDS, 0, 1, b""),), 2))
    assert drain(raft).hard_state == HardState(1, 2, 2)


def test_what_was_applied_is_committed_after_a_restart() -> None:
    raft = replica(1, 1, 1, hard_state=HardState(1, 2, commit=1), applied=2)
    status = raft.status()
    assert (status.commit, status.applied) == (2, 2)
    assert drain(raft).committed == []


def test_what_is_committed_and_not_applied_is_delivered_after_a_restart() -> None:
    raft = replica(1, 1, 1, hard_state=HardState(1, 2, commit=3), applied=1)
    assert [entry.index for entry in drain(raft).committed] == [2, 3]


def test_entries_whose_hard_state_was_torn_off_begin_their_term_without_a_vote() -> None:
    raft = replica(1, 2, hard_state=HardState(1, 3))
    assert raft.term == 2
    assert drain(raft).hard_state == HardState(2, 0, 0)


def test_proposals_and_reads_need_a_leader() -> None:
    raft = replica()
    assert raft.propose(EntryKind.COMMANDS, 0, 1, b"") is ProposeRefusal.NOT_LEADER
    assert raft.reconfigure(THREE, 0, 1) is ProposeRefusal.NOT_LEADER
    assert not raft.read(1)
    assert not raft.transfer(2)
    raft.farewell()
    assert not raft.has_ready()


def test_a_configuration_is_never_proposed_as_something_else() -> None:
    with pytest.raises(AssertionError, match="reconfigure"):
        replica().propose(EntryKind.CONFIGURATION, 0, 1, b"")


def test_an_installed_snapshot_is_acknowledged_behind_its_write() -> None:
    raft = replica(1)
    raft.step(2, HeartbeatRequest(3, 0))
    drain(raft)
    assert raft.install(SnapshotMeta(9, 2, 0, THREE))
    ready = drain(raft)
    assert ready.hard_state == HardState(3, 0, 9)
    assert ready.messages_after_append == [(2, AppendResponse(3, True, matched_index=9))]
    assert (raft.last, raft.status().applied) == ((9, 2), 9)
    assert not raft.install(SnapshotMeta(9, 2, 0, THREE)), "not later than what is committed"


def test_only_what_is_applied_is_cut() -> None:
    raft = replica(1, 1, hard_state=HardState(1, 0, commit=2))
    drain(raft)
    with pytest.raises(AssertionError, match="needed"):
        raft.compact(2)
    raft.applied(2)
    assert raft.compact(2) == SnapshotMeta(2, 1, 0, THREE)
    assert raft.log_bytes == 0


def test_a_state_is_not_as_fresh_as_its_leader_vouches_before_it_is_applied() -> None:
    raft = replica(1, 1)
    raft.at(50)
    raft.step(2, HeartbeatRequest(1, 2))
    drain(raft)
    raft.at(100)
    raft.step(2, HeartbeatRequest(1, 2, echo=50))
    assert raft.status().fresh_at == 0, "what was committed at 50 is not applied"
    drain(raft)
    raft.applied(1)
    assert raft.status().fresh_at == 0, "not all of it"
    raft.applied(2)
    assert raft.status().fresh_at == 50


def test_an_echo_from_before_a_restart_is_not_believed() -> None:
    raft = replica()
    raft.at(50)
    raft.step(2, HeartbeatRequest(1, 0, echo=40))
    raft.at(100)
    raft.step(2, HeartbeatRequest(1, 0, echo=40))
    assert raft.status().fresh_at == 0, "our first answer to this leader left at 50"
    raft.step(2, HeartbeatRequest(1, 0, echo=5_000))
    assert raft.status().fresh_at == 0, "nothing was sent in the future"
    raft.step(2, HeartbeatRequest(1, 0, echo=50))
    assert raft.status().fresh_at == 50


@pytest.mark.parametrize("seed", range(20))
def test_election_timeouts_lie_between_their_limits(seed: int) -> None:
    raft = Raft(
        replica=1,
        boot=1,
        config=CONFIG,
        randomness=random.Random(seed),
        configuration=THREE,
        hard_state=HardState(),
        log_start=(0, 0),
    )
    ticks = 0
    while raft.role is Role.FOLLOWER:
        raft.tick()
        ticks += 1
    assert CONFIG.election_ticks_min <= ticks < CONFIG.election_ticks_max
