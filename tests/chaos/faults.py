"""What can be done to a cluster, as values, and what each does to the network. Nothing runs here.

A fault names its victim by role, since nobody knows beforehand who will lead: the conductor finds
the victim when the time has come. Each fault lasts for a while and is then undone: lines are
mended, processes continued or started again, disks emptied.

============  =====================================================================
Partition     directions between hosts cut, in one of several shapes
BadLines      delay, jitter, loss, doubled packets, or a low rate
Kill          kill -9, of one node or all; started again at the end
Pause         SIGSTOP, SIGCONT at the end: a node that hangs, then goes on as if nothing had been
Restart       SIGTERM, and started again as soon as it has gone
FullDisk      the victim's disk filled up, below its reserve or to the last byte; freed at the end
Replace       the victim is killed and its disk lost; an empty node of its name takes its place
Swap          a spare node takes the place of the victim, which leaves and is the next spare
============  =====================================================================
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from tests.chaos.quality import Quality
from tests.chaos.topology import Direction, Weather, apart, between, everywhere


class Victim(enum.Enum):
    """Whom a fault hits."""

    LEADER = "leader"
    FOLLOWER = "follower"
    ALL = "all"


class Shape(enum.Enum):
    """Which directions a partition cuts, seen from its victim."""

    ISOLATED = "is cut off"
    MINORITY = "is in the minority"
    DEAF = "hears nobody"
    MUTE = "is not heard"
    ONE_WAY = "is not heard by one"
    BRIDGE = "alone sees both sides"
    CLIENTS = "is cut off from clients"


@dataclass(frozen=True, slots=True)
class Partition:
    """Directions cut."""

    shape: Shape

    def __str__(self) -> str:
        return self.shape.value


@dataclass(frozen=True, slots=True)
class BadLines:
    """All lines to and from the victim are bad; with ``Victim.ALL`` those between any nodes."""

    quality: Quality

    def __str__(self) -> str:
        return str(self.quality)


@dataclass(frozen=True, slots=True)
class Kill:
    """kill -9."""

    def __str__(self) -> str:
        return "kill -9"


@dataclass(frozen=True, slots=True)
class Pause:
    """SIGSTOP."""

    def __str__(self) -> str:
        return "SIGSTOP"


@dataclass(frozen=True, slots=True)
class Restart:
    """SIGTERM and a new start."""

    def __str__(self) -> str:
        return "restart"


@dataclass(frozen=True, slots=True)
class FullDisk:
    """``brim``: not a byte is left; else less than the node's reserve."""

    brim: bool

    def __str__(self) -> str:
        return "disk full to the brim" if self.brim else "disk nearly full"


@dataclass(frozen=True, slots=True)
class Replace:
    """A lost disk."""

    def __str__(self) -> str:
        return "loses its disk, is replaced"


@dataclass(frozen=True, slots=True)
class Swap:
    """Another machine."""

    def __str__(self) -> str:
        return "is swapped for the spare"


Fault = Partition | BadLines | Kill | Pause | Restart | FullDisk | Replace | Swap


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault at its time: seconds since the load began, and how long it lasts.

    ``choice`` decides between equal victims and halves.
    """

    at_seconds: float
    lasts_seconds: float
    fault: Fault
    victim: Victim
    choice: int

    def __str__(self) -> str:
        return f"{self.victim.value} {self.fault}"


def weather_of(
    fault: Fault, victims: Sequence[str], nodes: Sequence[str], clients: Sequence[str], choice: int
) -> Weather:
    """What a fault does to the network."""
    match fault:
        case Partition(shape):
            return Weather(cuts=cuts_of(shape, victims[0], nodes, clients, choice))
        case BadLines(quality):
            others = set(nodes) if len(victims) > 1 else {*nodes, *clients}
            bad = everywhere(nodes) if len(victims) > 1 else apart(victims, others - set(victims))
            return Weather(bad=dict.fromkeys(sorted(bad), quality))
        case Kill() | Pause() | Restart() | FullDisk() | Replace() | Swap():
            return Weather()
        case _:
            assert_never(fault)


def cuts_of(
    shape: Shape, victim: str, nodes: Sequence[str], clients: Sequence[str], choice: int
) -> frozenset[Direction]:
    """The directions that a partition cuts.

    >>> nodes = ["n1", "n2", "n3"]
    >>> sorted(cuts_of(Shape.DEAF, "n1", nodes, [], 0))
    [('n2', 'n1'), ('n3', 'n1')]
    >>> len(cuts_of(Shape.BRIDGE, "n1", nodes, [], 0))
    2
    """
    others = [node for node in nodes if node != victim]
    turn = choice % len(others)
    others = others[turn:] + others[:turn]
    match shape:
        case Shape.ISOLATED:
            return apart([victim], others)
        case Shape.MINORITY:
            small = [victim, *others[: (len(nodes) - 1) // 2 - 1]]
            far_clients = clients[: choice % (len(clients) + 1)]
            rest = [node for node in nodes if node not in small]
            return apart(small, [*rest, *far_clients])
        case Shape.DEAF:
            return between(others, [victim])
        case Shape.MUTE:
            return between([victim], others)
        case Shape.ONE_WAY:
            return between([victim], others[:1])
        case Shape.BRIDGE:
            middle = len(others) // 2
            return apart(others[:middle], others[middle:])
        case Shape.CLIENTS:
            return apart([victim], clients)
        case _:
            assert_never(shape)
