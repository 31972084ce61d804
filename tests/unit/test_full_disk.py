"""Disks that run full and get room again: what goes on, who leads, and that nobody has to help."""

import dataclasses

import pytest

from kvorum_proto import command_pb2 as wire
from kvorum_proto.command_pb2 import DISK_FULL, Compact, Submission
from kvorum_server.events import Proposed
from kvorum_server.status import alarms
from kvorum_server.types import AppendRequest, SnapshotChunk
from tests.unit.host_setup import (
    CLIENT,
    CONFIG,
    GROUP,
    PLENTY,
    Machine,
    Sent,
    Trio,
    alone,
    delete,
    encoded,
    put,
    trio,
)

RESERVED = dataclasses.replace(CONFIG, disk_reserve_bytes=1000)


def writes(cluster: Trio, leader: Machine, key: bytes) -> bool:
    """Whether a put goes through; if not, because there is no room."""
    (request,) = leader.propose(put(key))
    cluster.tick(2)
    if leader.answers[request].HasField("put"):
        return True
    assert leader.error(request).code == DISK_FULL
    assert "delete keys or compact, or add disk space" in leader.error(request).message
    return False


def entries_to(cluster: Trio, target: Machine) -> list[AppendRequest]:
    """Appends with entries that are on their way to a node."""
    return [
        envelope.message
        for machine in cluster.machines
        for to, envelope in machine.sent
        if to == target.identity
        and envelope.group == GROUP
        and isinstance(envelope.message, AppendRequest)
        and envelope.message.entries
    ]


def test_a_log_that_cannot_prepare_room_is_full_even_without_a_reserve() -> None:
    machine = alone(dataclasses.replace(CONFIG, disk_reserve_bytes=0))
    machine.free_bytes = 0
    machine.tick()
    (refused,) = machine.propose(put(b"k"))
    assert machine.error(refused).code == DISK_FULL
    machine.free_bytes = 1
    machine.tick()
    (request,) = machine.propose(put(b"k"))
    machine.settle()
    assert machine.answers[request].HasField("put")


def test_a_replica_without_room_gets_no_entries_until_it_has_some() -> None:
    cluster = trio(RESERVED)
    leader, full, other = cluster.machines
    full.free_bytes = 0
    cluster.tick(10)
    behind = full.replica.consensus.status().last_index
    for number in range(20):
        leader.propose(put(b"%d" % number))
        assert not entries_to(cluster, full)
        assert entries_to(cluster, other)
        cluster.settle()
        cluster.tick()
    assert full.replica.consensus.status().last_index == behind
    assert leader.value(b"19") == b"v"
    full.free_bytes = PLENTY
    cluster.tick(10)
    assert full.value(b"19") == b"v"


def test_one_full_and_one_dead_of_three_leave_reads_and_deletes() -> None:
    cluster = trio(RESERVED)
    leader, full, dead = cluster.machines
    assert writes(cluster, leader, b"k")
    full.free_bytes = 0
    cluster.tick(10)
    cluster.cut_off = {dead.identity}
    cluster.tick(RESERVED.election_ticks_max + 2)
    assert leader.is_leader()
    assert not writes(cluster, leader, b"more")
    (freed,) = leader.propose(delete(b"k"))
    cluster.tick(4)
    assert leader.answers[freed].delete.deleted, "the full replica takes what frees space"
    assert full.value(b"k") is None
    cluster.cut_off = set()
    cluster.tick(6)
    assert writes(cluster, leader, b"more"), "with the third one back there is room"


def test_a_put_that_waits_for_a_dead_replica_is_taken_by_the_full_one_in_the_end() -> None:
    cluster = trio(RESERVED)
    leader, full, dead = cluster.machines
    full.free_bytes = 0
    cluster.tick(10)
    cluster.cut_off = {dead.identity}
    (request,) = leader.propose(put(b"k"))
    cluster.tick(4)
    assert request not in leader.answers
    cluster.tick(RESERVED.election_ticks_max)
    assert leader.answers[request].HasField("put"), "better some of the reserve than no answer"


def test_everybody_full_frees_space_and_recovers_alone() -> None:
    cluster = trio(RESERVED)
    assert writes(cluster, cluster.machines[0], b"k")
    for machine in cluster.machines:
        machine.free_bytes = 999
    cluster.tick(20)
    (leader,) = (machine for machine in cluster.machines if machine.is_leader())
    term = leader.replica.consensus.term
    cluster.tick(100)
    assert leader.replica.consensus.term == term, "nobody is better off than the leader"
    assert not writes(cluster, leader, b"more")
    session = Submission(session_open=wire.SessionOpen())
    freeing = leader.propose(session, delete(b"k"), Submission(compact=Compact(revision=2)))
    cluster.tick(4)
    answered = [leader.answers[request].WhichOneof("result") for request in freeing]
    assert answered == ["session_open", "delete", "compact"]
    for machine in cluster.machines:
        machine.free_bytes = 1999
    cluster.tick(4)
    assert not writes(cluster, leader, b"more"), "not before there is twice the reserve"
    for machine in cluster.machines:
        machine.free_bytes = 2000
    cluster.tick(4)
    assert writes(cluster, leader, b"more")


def test_the_status_says_what_is_full_until_it_is_not() -> None:
    cluster = trio(RESERVED)
    leader, *followers = cluster.machines
    assert alarms(leader.host, joins=False) == []
    for follower in followers:
        follower.free_bytes = 0
    cluster.tick(4)
    assert alarms(leader.host, joins=False) == [
        "group 1 refuses writes: no quorum of its disks has room"
    ]
    (alarm,) = alarms(followers[0].host, joins=False)
    assert alarm == "disk full: writes are refused until space is free"
    for follower in followers:
        follower.free_bytes = PLENTY
    cluster.tick(4)
    assert [alarms(machine.host, joins=False) for machine in cluster.machines] == [[], [], []]


@pytest.mark.parametrize("roomy", [1, 2])
def test_a_full_leader_hands_over_to_who_has_room(roomy: int) -> None:
    cluster = trio(RESERVED)
    for machine in cluster.machines:
        machine.free_bytes = PLENTY if machine is cluster.machines[roomy] else 0
    cluster.tick(20)
    assert cluster.machines[roomy].is_leader()


def test_the_members_can_be_changed_on_a_full_disk() -> None:
    machine = alone(RESERVED)
    machine.free_bytes = 0
    machine.tick()
    (request,) = machine.request()
    command = Submission(add_member=wire.AddMember(name="n2", address="n2:7400"))
    machine.turn(Proposed(CLIENT, 0, (request,), encoded(command)))
    machine.settle()
    assert machine.answers[request].error.code != DISK_FULL


def test_a_node_without_room_takes_no_snapshot_before_it_has_some() -> None:
    cluster = trio(dataclasses.replace(RESERVED, checkpoint_entries=5, log_tail_entries=0))
    leader, behind, _ = cluster.machines
    cluster.cut_off = {behind.identity}
    for number in range(30):
        leader.propose(put(b"%d" % number))
        cluster.tick()
    cluster.cut_off = set()
    behind.free_bytes = 0
    chunks = 0

    def count(sent: list[Sent]) -> list[Sent]:
        nonlocal chunks
        chunks += sum(isinstance(envelope.message, SnapshotChunk) for _, _, envelope in sent)
        return sent

    cluster.fate = count
    cluster.tick(40)
    assert behind.value(b"29") is None
    assert chunks < 40, "it is not asked to take one all the time"
    behind.free_bytes = PLENTY
    cluster.tick(RESERVED.snapshot_timeout_ticks + 20)
    assert behind.value(b"29") == b"v"
