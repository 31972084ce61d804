"""A leader by itself: what it sends, what it counts, when it gives up.

How it works with its followers is told by the scripts in ``tests/scripts/consensus``.
"""

import random
from dataclasses import replace

import pytest

from kvorum_server.config import Config
from kvorum_server.consensus.core import ProposeRefusal, Ready, Role
from kvorum_server.consensus.log import ENTRY_OVERHEAD_BYTES
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
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)

CONFIG = Config(
    heartbeat_ticks=2, election_ticks_min=10, election_ticks_max=20, log_inflight_bytes_max=300
)
THREE = Configuration.initial((11, 12, 13))


def drain(raft: Raft) -> Ready:
    """Everything that a replica has to say; its own promises come true, as after an fsync."""
    total = Ready()
    while raft.has_ready():
        ready = raft.ready()
        if ready.entries:
            raft.appended(ready.entries[-1].index, ready.entries[-1].term)
        for target, message in ready.messages_after_append:
            if target == raft.replica:
                raft.step(raft.replica, message)
            else:
                total.messages_after_append.append((target, message))
        total.messages += ready.messages
        total.committed += ready.committed
        total.reads += ready.reads
        if ready.committed:
            raft.applied(ready.committed[-1].index)
    raft.check_invariants()
    return total


def role_of(raft: Raft) -> Role:
    """Read anew each time: a step may change it."""
    return raft.role


def a_leader(
    configuration: Configuration = THREE, *, config: Config = CONFIG
) -> tuple[Raft, Ready]:
    """Replica 1, just elected in term 1 with the votes of everybody; and what it said then."""
    raft = Raft(
        replica=1,
        boot=1,
        config=config,
        randomness=random.Random(1),
        configuration=configuration,
        hard_state=HardState(),
        log_start=(0, 0),
    )
    while raft.role is Role.FOLLOWER:
        raft.tick()
    for voter in sorted(configuration.all_voters() - {1}):
        raft.step(voter, PreVoteResponse(1, True))
    drain(raft)
    for voter in sorted(configuration.all_voters() - {1}):
        raft.step(voter, VoteResponse(1, True))
    said = drain(raft)
    assert role_of(raft) is Role.LEADER
    return raft, said


def test_a_new_leader_begins_with_a_no_op() -> None:
    _, said = a_leader()
    no_op = Entry(1, 1, EntryKind.NO_OP, 0, 1, b"")
    request = AppendRequest(1, 0, 0, (no_op,), 0)
    assert said.messages == [(2, request), (3, request)]


def test_followers_at_the_same_place_share_one_request() -> None:
    _, said = a_leader()
    (_, to_second), (_, to_third) = said.messages
    assert to_second is to_third, "so that it is encoded once"


def test_the_leader_counts_itself_once_its_write_is_durable() -> None:
    raft, _ = a_leader()
    raft.step(2, AppendResponse(1, True, matched_index=1))
    drain(raft)
    entry = raft.propose(EntryKind.COMMANDS, 0, 1, b"x")
    assert isinstance(entry, Entry)
    ready = raft.ready()
    assert ready.entries == [entry]
    assert len(ready.messages) == 1, "to the follower that is not being probed"
    raft.step(2, AppendResponse(1, True, matched_index=2))
    assert raft.status().commit == 1
    raft.appended(2, 1)
    assert raft.status().commit == 2


def test_an_acknowledgement_of_more_than_was_sent_is_a_bug() -> None:
    raft, _ = a_leader()
    with pytest.raises(AssertionError, match="more than was sent"):
        raft.step(2, AppendResponse(1, True, matched_index=2))


def test_a_request_of_the_own_term_is_a_bug() -> None:
    raft, _ = a_leader()
    with pytest.raises(AssertionError, match="two leaders"):
        raft.step(2, HeartbeatRequest(1, 0))


def test_strangers_are_not_heard() -> None:
    raft, _ = a_leader()
    raft.step(9, AppendResponse(1, True, matched_index=1))
    raft.step(9, HeartbeatResponse(1))
    assert not raft.has_ready()


def test_a_later_term_ends_the_leadership_but_a_mere_candidate_does_not() -> None:
    raft, _ = a_leader()
    raft.step(2, VoteRequest(7, 9, 6))
    assert role_of(raft) is Role.LEADER, "a leader is loyal to itself"
    raft.step(2, HeartbeatResponse(7))
    assert (role_of(raft), raft.term) == (Role.FOLLOWER, 7)


def test_a_heartbeat_never_promises_a_commit_that_the_follower_does_not_hold() -> None:
    raft, _ = a_leader()
    raft.step(2, AppendResponse(1, True, matched_index=1))
    drain(raft)
    raft.tick()
    assert drain(raft).messages == [(2, HeartbeatRequest(1, 1))], "news for n2, none for n3"
    raft.tick()
    assert drain(raft).messages == [(2, HeartbeatRequest(1, 1)), (3, HeartbeatRequest(1, 0))]


def test_what_waits_for_commit_never_makes_a_log_overlong() -> None:
    """No log could be cut any more, and a follower whose log is overlong takes nothing in."""
    roomy = replace(CONFIG, log_inflight_bytes_max=1 << 20, log_bytes_max=1000)
    raft, _ = a_leader(config=roomy)
    while isinstance(raft.propose(EntryKind.COMMANDS, 0, 1, b"x" * 100), Entry):
        assert not raft.log_is_overlong
    assert not raft.log_is_overlong


def test_what_waits_for_commit_is_limited_in_bytes() -> None:
    raft, _ = a_leader()
    big = b"x" * (300 - ENTRY_OVERHEAD_BYTES)
    assert isinstance(raft.propose(EntryKind.COMMANDS, 0, 1, big), Entry)
    assert raft.propose(EntryKind.COMMANDS, 0, 1, b"") is ProposeRefusal.LOG_FULL
    drain(raft)
    raft.step(2, AppendResponse(1, True, matched_index=2))
    assert isinstance(raft.propose(EntryKind.COMMANDS, 0, 1, b""), Entry)
    drain(raft)


def test_log_time_never_falls() -> None:
    raft, _ = a_leader()
    raft.propose(EntryKind.COMMANDS, 50, 1, b"")
    with pytest.raises(AssertionError, match="log time"):
        raft.propose(EntryKind.COMMANDS, 49, 1, b"")


def test_a_leader_counts_the_silence_of_its_followers_in_ticks() -> None:
    raft, _ = a_leader()
    for _ in range(CONFIG.election_ticks_max - 1):
        raft.tick()
    assert role_of(raft) is Role.LEADER
    raft.tick()
    assert role_of(raft) is Role.FOLLOWER
    assert raft.leader is None


def test_a_group_of_one_never_doubts_itself() -> None:
    raft, _ = a_leader(Configuration.initial((11,)))
    assert raft.status().commit == 1
    for _ in range(3 * CONFIG.election_ticks_max):
        raft.tick()
    assert role_of(raft) is Role.LEADER


def test_full_disks_are_known_to_the_leader() -> None:
    raft, _ = a_leader()
    raft.step(3, HeartbeatResponse(1, disk_full=True))
    assert raft.status().full_replicas == {3}
    raft.disk_full = True
    raft.step(3, HeartbeatResponse(1))
    assert raft.status().full_replicas == {1}
