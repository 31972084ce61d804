"""A replica whose rows are wrong or lost: found, kept from serving, given back a state."""

from dataclasses import replace

import pytest

from kvorum_proto import command_pb2 as wire
from kvorum_server.consensus.core import Role
from kvorum_server.events import CompareAsked, PeerConnected
from kvorum_server.lost_state import irreplaceable, without_states
from kvorum_server.state_hash import shared_rows
from kvorum_server.storage.errors import StateDamaged
from kvorum_server.storage.record import StateLost, StateRebuilt
from kvorum_server.storage.rows import Table, table_prefix
from tests.unit.host_setup import CONFIG, GROUP, Machine, Trio, alone, put, trio

COMPARING = replace(CONFIG, state_hash_interval_ms=500, state_hash_slice_rows=2)

CUTTING = replace(COMPARING, checkpoint_entries=10, log_tail_entries=2)
"""Logs that were cut: a state cannot be made again from its own log."""


def fill(cluster: Trio, leader: Machine, count: int = 8) -> None:
    """So many puts, a turn each, applied everywhere."""
    for number in range(count):
        leader.propose(put(b"key%d" % number, b"value"))
        cluster.settle()
    cluster.tick(2)


def flip_a_row(machine: Machine) -> None:
    """A bit of a current row turns over in the engine; nobody has noticed."""
    start = table_prefix(machine.replica.space, Table.CURRENT)
    key, value = next(machine.engine.scan(start, start + b"\xff"))
    machine.engine.write({key: bytes((*value[:-1], value[-1] ^ 1))})


def found(machine: Machine, name: str) -> int:
    """How often a transition was worth a log line."""
    return sum(transition.name == name for transition in machine.transitions)


def rows(machine: Machine) -> list[tuple[bytes, bytes]]:
    """What all replicas share."""
    return list(shared_rows(machine.engine, machine.replica.space))


def assert_same_state(cluster: Trio, one: Machine, other: Machine) -> None:
    """The same rows once both have applied the same entries."""
    ticks_left = 20
    while one.replica.applied != other.replica.applied and ticks_left:
        cluster.tick()
        ticks_left -= 1
    assert rows(one) == rows(other)


def lose_the_state(machine: Machine) -> None:
    """The machine stops and its rows are gone; the log has everything."""
    for space in machine.engine.spaces():
        machine.engine.drop(space)
    machine.engine.flush()


# --- Comparing ---


def test_equal_states_are_found_equal_once_an_interval() -> None:
    cluster = trio(COMPARING)
    leader = cluster.machines[0]
    fill(cluster, leader)
    cluster.tick(60)
    verdict = leader.replica.comparison.verdict
    assert verdict is not None
    assert verdict.describe().endswith(")"), "everybody answered"
    assert verdict.agreed is not None
    assert not verdict.differs
    assert leader.replica.comparison.agreed_at[0] == verdict.index
    # Nothing was written since: nothing is compared again.
    cluster.tick(100)
    assert leader.replica.comparison.verdict == verdict


def test_an_operator_may_ask_at_any_time() -> None:
    cluster = trio(replace(COMPARING, state_hash_interval_ms=0))
    leader = cluster.machines[0]
    fill(cluster, leader)
    cluster.tick(100)
    assert leader.replica.comparison.verdict is None, "0 = never by itself"
    for machine in cluster.machines:
        machine.turn(CompareAsked())
    cluster.tick(40)
    for group in (0, GROUP):
        verdict = leader.host.replicas[group].comparison.verdict
        assert verdict is not None
        assert not verdict.differs
        assert not verdict.missing


