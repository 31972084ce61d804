"""A simulated cluster for stories with a fixed course: quiet, but for what the story does to it.

A story has the machines, clients, checkers and the end of every simulation: everything is repaired,
everybody has to make progress, the history is judged. Between its beginning and its end nothing
goes wrong by itself.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kvorum_server.config import KIB, Config
from tests.simulator.cluster import Cluster
from tests.simulator.node import Node
from tests.simulator.options import Options, draw_options, without_faults
from tests.simulator.scheduler import MILLISECOND
from tests.simulator.simulation import Simulation

KEYS = 1
"""The group of the clients."""

CONFIG = Config(
    tick_ms=15,
    election_ticks_min=10,
    election_ticks_max=20,
    segment_bytes=8 * KIB,
    checkpoint_entries=20,
    log_tail_entries=5,
    disk_reserve_bytes=0,
)


def options_of_a_story(**changes: Any) -> Options:
    """Three nodes, a few busy clients, and no faults."""
    quiet = replace(
        without_faults(draw_options(1)),
        nodes=3,
        config=CONFIG,
        clients=3,
        operations_max=600,
        reads=0.3,
        delay_min=100,
        delay_mean=400,
        sync_mean=300,
        encode_frames=0.2,
        safety=6000 * MILLISECOND,
    )
    return replace(quiet, **changes)


class Story:
    """One cluster from its first start on."""

    def __init__(self, **changes: Any) -> None:
        self.simulation = Simulation(1, options_of_a_story(**changes))
        self.cluster: Cluster = self.simulation.cluster
        self.simulation.cluster.start()
        self.simulation.nemesis.start()
        self.run_until(lambda: self.has_leader, "a leader")

    def run(self, milliseconds: int) -> None:
        """Time passes."""
        scheduler = self.simulation.scheduler
        scheduler.run(until=scheduler.now + milliseconds * MILLISECOND)

    def run_until(
        self, is_so: Callable[[], bool], what: str, milliseconds_max: int = 10_000
    ) -> int:
        """Time passes until something is so; how many milliseconds."""
        for passed in range(milliseconds_max):
            if is_so():
                return passed
            self.run(1)
        raise AssertionError(f"no {what} within {milliseconds_max} ms")

    def end(self) -> None:
        """Everything is repaired; everybody must be served and agree."""
        self.simulation.end()

    # --- Looking ---

    @property
    def nodes(self) -> list[Node]:
        """Every node that ever was, by number."""
        return self.cluster.nodes

    def leaders(self) -> list[Node]:
        """The nodes that take themselves for the leader of the clients' group."""
        return [
            node
            for node in self.nodes
            if node.host and KEYS in node.host.replicas and node.host.replicas[KEYS].is_leader
        ]

    @property
    def has_leader(self) -> bool:
        """Whether anybody leads the clients' group."""
        return bool(self.leaders())

    @property
    def leader(self) -> Node:
        """The one that leads in the latest term."""
        return max(self.leaders(), key=lambda node: self.term(node))

    @property
    def follower(self) -> Node:
        """A node that works and does not lead any group."""
        return next(node for node in self.nodes if node.host and not node.host.leads)

    def term(self, node: Node) -> int:
        """The term of a node in the clients' group."""
        assert node.host is not None
        return node.host.replicas[KEYS].consensus.term

    def applied(self, node: Node) -> int:
        """How far a node has applied the log of the clients' group."""
        assert node.host is not None
        return node.host.replicas[KEYS].machine.status().applied_index

    def told(self, words: str) -> bool:
        """Whether the timeline has a line with these words."""
        return any(words in line for line in self.simulation.trace.lines)

    # --- Doing ---

    def restart(self, node: Node) -> None:
        """Starts a machine again."""
        node.start()
        self.cluster.links_changed()

    def crash(self, node: Node, *, power_loss: bool = False) -> None:
        """Ends a process, or the machine."""
        node.crash(power_loss=power_loss)
        self.cluster.links_changed()
