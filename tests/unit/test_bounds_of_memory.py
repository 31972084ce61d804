"""What a node holds in memory has an end, also when its disk or its engine cannot keep up."""

import dataclasses
import itertools

from kvorum_proto.command_pb2 import BUSY
from kvorum_server.config import Config
from kvorum_server.events import Bootstrapped, Received, Ticked
from kvorum_server.types import AppendRequest, AppendResponse, Entry, EntryKind, Envelope
from tests.unit.host_setup import (
    CONFIG,
    GROUP,
    PLENTY,
    Machine,
    Trio,
    alone,
    certificate,
    encoded,
    put,
    trio,
)

SHORT = dataclasses.replace(CONFIG, log_bytes_max=2000, checkpoint_bytes=1 << 20)


def behind(machine: Machine) -> None:
    """The engine of a node has fallen behind."""
    machine.now += CONFIG.tick_ms
    machine.turn(Ticked(PLENTY, engine_is_behind=True))


def fill(cluster: Trio, leader: Machine, count: int, slow: Machine) -> int:
    """Puts of 100 bytes under the noses of a node that applies nothing; how many were answered."""
    requests: list[int] = []
    for number in range(count):
        requests += leader.propose(put(b"%d" % number, b"v" * 100))
        behind(slow)
        cluster.settle()
    return sum(
        request in leader.answers and leader.answers[request].HasField("put")
        for request in requests
    )


def test_a_follower_whose_engine_is_behind_applies_nothing_and_costs_no_turns() -> None:
    cluster = trio()
    leader, slow, _ = cluster.machines
    applied = slow.replica.applied
    assert fill(cluster, leader, 3, slow) == 3
    assert slow.replica.has_backlog
    assert slow.replica.applied == applied
    assert not slow.turn().again
    cluster.tick(4)
    assert slow.value(b"2") == b"v" * 100


def test_a_leader_whose_engine_is_behind_still_answers_what_it_admitted() -> None:
    machine = alone()
    behind(machine)
    (request,) = machine.propose(put(b"k"))
    machine.settle()
    assert machine.answers[request].HasField("put")


def test_a_follower_that_does_not_apply_takes_no_more_entries_at_some_point() -> None:
    cluster = trio(SHORT)
    leader, slow, _ = cluster.machines
    assert fill(cluster, leader, 100, slow) == 100, "the others are a quorum"
    assert slow.replica.consensus.log_bytes < 3 * SHORT.log_bytes_max
    assert leader.replica.consensus.log_bytes < 3 * SHORT.log_bytes_max, "it makes checkpoints"
    cluster.tick(20)
    assert slow.value(b"99") == b"v" * 100, "and gets the rest when it has caught up"


def test_a_follower_with_too_long_a_log_drops_entries_and_not_heartbeats() -> None:
    tiny = Config(segment_bytes=64 * 1024, log_bytes_max=1)
    cluster = trio(tiny)
    leader, follower, _ = cluster.machines
    leader.propose(put(b"a"))
    cluster.deliver()
    behind(follower)
    follower.settle()
    last = follower.replica.consensus.status().last_index
    leader.propose(put(b"b"))
    appends = [
        envelope
        for target, envelope in leader.sent
        if target == follower.identity and isinstance(envelope.message, AppendRequest)
    ]
    follower.sent.clear()
    follower.turn(Received(leader.identity, tuple(appends)))
    assert follower.replica.consensus.status().last_index == last
    answers = [e.message for _, e in follower.sent if isinstance(e.message, AppendResponse)]
    assert not [answer for answer in answers if answer.matched_index > last]


def test_a_leader_whose_log_cannot_be_cut_is_busy() -> None:
    machine = alone(SHORT)
    refused = 0
    for number in range(60):
        (request,) = machine.propose(put(b"%d" % number, b"v" * 100))
        if machine.writes:
            machine.sync()  # and never a flush: no checkpoint becomes durable
        if machine.answers[request].HasField("error"):
            assert machine.error(request).code == BUSY
            refused += 1
    assert refused > 10
    assert machine.replica.consensus.log_bytes < 3 * SHORT.log_bytes_max
    machine.settle()
    (request,) = machine.propose(put(b"after", b"v"))
    machine.settle()
    assert machine.answers[request].HasField("put")


def test_the_groups_of_a_node_share_what_a_turn_may_do() -> None:
    config = dataclasses.replace(CONFIG, apply_commands_max=2)
    machine = Machine(22, config)
    bootstrap = certificate([11, 22], config)
    bootstrap.partitions = 3
    machine.turn(Bootstrapped(bootstrap))
    machine.settle()
    groups = [group for group in machine.host.replicas if group]
    assert groups == [1, 2, 3]
    for group in groups:
        replica = machine.host.replicas[group]
        source = next(r for r in (1, 2) if r != replica.replica)
        entries = tuple(
            Entry(index, 1, EntryKind.COMMANDS, 0, 1, encoded(put(b"%d" % index)))
            for index in range(1, 7)
        )
        append = AppendRequest(1, 0, 0, entries, len(entries))
        machine.turn(Received(11, (Envelope(group, source, replica.replica, append),)))
    applied: list[list[int]] = []
    machine.sync()
    while machine.turn().again:
        applied.append([machine.host.replicas[group].applied[0] for group in groups])
    steps = [sum(after) - sum(before) for before, after in itertools.pairwise(applied)]
    assert max(steps) <= 2
    assert max(applied[4]) - min(applied[4]) <= 4, "nobody waits until another one is done"
    assert [machine.host.replicas[group].applied[0] for group in groups] == [6, 6, 6]
    assert machine.host.replicas[GROUP].applied[0] == 6
