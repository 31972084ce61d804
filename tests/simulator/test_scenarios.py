"""Stories with a fixed course: one for each fault that random runs deal out, and what these meet
too rarely.

Every story of a cluster ends like a random run: all is repaired, all clients are served, all
replicas agree, and the judge finds nothing.
"""

import errno
import random

import pytest

from kvorum_proto import command_pb2
from kvorum_server.config import Config
from kvorum_server.events import Appended, Bootstrapped, Effects, Event, Proposed, Ticked
from kvorum_server.host import Host
from kvorum_server.placement.bootstrap import make_bootstrap
from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import WalDamage
from kvorum_server.storage.wal import WriteAheadLog
from tests.simulator.damage import flip_log, places_below_claim
from tests.simulator.disk import Killed, SimulatedDisk
from tests.simulator.engine import SimulatedEngine
from tests.simulator.node import Node
from tests.simulator.options import draw_options, without_faults
from tests.simulator.scheduler import MILLISECOND, SECOND
from tests.simulator.story import KEYS, Story
from tests.simulator.world import Ambush

IDENTITY = 77
GROUP = 1
CONFIG = Config(checkpoint_entries=10**6)


class LonelyNode:
    """A cluster of one: every turn's write is durable at the next turn."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk(random.Random(1))
        self.engine = SimulatedEngine(random.Random(1))
        self.now = 0
        self.start()

    def start(self) -> None:
        """A process starts on what the disk holds."""
        self.wal, recovered = WriteAheadLog.open(
            self.disk, segment_bytes=CONFIG.segment_bytes, new_identity=lambda: IDENTITY
        )
        self.host = Host(
            config=CONFIG, engine=self.engine, recovered=recovered, randomness=random.Random(1)
        )
        self.durable: list[Event] = []

    def lose_the_state(self) -> None:
        """The engine had flushed nothing; the log has everything."""
        self.engine = SimulatedEngine(random.Random(1))

    def turn(self, *events: Event) -> Effects:
        """One turn, and its write made durable."""
        effects = self.host.turn(self.now, [*self.durable, *events])
        self.durable = []
        if effects.append is not None:
            self.wal.append(effects.append.records)
            self.wal.sync()
            self.durable = [Appended(effects.append.number)]
        self.host.check_invariants()
        return effects

    def tick_until_it_may_lead(self) -> None:
        """Its vote for itself is durable, and it has not been told so yet."""
        reasons: list[str | int] = []
        while "pre-vote won" not in reasons:
            self.now += CONFIG.tick_ms
            changes = self.turn(Ticked(2**40)).transitions
            reasons = [change.details["reason"] for change in changes if change.group == GROUP]

    def put(self, value: bytes) -> Proposed:
        """A command of a client."""
        submission = command_pb2.Submission(put=command_pb2.Put(key=b"key", value=value))
        batch = command_pb2.CommandBatch(submissions=[submission])
        return Proposed(1, GROUP, (1,), batch.SerializeToString())


def test_log_time_goes_on_where_the_log_ended_and_not_where_the_state_did() -> None:
    """A restarted node leads and is asked in one turn, before it has applied what its log holds."""
    node = LonelyNode()
    bootstrap = make_bootstrap(
        cluster_id=b"one",
        members=(("n1", "n1:7400"),),
        identities={"n1": IDENTITY},
        partitions=1,
        replicas=1,
        protocol="raft",
        initial_cluster_hash=b"",
        settings=CONFIG,
    )
    node.turn(Bootstrapped(bootstrap))
    node.tick_until_it_may_lead()
    node.turn()
    assert node.host.replicas[GROUP].is_leader
    for _ in range(5):
        node.now += 400
        node.turn(node.put(b"before"))
    before = node.host.replicas[GROUP].machine.status().log_time
    assert before > 0

    node.lose_the_state()
    node.start()
    assert node.host.replicas[GROUP].machine.status().log_time == 0
    node.tick_until_it_may_lead()
    node.turn(node.put(b"after"))
    assert node.host.replicas[GROUP].is_leader
    for _ in range(3):
        node.turn(Ticked(2**40))
    assert node.host.replicas[GROUP].machine.status().log_time >= before


# --- Links ---


def test_a_clogged_link_delivers_nothing_and_then_everything() -> None:
    story = Story()
    leader, follower = story.leader, story.follower
    before = story.applied(follower)
    network = story.cluster.network
    network.clog(leader.number, follower.number)
    story.run(1500)
    assert story.applied(follower) == before, "nothing has come through"
    assert network.on_the_way(leader.number, follower.number) > 5
    network.unclog(leader.number, follower.number)
    story.run(50)
    assert story.applied(follower) > before
    assert network.statistics.clogged > 5
    story.end()


def test_bytes_that_are_damaged_on_the_wire_break_streams_and_nothing_else() -> None:
    story = Story(corruption=0.05)
    story.run(3000)
    assert story.cluster.faults["streams broken by damaged bytes"] > 20
    assert story.cluster.faults["damaged frames dropped"] > 5
    story.end()


def test_an_outbox_of_two_frames_overflows_and_the_protocol_repeats() -> None:
    story = Story(outbox_frames_max=2, delay_mean=3 * MILLISECOND)
    story.run(3000)
    assert story.cluster.faults["outbox overflows"] > 20
    story.end()


# --- Disks ---


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_an_error_of_the_disk_ends_the_process_and_takes_nothing_that_was_promised(
    operation: str,
) -> None:
    story = Story()
    victim = story.leader
    fail_next(victim, operation, OSError(errno.EIO, "input/output error"))
    story.run_until(lambda: not victim.alive, "end of the process")
    assert story.told(f"cannot {operation} the write-ahead log")
    story.run_until(lambda: story.has_leader, "new leader")
    story.restart(victim)
    story.run(500)
    story.end()


def fail_next(node: Node, operation: str, outcome: OSError | Killed) -> None:
    """The disk of a node raises this in place of the next operation of this name."""

    def interrupt(name: str) -> None:
        if name == operation:
            node.disk.interrupt = lambda _: None
            raise outcome

    node.disk.interrupt = interrupt


def test_a_disk_that_is_full_in_the_middle_of_an_append_is_waited_for() -> None:
    """The next segment cannot be made: nothing has changed, and the write is tried again."""
    story = Story()
    victim = story.leader
    full = DiskFull(errno.ENOSPC, "no space left")
    refused: list[str] = []

    def interrupt(name: str) -> None:
        if name == "create" and len(refused) < 20:
            refused.append(name)
            raise full

    victim.disk.interrupt = interrupt
    story.run_until(lambda: len(refused) == 20, "new segment")
    assert victim.alive
    story.end()


def test_a_leader_whose_disk_is_stuck_hands_over() -> None:
    """Heartbeats need no disk, so everybody would follow it for ever."""
    story = Story()
    leader = story.leader
    leader.stick_disk(60 * SECOND)
    passed = story.run_until(
        lambda: leader not in story.leaders() and story.has_leader, "other leader"
    )
    longest = story.cluster.options.config.election_ticks_max * 15
    assert passed < 5 * longest
    assert story.told("its own writes do not become durable")
    story.run(500)
    story.end()


@pytest.mark.parametrize("power_loss", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 13, 21])
def test_a_crash_in_the_middle_of_a_step(steps: int, power_loss: bool) -> None:
    story = Story()
    victim = story.leader
    victim.ambush = Ambush(steps, Killed(power_loss=power_loss))
    story.run_until(lambda: not victim.alive, "end of the process")
    # It dies once more, in the middle of its recovery.
    victim.ambush = Ambush(steps // 2, Killed(power_loss=power_loss))
    story.restart(victim)
    story.run(100)
    if not victim.alive:
        story.restart(victim)
    story.run(300)
    assert victim.alive
    story.end()


# --- Damage ---


def test_a_bit_that_flips_in_the_log_is_found_at_the_next_start() -> None:
    story = Story()
    story.run(1000)
    victim = story.leader
    assert flip_log(victim.disk, random.Random(1))
    assert victim.is_spoiled
    story.crash(victim)
    story.restart(victim)
    assert "write-ahead log damaged" in victim.lost
    story.run(1000)
    story.end()


def test_every_single_place_below_the_claim_is_watched() -> None:
    """One flip for each hundredth byte of what was claimed: entries, votes, prefixes, claims."""
    story = Story(nodes=1, operations_max=60)
    story.run(1500)
    node = story.leader
    for name, used in places_below_claim(node.disk):
        for offset in range(0, used, 101):
            disk = node.disk.copy(random.Random(1))
            disk.flip(name, offset, offset % 8)
            assert disk.damaged
            with pytest.raises(WalDamage):
                WriteAheadLog.open(disk, segment_bytes=8 * 1024, new_identity=lambda: 1)
    story.end()


def test_rows_that_rot_are_noticed_when_they_are_read_and_the_state_is_rebuilt() -> None:
    story = Story()
    story.run(2500)
    victim = story.follower
    identity, number = victim.identity, victim.number
    victim.engine.rot(1000)
    story.run_until(lambda: not victim.alive, "end of the process")
    assert story.told("block checksum mismatch")
    story.restart(victim)
    story.run_until(lambda: not victim.is_spoiled, "whole state")
    assert (victim.identity, victim.number, victim.lost) == (identity, number, "")
    story.end()


def test_files_of_the_state_that_are_lost_are_missed_at_the_next_start() -> None:
    story = Story()
    story.run(2500)
    victim = story.follower
    story.crash(victim)
    victim.state_is_lost = True
    victim.engine.lose()
    story.restart(victim)
    assert story.told("but a checkpoint at")
    story.run_until(lambda: not victim.is_spoiled, "whole state")
    story.end()


def test_a_machine_with_an_empty_disk_is_nobody() -> None:
    story = Story()
    story.run(500)
    victim = story.leader
    story.crash(victim, power_loss=True)
    victim.lost = "its disk was lost"
    newcomer = story.cluster.add_node(victim.name, story.cluster.new_identity())
    story.restart(newcomer)
    story.run_until(lambda: bool(newcomer.lost), "refusal")
    assert f"does not know the data directory of {victim.name}" in newcomer.lost
    story.run(500)
    story.end()


@pytest.mark.parametrize("has_restarted", [False, True])
def test_an_old_disk_is_not_let_in(has_restarted: bool) -> None:
    """Whether its peers know a later boot of it, or only that its log had come further."""
    story = Story()
    story.run(500)
    victim = story.follower
    disk, engine = victim.disk.copy(random.Random(1)), victim.engine.copy(random.Random(1))
    story.run(2000)
    if has_restarted:
        story.crash(victim)
        story.restart(victim)
        story.run(100)
    story.crash(victim, power_loss=True)
    victim.lost = "its disk was exchanged for an old one"
    copy = story.cluster.add_node(victim.name, victim.identity, is_copy=True)
    copy.disk, copy.engine = disk, engine
    story.restart(copy)
    story.run(1000)
    assert story.cluster.faults["hellos refused"] >= 1
    assert story.told("old copy" if not has_restarted else "another process runs with the identity")
    story.end()


# --- Processes ---


def test_a_slow_machine_and_a_clock_that_jumps() -> None:
    story = Story()
    story.leader.slowness = 150.0
    story.run(1000)
    for node in story.nodes:
        node.step_clock(5000)
        story.run(300)
    assert story.has_leader
    story.end()


@pytest.mark.parametrize("nodes", [3, 5])
def test_a_quorum_works_on_its_own_and_the_others_come_back(nodes: int) -> None:
    story = Story(nodes=nodes, core_first=True)
    story.run(500)
    story.end()
    assert sum(
        count for fault, count in story.cluster.faults.items() if fault.startswith("outside")
    ) == nodes - (nodes // 2 + 1)


# --- Members ---


def test_an_operator_replaces_whoever_is_lost() -> None:
    story = Story(change_every=1000 * SECOND)
    story.run(1000)
    victim = story.leader
    story.crash(victim, power_loss=True)
    victim.lost = "its machine has burnt"
    story.end()
    names = {node.name for node in story.cluster.holders(KEYS)}
    assert names == {"n1", "n2", "n3"}
    assert victim not in story.cluster.holders(KEYS)


def test_members_change_again_and_again_until_none_of_the_first_is_left() -> None:
    story = Story(change_every=120 * MILLISECOND, operations_max=300)
    first = set(story.nodes)
    story.run_until(
        lambda: not first & set(story.cluster.holders(KEYS)), "end of the first members", 60_000
    )
    story.end()
    assert story.cluster.faults["operator: replace"] >= 1


def test_a_removed_node_comes_back_with_its_old_disk_and_leaves_again() -> None:
    story = Story(nodes=4)
    story.run(300)
    victim = story.leader
    operator = story.simulation.nemesis.operator
    command = command_pb2.RemoveMember(name=victim.name)
    story.run_until(
        lambda: operator.tell(command_pb2.Submission(remove_member=command)), "catalog leader"
    )
    story.run_until(lambda: not victim.alive, "end of the removed node")
    story.run(500)
    victim.lost = ""  # Its operator wants to see for himself.
    story.restart(victim)
    story.run_until(lambda: not victim.alive, "second end")
    assert story.told("was removed from the cluster") or victim.was_removed
    story.end()


def test_the_address_of_a_member_that_leaves_when_all_is_repaired_leads_to_another() -> None:
    story = Story(nodes=4)
    story.run(300)
    nemesis, endpoints = story.simulation.nemesis, story.cluster._world.endpoints
    nemesis.stop()
    nemesis.repair()
    victim = story.leader
    assert endpoints[victim.address] == victim.number
    command = command_pb2.RemoveMember(name=victim.name)
    story.run_until(
        lambda: nemesis.operator.tell(command_pb2.Submission(remove_member=command)),
        "catalog leader",
    )
    story.run_until(lambda: victim.was_removed, "end of the removed node")
    assert story.nodes[endpoints[victim.address] - 1] in story.cluster.members
    story.end()


def test_a_quiet_world_has_no_faults() -> None:
    options = without_faults(draw_options(1))
    assert all(
        getattr(options, name) == 0 for name in type(options).__slots__ if name.endswith("_every")
    )
