"""What goes wrong, and when: crashes, power losses, pauses, full disks, partitions,
hand-overs.

Each kind of fault has its own rhythm, drawn with the options of the seed, and none waits for
another, so that they overlap. ``stop`` ends them all; ``repair`` brings back every machine and
every link.
"""

import random
from collections.abc import Callable, Sequence

from kvorum_server.events import TransferAsked
from tests.simulator.cluster import Cluster
from tests.simulator.node import Node
from tests.simulator.overthrow import Overthrow
from tests.simulator.scheduler import MILLISECOND

STOP_GRACE = 300 * MILLISECOND


class Nemesis:
    """Hurts one cluster until it is told to stop."""

    def __init__(self, cluster: Cluster, generator: random.Random) -> None:
        self._cluster = cluster
        self._generator = generator
        self._options = cluster.options
        self._over = False
        self._overthrow = Overthrow(cluster, generator)

    def start(self) -> None:
        """Begins every rhythm that the options have."""
        options = self._options
        self._every(options.crash_every, self._crash)
        self._every(options.partition_every, self._partition)
        self._every(options.isolate_every, self._isolate)
        self._every(options.pause_every, self._pause)
        self._every(options.fill_every, self._fill_disk)
        self._every(options.transfer_every, self._transfer)
        if options.overthrow:
            self._overthrow.start()

    def stop(self) -> None:
        """No new faults; what is broken stays broken."""
        self._over = self._overthrow.over = True

    def repair(self) -> None:
        """Everything works again: all machines run, all links are mended, the network is calm."""
        assert self._over
        self._cluster.network.calm()
        for node in self._cluster.nodes:
            node.free_disk()
            if node.paused:
                node.resume()
            if not node.alive or node.stopping:
                if node.alive:
                    node.crash(power_loss=False)
                node.start()
        self._cluster.links_changed()

    def _every(self, mean: int, fault: Callable[[], None]) -> None:
        if not mean:
            return

        def strike() -> None:
            if not self._over:
                fault()
                self._cluster.scheduler.after(self._wait(mean), strike)

        self._cluster.scheduler.after(self._wait(mean), strike)

    def _wait(self, mean: int) -> int:
        return 1 + int(self._generator.expovariate(1 / mean))

    def _chance(self, probability: float) -> bool:
        return self._generator.random() < probability

    def _alive(self) -> list[Node]:
        return [node for node in self._cluster.nodes if node.alive]

    def _victim(self, nodes: list[Node]) -> Node:
        """One of the nodes, every other time one that leads."""
        leaders = [node for node in nodes if node.host is not None and node.host.leads]
        return self._generator.choice(leaders if leaders and self._chance(0.6) else nodes)

    # --- Machines ---

    def _crash(self) -> None:
        alive = self._alive()
        if not alive:
            return
        power_loss = self._chance(self._options.power_loss)
        if self._chance(self._options.crash_all):
            for node in alive:
                self._kill(node, power_loss)
        elif self._chance(0.2):
            self._stop_gracefully(self._victim(alive))
        else:
            self._kill(self._victim(alive), power_loss)

    def _kill(self, node: Node, power_loss: bool) -> None:
        node.crash(power_loss=power_loss)
        self._cluster.links_changed()
        self._cluster.scheduler.after(
            self._wait(self._options.restart_mean), lambda: self._restart(node)
        )

    def _restart(self, node: Node) -> None:
        if not node.alive:
            node.free_disk()
            node.start()
            self._cluster.links_changed()

    def _stop_gracefully(self, node: Node) -> None:
        if node.paused or node.stopping:
            return
        life = node.life
        node.stop()

        def exit_process() -> None:
            if node.life == life:
                self._kill(node, power_loss=False)

        self._cluster.scheduler.after(STOP_GRACE, exit_process)

    def _pause(self) -> None:
        running = [node for node in self._alive() if not node.paused]
        if not running:
            return
        node = self._victim(running)
        life = node.life
        node.pause()

        def resume() -> None:
            if node.life == life and node.paused:
                node.resume()

        self._cluster.scheduler.after(self._wait(self._options.pause_mean), resume)

    def _fill_disk(self) -> None:
        """The disk of one machine, or of several, has no room for a while."""
        victims = [self._victim(self._cluster.nodes)]
        if self._chance(0.3):
            victims = self._cluster.nodes
        for node in victims:
            node.fill_disk(self._generator.randrange(3 * self._options.config.segment_bytes))
        wait = self._wait(self._options.fill_mean)
        self._cluster.scheduler.after(wait, lambda: self._free_disks(victims))

    def _free_disks(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self._cluster.trace.note(node.name, "disk space again")
            node.free_disk()

    def _transfer(self) -> None:
        running = [node for node in self._alive() if not node.stopping]
        if running:
            target = self._generator.choice(
                [None, *(node.identity for node in self._cluster.nodes)]
            )
            group = self._generator.choice((0, 1))
            self._generator.choice(running).put(TransferAsked(group, target))

    # --- Links ---

    def _partition(self) -> None:
        network = self._cluster.network
        nodes = [node.number for node in self._cluster.nodes]
        clients = [client.endpoint for client in self._cluster.clients]
        kind = self._generator.randrange(4)
        if self._chance(self._options.one_way):
            source, target = self._pair([*nodes, *clients], nodes)
            network.cut(source, target)
            what = f"cut {source}->{target}"
        elif kind == 0 and len(nodes) > 2:
            what = self._bridge(nodes)
        else:
            what = self._split([*nodes, *clients])
        self._cluster.trace.note("network", what)
        self._cluster.links_changed()
        self._cluster.scheduler.after(self._wait(self._options.partition_mean), self._heal)

    def _pair(self, sources: Sequence[int], targets: Sequence[int]) -> tuple[int, int]:
        target = self._generator.choice(targets)
        source = self._generator.choice(
            [number for number in sources if number != target] or targets
        )
        return source, target

    def _split(self, endpoints: list[int]) -> str:
        self._generator.shuffle(endpoints)
        size = self._generator.randrange(1, len(endpoints))
        left, right = sorted(endpoints[:size]), sorted(endpoints[size:])
        self._cluster.network.split(left, right)
        return f"split {left} {right}"

    def _isolate(self) -> None:
        """A leader on its own, and some clients that reach nobody else: who leads is in doubt."""
        victim = self._victim(self._cluster.nodes).number
        nodes = [node.number for node in self._cluster.nodes]
        clients = [client.endpoint for client in self._cluster.clients]
        readers = [client.endpoint for client in self._cluster.clients if client.reads == 1.0]
        # Who only reads stays with the old leader, who writes finds the new: stale reads show.
        stay = readers if self._chance(0.7) else clients
        faithful = sorted(self._generator.sample(stay, self._generator.randrange(1, len(stay) + 1)))
        others = [number for number in (*nodes, *clients) if number not in (victim, *faithful)]
        self._cluster.network.split([victim, *faithful], others)
        self._cluster.trace.note("network", f"isolate {victim} with {faithful}")
        self._cluster.links_changed()
        config = self._options.config
        election = config.election_ticks_max * config.tick_ms * MILLISECOND
        self._cluster.scheduler.after(self._wait(2 * election), self._heal)

    def _bridge(self, nodes: list[int]) -> str:
        """Two halves that reach each other only by one node in the middle."""
        self._generator.shuffle(nodes)
        middle, *others = nodes
        half = len(others) // 2
        self._cluster.network.split(others[:half], others[half:])
        return f"bridge {others[:half]} {middle} {others[half:]}"

    def _heal(self) -> None:
        if not self._over:
            self._cluster.trace.note("network", "heal")
            self._cluster.network.heal()
            self._cluster.links_changed()
