"""What goes wrong between machines: partitions of many shapes, clogs, and leaders cut off.

*Splits* part everybody in two. A *cut* is one-way: a machine that is heard and hears nothing, or
the reverse. A *bridge* leaves one machine that reaches both sides, a *ring* lets each machine reach
its neighbours only, so that no two see the same cluster. To *isolate* is to leave a leader alone
with the clients that will believe it. A *clogged* link stands and delivers nothing, then everything
at once; the *swizzle* of FoundationDB clogs some machines' links one after the other and unclogs
them in another order.
"""

from collections.abc import Callable, Sequence
from functools import partial

from tests.simulator.cluster import Cluster
from tests.simulator.node import Node
from tests.simulator.rhythm import Rhythm
from tests.simulator.scheduler import MILLISECOND

Link = tuple[int, int]


class LinkFaults:
    """Hurts the links of one cluster. ``victim`` chooses one of some machines."""

    def __init__(
        self, cluster: Cluster, rhythm: Rhythm, victim: Callable[[Sequence[Node]], Node]
    ) -> None:
        self._cluster = cluster
        self._network = cluster.network
        self._options = cluster.options
        self._rhythm = rhythm
        self._generator = rhythm.generator
        self._victim = victim

    def start(self) -> None:
        """Begins every rhythm that the options have."""
        options = self._options
        self._rhythm.every(options.partition_every, self._partition)
        self._rhythm.every(options.isolate_every, self._isolate)
        self._rhythm.every(options.clog_every, self._clog)

    def _nodes(self) -> list[int]:
        return [node.number for node in self._cluster.machines]

    def _clients(self) -> list[int]:
        return [client.endpoint for client in self._cluster.clients]

    # --- Cuts ---

    def _partition(self) -> None:
        nodes, clients = self._nodes(), self._clients()
        kind = self._generator.randrange(5)
        if self._rhythm.chance(self._options.one_way):
            source, target = self._pair([*nodes, *clients], nodes)
            self._network.cut(source, target)
            what = f"cut {source}->{target}"
        elif kind == 0 and len(nodes) > 2:
            what = self._bridge(nodes)
        elif kind == 1 and len(nodes) > 3:
            what = self._ring(nodes)
        else:
            what = self._split([*nodes, *clients])
        self._cluster.count(f"partition: {what.split()[0]}")
        self._cluster.trace.note("network", what)
        self._cluster.connections.links_changed()
        self._rhythm.later(self._options.partition_mean, self._heal)

    def _pair(self, sources: Sequence[int], targets: Sequence[int]) -> Link:
        target = self._generator.choice(targets)
        source = self._generator.choice(
            [number for number in sources if number != target] or targets
        )
        return source, target

    def _split(self, endpoints: list[int]) -> str:
        self._generator.shuffle(endpoints)
        size = self._generator.randrange(1, len(endpoints))
        left, right = sorted(endpoints[:size]), sorted(endpoints[size:])
        self._network.split(left, right)
        return f"split {left} {right}"

    def _bridge(self, nodes: list[int]) -> str:
        """Two halves that reach each other only by one node in the middle."""
        self._generator.shuffle(nodes)
        middle, *others = nodes
        half = len(others) // 2
        self._network.split(others[:half], others[half:])
        return f"bridge {others[:half]} {middle} {others[half:]}"

    def _ring(self, nodes: list[int]) -> str:
        """Each machine reaches its two neighbours."""
        self._generator.shuffle(nodes)
        for place, node in enumerate(nodes):
            neighbours = (nodes[place - 1], node, nodes[(place + 1) % len(nodes)])
            self._network.split([node], [other for other in nodes if other not in neighbours])
        return f"ring {nodes}"

    def _isolate(self) -> None:
        """A leader on its own, and some clients that reach nobody else: who leads is in doubt."""
        victim = self._victim(self._cluster.machines).number
        clients = self._clients()
        readers = [client.endpoint for client in self._cluster.clients if client.reads == 1.0]
        # Who only reads stays with the old leader, who writes finds the new: stale reads show.
        stay = readers if self._rhythm.chance(0.7) else clients
        faithful = sorted(self._generator.sample(stay, self._generator.randrange(1, len(stay) + 1)))
        others = [n for n in (*self._nodes(), *clients) if n not in (victim, *faithful)]
        self._network.split([victim, *faithful], others)
        self._cluster.count("leader isolated")
        self._cluster.trace.note("network", f"isolate {victim} with {faithful}")
        self._cluster.connections.links_changed()
        config = self._options.config
        election = config.election_ticks_max * config.tick_ms * MILLISECOND
        self._rhythm.later(2 * election, self._heal)

    def _heal(self) -> None:
        self._cluster.trace.note("network", "heal")
        self._network.heal()
        self._cluster.connections.links_changed()

    # --- Clogs ---

    def _clog(self) -> None:
        if self._rhythm.chance(self._options.swizzle):
            self._swizzle()
            return
        link = self._pair([*self._nodes(), *self._clients()], self._nodes())
        links = [link, link[::-1]] if self._rhythm.chance(0.5) else [link]
        self._cluster.count("clog")
        self._close(links)
        self._rhythm.later(self._options.clog_mean, lambda: self._open(links))

    def _swizzle(self) -> None:
        """The links of some machines close one after the other and open in another order."""
        nodes = self._nodes()
        chosen = self._generator.sample(nodes, self._generator.randrange(1, len(nodes) + 1))
        self._cluster.count("swizzle")
        for node in chosen:
            links = [
                link
                for other in (*nodes, *self._clients())
                if other != node
                for link in ((node, other), (other, node))
            ]
            self._rhythm.later(self._options.clog_mean // 4 + 1, partial(self._swing, links))

    def _swing(self, links: list[Link]) -> None:
        self._close(links)
        self._rhythm.later(self._options.clog_mean, lambda: self._open(links))

    def _close(self, links: list[Link]) -> None:
        self._cluster.trace.note("network", f"clog {links[0]} and {len(links) - 1} more")
        for link in links:
            self._network.clog(*link)

    def _open(self, links: list[Link]) -> None:
        self._cluster.trace.note("network", f"unclog {links[0]} and {len(links) - 1} more")
        for link in links:
            self._network.unclog(*link)
