"""Replicas that begin by a leader's word, end for good, and leave nothing behind."""

import pytest

from kvorum_server.events import Bootstrapped, Received
from kvorum_server.outbox import Outbox
from kvorum_server.replicas import Replicas
from kvorum_server.types import (
    AppendRequest,
    ConsensusMessage,
    Envelope,
    HeartbeatRequest,
    ReplicaRemoved,
    TimeoutNow,
    VoteRequest,
)
from tests.unit.host_setup import GROUP, Machine, alone, certificate, put

LEADER = 22


def newcomer() -> Machine:
    """A node that was let in: it has the certificate of a cluster that does not name it."""
    machine = Machine(44)
    machine.turn(Bootstrapped(certificate([11, LEADER, 33])))
    machine.settle()
    assert not machine.host.replicas
    return machine


def hear(machine: Machine, target: int, message: ConsensusMessage) -> None:
    machine.turn(Received(LEADER, (Envelope(GROUP, 2, target, message),)))
    machine.settle()


def test_a_leaders_message_makes_an_empty_learner_that_answers() -> None:
    machine = newcomer()
    hear(machine, 4, AppendRequest(3, 7, 2, (), 0))
    replica = machine.replica
    assert (replica.replica, replica.consensus.role.value) == (4, "learner")
    assert {target for target, _ in machine.sent} == {LEADER}
    machine.crash()
    machine.start()
    assert machine.replica.replica == 4, "it is durable"


def test_nobody_but_a_leader_makes_a_replica() -> None:
    machine = newcomer()
    for message in (VoteRequest(9, 9, 9), TimeoutNow(9)):
        hear(machine, 4, message)
    assert not machine.host.replicas


def test_an_empty_learner_grants_no_vote() -> None:
    machine = newcomer()
    hear(machine, 4, HeartbeatRequest(3, 0))
    machine.sent.clear()
    machine.tick(machine.config.election_ticks_max)
    hear(machine, 4, VoteRequest(9, 9, 9))
    granted = [getattr(envelope.message, "granted", False) for _, envelope in machine.sent]
    assert granted == [False]


def test_a_larger_id_ends_the_smaller_one_and_late_messages_find_nobody() -> None:
    machine = newcomer()
    hear(machine, 4, HeartbeatRequest(3, 0))
    old_space = machine.replica.space
    hear(machine, 7, HeartbeatRequest(5, 0))
    assert machine.replica.replica == 7
    assert machine.replica.space != old_space
    machine.sent.clear()
    hear(machine, 4, HeartbeatRequest(6, 0))
    assert [envelope.message for _, envelope in machine.sent] == [ReplicaRemoved(4)]
    assert machine.replica.replica == 7


def test_what_was_removed_stays_removed_after_a_crash() -> None:
    machine = newcomer()
    hear(machine, 4, HeartbeatRequest(3, 0))
    hear(machine, 4, HeartbeatRequest(3, 0))
    machine.turn(Received(LEADER, (Envelope(GROUP, 2, 4, ReplicaRemoved(4)),)))
    machine.tick()
    assert not machine.host.replicas
    machine.crash()
    machine.start()
    assert not machine.host.replicas
    hear(machine, 4, HeartbeatRequest(8, 0))
    assert not machine.host.replicas


def test_the_rows_of_a_removed_replica_go_when_that_is_durable() -> None:
    machine = alone()
    machine.propose(put(b"a"))
    machine.settle()
    space = machine.replica.space
    outbox = Outbox()
    machine.host._replicas.retire(machine.replica, outbox)
    assert space in machine.engine.spaces(), "not before its end is durable"
    for action in outbox.when_durable:
        action()
    assert space not in machine.engine.spaces()


def test_who_waits_for_a_removed_replica_is_told() -> None:
    machine = alone()
    (request,) = machine.propose(put(b"a"))
    outbox = Outbox()
    machine.host._replicas.retire(machine.replica, outbox)
    (reply,) = outbox.replies.values()
    assert reply.ids == [request]


def test_an_id_that_was_removed_is_never_given_again() -> None:
    machine = alone()
    replicas: Replicas = machine.host._replicas
    configuration = machine.replica.applied_configuration
    replicas.retire(machine.replica, Outbox())
    with pytest.raises(AssertionError, match="a removed replica never comes back"):
        replicas.create(GROUP, 1, configuration, Outbox())
