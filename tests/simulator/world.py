"""What the machines of a simulated cluster share, and who watches them.

The *world* is handed to every machine at its making: time, network, trace, the options of the seed,
and the tables that say which machine an identity or an address belongs to. Machines come and go, so
these tables are looked at anew each time. The *observer* sees what machines do, before anything of
it has left them. An *ambush* waits in a machine for the moment to strike.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from kvorum_proto import peer_pb2
from kvorum_server.events import Effects
from kvorum_server.storage.errors import StorageError
from kvorum_server.storage.wal import Position
from tests.simulator.client import Frame
from tests.simulator.disk import Killed
from tests.simulator.network import Network
from tests.simulator.options import Options
from tests.simulator.scheduler import Scheduler
from tests.simulator.trace import Trace

if TYPE_CHECKING:
    from tests.simulator.node import Node


class Observer(Protocol):
    """Who watches a node: the checkers, by way of the cluster."""

    def started(self, node: "Node") -> None:
        """The node has recovered its log and made its Host."""
        ...

    def turned(self, node: "Node", effects: Effects) -> None:
        """The node has taken a turn; nothing of its effects has left yet."""
        ...

    def synced(self, node: "Node", writes: int) -> None:
        """The oldest so many writes of the node have become durable."""
        ...

    def knocked(self, node: "Node") -> None:
        """The node has no cluster and says hello to everybody."""
        ...

    def told(self, node: "Node", log_end: Position) -> None:
        """The node tells its peers how far its log is durable."""
        ...

    def removed(self, node: "Node") -> None:
        """The node has understood that it is a member no more."""
        ...

    def ended(self, node: "Node", error: StorageError | None) -> None:
        """The process has ended by itself: killed in the middle of a step, or by this error."""
        ...


@dataclass(slots=True)
class Ambush:
    """After ``steps`` more steps ``outcome`` is raised, in place of the next one."""

    steps: int
    outcome: OSError | Killed


@dataclass(frozen=True, slots=True)
class World:
    """What all machines of a cluster share."""

    options: Options
    scheduler: Scheduler
    network: Network[Frame]
    trace: Trace
    observer: Observer
    bootstrap: peer_pb2.Bootstrap
    seed: int
    numbers: dict[int, int] = field(default_factory=dict)
    """Number of the node with an identity."""
    endpoints: dict[str, int] = field(default_factory=dict)
    """Number of the node that listens at an address."""
    count: Callable[[str], None] = lambda fault: None
    """Notes that a fault has happened."""