def test_a_flipped_row_is_found_and_replaced_by_a_snapshot() -> None:
    cluster = trio(COMPARING)
    leader, _, damaged = cluster.machines
    fill(cluster, leader)
    flip_a_row(damaged)
    assert rows(damaged) != rows(leader)
    cluster.tick(80)
    assert found(leader, "states differ") == 1
    assert found(damaged, "state lost") == 1
    assert found(damaged, "snapshot installed") == 1
    assert rows(damaged) == rows(leader)
    assert any(isinstance(record, StateRebuilt) for record in damaged.log_records)
    assert damaged.engine.spaces() == sorted(
        replica.space for replica in damaged.host.replicas.values()
    )
    # The next comparison finds all equal, and the replica may lead.
    cluster.tick(100)
    leader.turn(CompareAsked())
    cluster.tick(100)
    verdict = leader.replica.comparison.verdict
    assert verdict is not None
    assert not verdict.differs
    assert not verdict.missing
    assert leader.replica.hand_over([damaged.identity], None)
    cluster.tick(2)
    assert damaged.is_leader()


def test_a_leader_in_the_minority_gives_up_its_leadership() -> None:
    cluster = trio(COMPARING)
    damaged, *others = cluster.machines
    fill(cluster, damaged)
    flip_a_row(damaged)
    while not found(damaged, "state lost"):
        cluster.tick()
    assert not damaged.is_leader()
    cluster.tick(60)
    assert any(machine.is_leader() for machine in others)
    assert found(damaged, "snapshot installed") == 1
    assert rows(damaged) == rows(others[0])


def test_without_a_majority_nobody_is_touched() -> None:
    cluster = trio(COMPARING)
    leader = cluster.machines[0]
    fill(cluster, leader)
    for machine in cluster.machines[1:]:
        start = table_prefix(machine.replica.space, Table.CURRENT)
        machine.engine.write({start + b"ghost\x00\x01": b"%d" % machine.identity})
    cluster.tick(60)
    verdict = leader.replica.comparison.verdict
    assert verdict is not None
    assert verdict.agreed is None
    assert verdict.differing == (1, 2, 3)
    assert not any(found(machine, "state lost") for machine in cluster.machines)


def test_a_silent_replica_is_waited_for_and_then_left_out() -> None:
    cluster = trio(COMPARING)
    leader, _, silent = cluster.machines
    fill(cluster, leader)
    cluster.cut_off.add(silent.identity)
    leader.propose(put(b"more"))
    # Its stream stands, but nothing comes.
    cluster.tick(60)
    assert leader.replica.comparison.verdict is None
    cluster.tick(60)
    verdict = leader.replica.comparison.verdict
    assert verdict is not None
    assert verdict.missing == (3,)
    assert not verdict.differs


# --- Rebuilding ---


