"""What goes wrong, and when: crashes, power losses, pauses, slow machines, clocks, hand-overs; and,
through its two halves, broken links (``link_faults.py``) and bad disks (``disk_faults.py``).

Each kind of fault has its own rhythm, drawn with the options of the seed, and none waits for
another, so that they overlap. ``stop`` ends them all. ``repair_core`` brings a quorum back and
leaves the others in a bad state each, for the core has to do without them; ``repair`` brings back
every machine that can come back, and every link.

A crash falls between two steps of a machine, or, as an *ambush*, right before any of them: in the
middle of an append, of a sync, of a recovery, between two frames of one turn.
"""

import random
from collections.abc import Sequence

from kvorum_server.events import TransferAsked
from tests.simulator.cluster import Cluster
from tests.simulator.connections import CLIENT_ENDPOINTS
from tests.simulator.disk import Killed
from tests.simulator.disk_faults import STEPS_MAX, DiskFaults
from tests.simulator.link_faults import LinkFaults
from tests.simulator.node import Node
from tests.simulator.operations import Operator
from tests.simulator.overthrow import Overthrow
from tests.simulator.rhythm import Rhythm
from tests.simulator.scheduler import MILLISECOND, SECOND
from tests.simulator.world import Ambush

STOP_GRACE = 300 * MILLISECOND

FOREVER = 10**6 * SECOND


