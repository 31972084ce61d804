"""How long nobody can write after the leader was killed, stopped, or cut off by the network.

The measurement is that of ``tests/bench/failover.py``, on nodes in namespaces. Three kinds of
death, because they look different from outside. A killed process leaves closed connections: its
peers know at once. A stopped process and one behind a dead cable leave silence, and only a timeout
can tell: the followers elect after an election timeout, and the client has to stop waiting for the
old leader by itself. The cable is cut to everybody, peers and clients.
"""

import signal
from collections.abc import Callable
from pathlib import Path

from tests.bench.failover import Blow, Kill, Outage, measure
from tests.bench.systems import KvorumSystem
from tests.chaos.network import Network
from tests.chaos.topology import Weather, apart
from tests.integration.cluster import Cluster, NodeProcess

KINDS = ("kill", "stop", "partition")


class Stop:
    """SIGSTOP, then SIGCONT."""

    def strike(self, victim: NodeProcess) -> None:
        victim.signal(signal.SIGSTOP)

    def undo(self, victim: NodeProcess) -> None:
        victim.signal(signal.SIGCONT)


class CutOff:
    """Nothing reaches the node and nothing leaves it."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def strike(self, victim: NodeProcess) -> None:
        others = set(self._network.topology.hosts) - {victim.name}
        self._network.set(Weather(cuts=apart([victim.name], others)))

    def undo(self, victim: NodeProcess) -> None:
        assert victim.running, f"{victim.name} ended although only its cable was cut"
        self._network.set(Weather())


def blow_of(kind: str, network: Network) -> Blow:
    """The blow of a kind that is named on the command line."""
    match kind:
        case "kill":
            return Kill()
        case "stop":
            return Stop()
        case "partition":
            return CutOff(network)
    raise ValueError(f"{kind} is none of {', '.join(KINDS)}")


async def outages_of(
    kind: str, network: Network, names: list[str], times: int, tell: Callable[[str], None], to: Path
) -> list[Outage]:
    """The outages after that many blows of one kind, on a new cluster."""
    places = [network.place(name) for name in names]
    cluster = Cluster(to, len(names), places=places)
    return await measure(KvorumSystem(cluster), times, tell, blow_of(kind, network))
