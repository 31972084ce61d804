"""What every consensus protocol owes, under everything that may go wrong.

A seeded storm moves a cluster of three or five by hand: messages overtake each other, are lost or
come twice, nodes crash with unsynced writes and come back, the network splits, logs are cut and
snapshots installed, leaders are asked to hand over, connections seem lost. Limits are tiny, so
that windows fill and requests are cut. After every step:

-   one leader per term, and it holds everything that was committed before it (election safety,
    leader completeness);
-   whatever is applied anywhere is the same everywhere at the same index, and lies on the disks of
    a quorum by then (nothing is acknowledged before a quorum's fsync);
-   two disks that agree in one place agree in everything before it (log matching);
-   term and commit index of a running replica never fall;
-   a read is served at an index not below what had been applied anywhere when it was asked for.

Then the storm ends, and a leader must emerge, take a command, and bring everybody to the same
state.

The seed is in the name of each test case.
"""

import random
from collections.abc import Callable

import pytest

from kvorum_server.config import Config
from kvorum_server.consensus import PROTOCOLS
from kvorum_server.consensus.core import ProposeRefusal, Role
from kvorum_server.consensus.quorum import has_quorum
from kvorum_server.types import Configuration, Entry, EntryKind, ReplicaId
from tests.scripts.cluster import Cluster, Disk, birth

STEPS = 4000
SEEDS = range(16)
STEADY = 5
"""So many of the actions, the first ones, are no faults: without them nothing would go on."""

CONFIG = Config(
    heartbeat_ticks=2,
    election_ticks_min=6,
    election_ticks_max=12,
    append_bytes_max=150,
    append_inflight_max=3,
    log_inflight_bytes_max=1000,
)