def test_a_rebuilding_replica_serves_nobody_and_does_its_part_for_commit() -> None:
    cluster = trio(COMPARING)
    leader, away, damaged = cluster.machines
    fill(cluster, leader)
    cluster.fate = lambda sent: [
        one for one in sent if type(one[2].message).__name__ != "SnapshotChunk"
    ]
    flip_a_row(damaged)
    while not damaged.replica.consensus.rebuilding:
        cluster.tick()
    (request,) = damaged.ask(wire.Query(get=wire.Get(key=b"key1"), consistency=wire.Query.STALE))
    assert damaged.error(request).code == wire.TOO_STALE
    cluster.cut_off.add(away.identity)
    (request,) = leader.propose(put(b"with", b"two"))
    cluster.tick(2)
    assert leader.answers[request].put.revision, "two acknowledged: the leader and the rebuilding"
    cluster.cut_off.add(leader.identity)
    for _ in range(100):
        damaged.tick()
    assert damaged.replica.consensus.role is Role.FOLLOWER, "who has no state does not campaign"
    cluster.cut_off.clear()
    cluster.fate = lambda sent: sent
    cluster.tick(200)
    assert rows(damaged) == rows(leader)
    assert damaged.value(b"with") == b"two"


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 6, 9, 12])
def test_a_crash_at_any_step_of_a_rebuild_comes_back_rebuilding_or_rebuilt(steps: int) -> None:
    """Between two turns, syncs and flushes of the rebuilding node its power fails."""
    cluster = trio(CUTTING)
    leader, _, damaged = cluster.machines
    fill(cluster, leader, count=30)
    for machine in cluster.machines:
        machine.settle()
    assert damaged.replica.log_start > 0
    flip_a_row(damaged)
    while not found(damaged, "state lost"):
        cluster.tick()
    leader.propose(put(b"meanwhile"))
    for _ in range(steps):
        for machine in (leader, cluster.machines[1]):
            machine.tick()
        cluster.deliver()
        damaged.now += CUTTING.tick_ms
        if damaged.writes:
            damaged.sync()
        elif damaged.flushes:
            damaged.flush()
        else:
            damaged.turn()
    was_rebuilding = damaged.replica.consensus.rebuilding
    is_noted = any(isinstance(record, StateLost) for record in damaged.log_records)
    damaged.crash()
    damaged.start()
    if is_noted and was_rebuilding:
        assert damaged.replica.consensus.rebuilding, "what is half there is not served"
    for other in cluster.machines:
        if other is not damaged:
            damaged.turn(PeerConnected(other.identity))
    ticks_left = 150
    while damaged.replica.consensus.rebuilding and ticks_left:
        cluster.tick()
        ticks_left -= 1
    cluster.tick(10)
    assert not damaged.replica.consensus.rebuilding
    assert_same_state(cluster, damaged, leader)
    assert damaged.host.identity == damaged.identity


def test_a_node_that_starts_without_its_state_gets_it_back_under_its_old_identity() -> None:
    cluster = trio(CUTTING)
    leader, _, damaged = cluster.machines
    fill(cluster, leader, count=30)
    lose_the_state(damaged)
    with pytest.raises(StateDamaged):
        damaged.start()
    vote = damaged.recovered.replicas[GROUP].hard_state
    assert irreplaceable(damaged.recovered.replicas) is None
    damaged.start_without_state()
    assert damaged.replica.consensus.rebuilding
    assert damaged.recovered.replicas[GROUP].hard_state == vote
    leader.propose(put(b"meanwhile", b"seen"))
    cluster.tick(60)
    for group in (0, GROUP):
        assert not damaged.host.replicas[group].consensus.rebuilding
    assert rows(damaged) == rows(leader)
    assert damaged.value(b"meanwhile") == b"seen"
    # And that is how it starts the next time.
    damaged.crash()
    damaged.start()
    cluster.tick(20)
    assert rows(damaged) == rows(leader)


def test_a_log_that_was_never_cut_makes_the_state_again() -> None:
    machine = alone(replace(CONFIG, checkpoint_entries=10, log_tail_entries=1000))
    for number in range(12):
        machine.propose(put(b"key%d" % number, b"value"))
        machine.settle()
    assert machine.replica.checkpoint_index > 0
    lose_the_state(machine)
    with pytest.raises(StateDamaged):
        machine.start()
    assert irreplaceable(machine.recovered.replicas) is None
    machine.start_without_state()
    machine.tick(CONFIG.election_ticks_max + 1)
    assert machine.is_leader()
    assert machine.value(b"key11") == b"value"
    machine.crash()
    machine.start()
    machine.tick(CONFIG.election_ticks_max + 1)
    assert machine.value(b"key0") == b"value"


def test_a_node_alone_with_a_cut_log_cannot_make_its_state_again() -> None:
    machine = alone(replace(CONFIG, checkpoint_entries=5, log_tail_entries=0))
    for number in range(30):
        machine.propose(put(b"key%d" % number, b"value"))
        machine.settle()
    assert machine.replica.log_start > 0
    machine.crash()
    machine.start()
    assert irreplaceable(machine.recovered.replicas) is not None
    assert all(
        replica.state_lost for replica in without_states(machine.recovered).replicas.values()
    )
