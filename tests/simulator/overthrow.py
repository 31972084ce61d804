"""A nemesis with an eye for beginnings: leaders that are cut off when they have hardly begun.

Some mistakes need a leader to fall within the few round trips between its election and the first
entry of its own that a quorum holds, several times in a row (Raft paper, figure 8: an entry of an
old term is on a quorum, and still a former leader may come back and replace it). Faults that strike
at any time meet that moment once in many thousands of elections. This one waits for it: it looks
for leaders of a new term, cuts some of them off soon after, and lets the one before back in at
the same moment.
"""

import random

from tests.simulator.client import KEY_GROUP
from tests.simulator.cluster import Cluster
from tests.simulator.scheduler import MILLISECOND

LOOK_EVERY = MILLISECOND


class Overthrow:
    """Strikes at a share of all new leaders of the clients' group, until ``over``."""

    def __init__(self, cluster: Cluster, generator: random.Random) -> None:
        self._cluster = cluster
        self._generator = generator
        self._term = 0
        self.over = False

    def start(self) -> None:
        """Looks for a new leader, now and every millisecond."""
        if self.over:
            return
        options = self._cluster.options
        leader = self._new_leader()
        if leader and self._generator.random() < options.overthrow:
            wait = 1 + int(self._generator.expovariate(1 / options.overthrow_mean))
            self._cluster.scheduler.after(wait, lambda: self._strike(leader))
        self._cluster.scheduler.after(LOOK_EVERY, self.start)

    def _new_leader(self) -> int:
        """The number of a node that leads in a later term than all before, 0 if there is none."""
        for node in self._cluster.nodes:
            replica = node.host.replicas.get(KEY_GROUP) if node.host is not None else None
            if replica is not None and replica.is_leader and replica.consensus.term > self._term:
                self._term = replica.consensus.term
                return node.number
        return 0

    def _strike(self, leader: int) -> None:
        """The last victim is back, this one is alone."""
        if self.over:
            return
        network = self._cluster.network
        others = [node.number for node in self._cluster.nodes if node.number != leader]
        network.heal()
        network.split([leader], others)
        self._cluster.trace.note("network", f"overthrow {leader}")
        self._cluster.links_changed()