class Storm:
    """One seeded run."""

    def __init__(self, protocol: str, size: int, seed: int) -> None:
        self.dice = random.Random(f"{protocol}/{size}/{seed}")
        self.configuration = Configuration.initial(tuple(range(11, 11 + size)))
        self.cluster = Cluster(
            config=CONFIG,
            randomness=lambda replica: random.Random(f"{seed}/{replica}"),
            protocol=protocol,
        )
        for replica in self.configuration.voters:
            self.cluster.add(replica, Disk(birth(self.configuration)))
        self.proposed = 0
        self.token = 0
        self.floors: dict[int, int] = {}
        self.installed: dict[tuple[ReplicaId, ReplicaId], int] = {}
        self.served = 0
        self.checked = 0
        self.actions: dict[Callable[[], None], float] = {
            self.deliver: 60,
            self.tick: 25,
            self.sync: 25,
            self.propose: 10,
            self.read: 4,
            self.duplicate: 4,
            self.lose: 4,
            self.install: 4,
            self.hint: 2,
            self.compact: 2,
            self.transfer: 1,
            self.crash: 1,
            self.restart: 2,
            self.partition: 1,
            self.heal: 1,
        }
        # Each seed has its own weather: some faults happen often, others hardly ever.
        for action in list(self.actions)[STEADY:]:
            self.actions[action] *= self.dice.choice((0.1, 0.5, 2))

    def run(self, steps: int) -> None:
        """So many things happen."""
        actions = list(self.actions)
        weights = list(self.actions.values())
        for action in self.dice.choices(actions, weights, k=steps):
            action()
            for node in self.cluster.running():
                node.held = True
                self.cluster.drain(node.replica)
            self.check()

    def a_replica(self) -> ReplicaId:
        running = self.cluster.running()
        return self.dice.choice(running).replica if running else 0

    # --- What may happen ---

    def deliver(self) -> None:
        network = self.cluster.network
        if network:
            self.cluster.deliver(network.pop(self.dice.randrange(min(len(network), 8))))

    def duplicate(self) -> None:
        if self.cluster.network:
            self.cluster.deliver(self.dice.choice(self.cluster.network))

    def lose(self) -> None:
        if self.cluster.network:
            self.cluster.network.pop(self.dice.randrange(len(self.cluster.network)))

    def tick(self) -> None:
        if replica := self.a_replica():
            self.cluster.consensus(replica).tick()

    def sync(self) -> None:
        waiting = [node.replica for node in self.cluster.running() if node.writes]
        if waiting:
            self.cluster.sync(self.dice.choice(waiting), 1)

    def propose(self) -> None:
        for node in self.cluster.running():
            payload = f"command {self.proposed}".encode()
            outcome = self.cluster.consensus(node.replica).propose(
                EntryKind.COMMANDS, self.proposed, 1, payload
            )
            if isinstance(outcome, Entry):
                self.proposed += 1

    def read(self) -> None:
        for node in self.cluster.running():
            self.token += 1
            if self.cluster.consensus(node.replica).read(self.token):
                self.floors[self.token] = max(self.cluster.committed, default=0)

    def crash(self) -> None:
        if replica := self.a_replica():
            self.cluster.crash(replica)

    def restart(self) -> None:
        down = [node.replica for node in self.cluster.nodes.values() if node.consensus is None]
        if down:
            self.cluster.start(self.dice.choice(down))

    def partition(self) -> None:
        voters = set(self.configuration.voters)
        side = set(self.dice.sample(sorted(voters), self.dice.randrange(1, len(voters))))
        self.cluster.partition(side, voters - side)

    def heal(self) -> None:
        self.cluster.blocked = set()

    def hint(self) -> None:
        replica, other = self.a_replica(), self.dice.choice(self.configuration.voters)
        if replica not in (0, other):
            consensus = self.cluster.consensus(replica)
            if self.dice.random() < 0.5:
                consensus.connection_lost(other)
            else:
                consensus.connection_restored(other)

    def compact(self) -> None:
        if replica := self.a_replica():
            applied = self.cluster.consensus(replica).status().applied
            node = self.cluster.nodes[replica]
            if not node.writes and applied > node.disk.start.index:
                self.cluster.compact(replica, applied)

    def install(self) -> None:
        """Snapshots arrive at once or break off; one that is acknowledged too late has failed."""
        for (source, target), index in list(self.installed.items()):
            sender = self.cluster.nodes[source].consensus
            leads = sender is not None and sender.role is Role.LEADER
            arrived = sender is None or sender.status().matched.get(target, index) >= index
            late = self.dice.random() < 0.2
            if sender is not None and leads and late and not arrived:
                sender.snapshot_failed(target)
            if not leads or arrived or late:
                del self.installed[source, target]
        targets, self.cluster.snapshot_targets = self.cluster.snapshot_targets, []
        for source, target in targets:
            sender = self.cluster.nodes[source].consensus
            if sender is None or sender.role is not Role.LEADER:
                continue
            down = self.cluster.nodes[target].consensus is None
            if down or self.dice.random() < 0.3 or not self.cluster.install(source, target):
                sender.snapshot_failed(target)
            else:
                self.installed[source, target] = self.cluster.consensus(target).status().commit

    def transfer(self) -> None:
        for node in self.cluster.running():
            target = self.dice.choice(self.configuration.voters)
            self.cluster.consensus(node.replica).transfer(target)

    # --- What must hold ---

    def check(self) -> None:
        """See the module's text; what a Cluster checks by itself is not repeated here."""
        for index in range(self.checked + 1, len(self.cluster.committed) + 1):
            entry = self.cluster.committed[index]
            assert has_quorum(self.configuration, self.cluster.holders(entry)), "applied too early"
            self.checked = index
        for read in self.cluster.reads:
            if read.index is not None:
                self.served += 1
                assert read.index >= self.floors[read.token], "a stale read"
        self.cluster.reads.clear()

    def check_log_matching(self) -> None:
        """Where two disks hold the same term at the same index, all before is the same."""
        disks = [node.disk for node in self.cluster.nodes.values()]
        for one in disks:
            for other in disks:
                places = {entry.index: entry for entry in other.entries}
                agreed = False
                for entry in reversed(one.entries):
                    twin = places.get(entry.index)
                    agreed = agreed or (twin is not None and twin.term == entry.term)
                    assert not agreed or twin in (None, entry), "logs agree, then differ before"

    # --- The calm after ---

    def calm(self) -> None:
        """No more faults: ticks for everybody, every message arrives, every write is synced."""
        self.cluster.blocked = set()
        for node in self.cluster.nodes.values():
            if node.consensus is None:
                self.cluster.start(node.replica)
            for other in self.configuration.voters:
                self.cluster.consensus(node.replica).connection_restored(other)
        for _ in range(20 * CONFIG.election_ticks_max):
            for node in self.cluster.nodes.values():
                node.held = False
                self.cluster.consensus(node.replica).tick()
                self.cluster.sync(node.replica)
                self.cluster.drain(node.replica)
            self.install()
            for _ in range(1000):
                if self.cluster.network:
                    self.cluster.deliver(self.cluster.network.pop(0))
            assert not self.cluster.network, "messages go round for ever"
            self.check()

    def check_converged(self) -> None:
        """One leader; a new command reaches everybody; all have applied the same."""
        statuses = [self.cluster.consensus(replica).status() for replica in self.cluster.nodes]
        leaders = [status.replica for status in statuses if status.role is Role.LEADER]
        assert len(leaders) == 1, "no single leader emerged"
        leader = self.cluster.consensus(leaders[0])
        outcome = leader.propose(EntryKind.COMMANDS, self.proposed, 1, b"the last command")
        assert not isinstance(outcome, ProposeRefusal)
        self.cluster.drain(leaders[0])
        self.calm()
        for node in self.cluster.nodes.values():
            assert node.applied[-1] == outcome, f"n{node.replica} did not catch up"
            assert node.applied == [self.cluster.committed[entry.index] for entry in node.applied]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_storm(protocol: str, size: int, seed: int) -> None:
    storm = Storm(protocol, size, seed)
    for _ in range(10):
        storm.run(STEPS // 10)
        storm.check_log_matching()
    storm.calm()
    storm.check_log_matching()
    storm.check_converged()


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_storms_are_not_idle(protocol: str) -> None:
    """The storm really commits, elects, reads and sends snapshots; otherwise it proves nothing."""
    storms = [Storm(protocol, 3, seed) for seed in SEEDS]
    for storm in storms:
        storm.run(STEPS)
    assert sum(len(storm.cluster.committed) for storm in storms) > 200
    assert sum(len(storm.cluster.leaders) for storm in storms) > 25
    assert sum(storm.served for storm in storms) > 40
    assert sum(node.boot for storm in storms for node in storm.cluster.nodes.values()) > 60
    starts = [node.disk.start.index for storm in storms for node in storm.cluster.nodes.values()]
    assert sum(start > 0 for start in starts) > 10