class Nemesis:
    """Hurts one cluster until it is told to stop."""

    def __init__(self, cluster: Cluster, generator: random.Random) -> None:
        self._cluster = cluster
        self._generator = generator
        self._options = cluster.options
        self._rhythm = Rhythm(cluster.scheduler, generator)
        self._links = LinkFaults(cluster, self._rhythm, self._victim)
        self._overthrow = Overthrow(cluster, generator)
        self._disks = DiskFaults(cluster, self._rhythm, self._victim, self._restart_later)
        self.operator = Operator(cluster, self._rhythm)
        self._repairing = False
        self._core: list[Node] = []
        self._answering: list[Node] = []
        """Nodes outside of the core that can still tell a client where it is."""
        cluster.on_end = self._ended
        cluster.on_members = self._members_changed

    def start(self) -> None:
        """Begins every rhythm that the options have."""
        options = self._options
        for mean, fault in (
            (options.crash_every, self._crash),
            (options.pause_every, self._pause),
            (options.slow_every, self._slow_down),
            (options.clock_step_every, self._step_clock),
            (options.transfer_every, self._transfer),
        ):
            self._rhythm.every(mean, fault)
        if options.overthrow:
            self._overthrow.start()
        self.operator.start()
        self._links.start()
        self._disks.start()

    def stop(self) -> None:
        """No new faults; what is broken stays broken."""
        self._rhythm.stop()
        self.operator.rest()
        self._overthrow.over = True

    # --- Repair ---

    def repair_core(self) -> list[Node]:
        """A quorum, drawn from the members that can come back, and its links work again; these.

        Everybody else is down, cut off, deaf, paused or waits for its disk, and stays so.
        """
        assert self._rhythm.over
        cluster = self._cluster
        self._cluster.end_copies()
        for node in cluster.members:
            if not node.alive:
                node.ambush = None
                node.free_disk()
                node.start()
        core = self._core = self._choose_core()
        numbers = sorted(node.number for node in core)
        inside = [*numbers, *(client.endpoint for client in cluster.clients)]
        cluster.trace.note("nemesis", f"repair the core {numbers}")
        cluster.network.be_good()
        cluster.network.mend_among(inside)
        for node in core:
            self._mend(node)
        outside = [node for node in cluster.machines if node not in core]
        stuck = [node for node in outside if self._leave_out(node, inside) == "stuck"]
        self._answering = [node for node in stuck if self._knows_the_core(node)]
        self._point_addresses()
        cluster.connections.links_changed()
        return core

    def _choose_core(self) -> list[Node]:
        """As few members as are a quorum of every group; sound ones, as far as there are any.

        One that rebuilds its state may have to be among them: it votes and acknowledges.
        """
        alive = [node for node in self._cluster.members if node.alive]
        core = self._generator.sample(alive, len(alive))
        for node in sorted(core, key=lambda node: not node.is_spoiled):
            without = [other for other in core if other is not node]
            if self._cluster.suffices(without):
                core = without
        return core

    def _leave_out(self, node: Node, inside: Sequence[int]) -> str:
        """A node outside is heard by all of the core or by nobody there, and hears all or nobody.
        What has become of it.

        Raft promises no more: a leader that works, and that a quorum hears, stays one although
        others of that quorum cannot reach it.
        """
        network = self._cluster.network
        fate = self._generator.choice(("dead", "cut off", "deaf", "mute", "paused", "stuck"))
        self._cluster.count(f"outside of the core: {fate}")
        self._cluster.trace.note(node.name, f"outside of the core: {fate}")
        network.mend_among([node.number, *inside])
        match fate:
            case "dead" if node.alive:
                node.crash(power_loss=False)
            case "paused" if node.alive and not node.paused:
                node.pause()
                # Nobody answers the pings of its streams: clients notice in the end.
                network.split([node.number], [one for one in inside if one >= CLIENT_ENDPOINTS])
            case "stuck":
                node.stick_disk(FOREVER)
            case "deaf":
                for endpoint in inside:
                    network.cut(endpoint, node.number)
            case "mute":
                for endpoint in inside:
                    network.cut(node.number, endpoint)
            case _:
                network.split([node.number], inside)
        return fate

    def _knows_the_core(self, node: Node) -> bool:
        """Whether a client that knows this node alone hears of others from it. One that has not
        joined yet knows nobody, and a stuck disk keeps it from joining; one that is paused says
        nothing.
        """
        known = {} if node.host is None or node.paused else node.host.directory.addresses()
        return any(one.identity in known for one in self._core)

    def _members_changed(self) -> None:
        """Members come and go in the quiet phases, too."""
        if self._rhythm.over:
            self._point_addresses()

    def _point_addresses(self) -> None:
        """Clients may know any single address: each leads to a member that can answer."""
        members = self._cluster.members
        able = members if self._repairing else [*self._core, *self._answering]
        others = members if self._repairing else self._core
        self._cluster.point_addresses_at(
            [node for node in able if node in members], [node for node in others if node in members]
        )

    def repair(self) -> None:
        """Everything works again: all machines run, all links are mended, the network is calm."""
        assert self._rhythm.over
        self._repairing = True
        self.operator.finish()
        self._cluster.network.calm()
        self._cluster.end_copies()
        for node in self._cluster.machines:
            self._mend(node)
        self._point_addresses()
        self._cluster.connections.links_changed()

    def _mend(self, node: Node) -> None:
        node.ambush = None
        node.slowness = 1.0
        node.free_disk()
        node.free_stuck_disk()
        if node.paused:
            node.resume()
        if node.alive and node.stopping:
            node.crash(power_loss=False)
        if not node.alive and not node.lost:
            node.start()
            self._cluster.links_changed()

    def _ended(self, node: Node) -> None:
        """A process ended by itself: whoever watches over the machine starts another one."""
        if self._repairing:
            self._cluster.scheduler.after(STOP_GRACE, lambda: self._mend(node))
        else:
            self._restart_later(node)

    # --- Choosing ---

    def _alive(self) -> list[Node]:
        return [node for node in self._cluster.machines if node.alive]

    def _victim(self, nodes: Sequence[Node]) -> Node:
        """One of the nodes, every other time one that leads."""
        leaders = [node for node in nodes if node.host is not None and node.host.leads]
        return self._generator.choice(leaders if leaders and self._rhythm.chance(0.6) else nodes)

    # --- Processes ---

    def _crash(self) -> None:
        alive = self._alive()
        if not alive:
            return
        power_loss = self._rhythm.chance(self._options.power_loss)
        if self._rhythm.chance(self._options.crash_all):
            for node in alive:
                self._kill(node, power_loss)
        elif self._rhythm.chance(0.2):
            self._stop_gracefully(self._victim(alive))
        elif self._rhythm.chance(self._options.ambush):
            # Whoever is down is met in the middle of its recovery.
            victim = self._victim(self._cluster.machines)
            steps = self._generator.randrange(STEPS_MAX)
            victim.ambush = Ambush(steps, Killed(power_loss=power_loss))
        else:
            self._kill(self._victim(alive), power_loss)

    def _kill(self, node: Node, power_loss: bool) -> None:
        self._cluster.count("power loss" if power_loss else "crash")
        node.crash(power_loss=power_loss)
        self._cluster.connections.links_changed()
        self._restart_later(node)

    def _restart_later(self, node: Node) -> None:
        self._rhythm.later(self._options.restart_mean, lambda: self._restart(node))

    def _restart(self, node: Node) -> None:
        self._cluster.end_copies()
        if node.alive or node.lost:
            return
        node.free_disk()
        node.start()
        self._cluster.connections.links_changed()

    def _stop_gracefully(self, node: Node) -> None:
        if node.paused or node.stopping:
            return
        life = node.life
        self._cluster.count("graceful stop")
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
        self._cluster.count("pause")
        node.pause()

        def resume() -> None:
            if node.life == life and node.paused:
                node.resume()

        self._rhythm.later(self._options.pause_mean, resume)

    def _slow_down(self) -> None:
        """Every turn of one machine takes many times longer, for a while."""
        node = self._victim(self._cluster.machines)
        self._cluster.count("slow machine")
        node.slowness = self._generator.uniform(2, self._options.slowness_max)
        self._cluster.trace.note(node.name, f"{node.slowness:.0f} times slower")

        def recover() -> None:
            node.slowness = 1.0

        self._rhythm.later(self._options.slow_mean, recover)

    def _step_clock(self) -> None:
        alive = self._alive()
        if alive:
            self._cluster.count("clock step")
            step_ms = self._generator.randrange(1, self._options.clock_step_ms_max + 1)
            self._victim(alive).step_clock(step_ms)

    def _transfer(self) -> None:
        running = [node for node in self._alive() if not node.stopping]
        if running:
            identities = [node.identity for node in self._cluster.machines]
            target = self._generator.choice([None, *identities])
            group = self._generator.choice((0, 1))
            self._cluster.count("transfer")
            self._generator.choice(running).put(TransferAsked(group, target))
