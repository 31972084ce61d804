"""Stories with a fixed course, told to a single Host: what random runs meet too rarely."""

import random

from kvorum_proto import command_pb2
from kvorum_server.config import Config
from kvorum_server.events import Appended, Bootstrapped, Effects, Event, Proposed, Ticked
from kvorum_server.host import Host
from kvorum_server.placement.bootstrap import make_bootstrap
from kvorum_server.storage.wal import WriteAheadLog
from tests.simulator.disk import SimulatedDisk
from tests.simulator.engine import SimulatedEngine

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
