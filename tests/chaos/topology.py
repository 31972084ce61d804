"""Hosts, the lines between them, and the iproute2 commands that make it so. Nothing runs here.

Every host has a network namespace of its own and one cable (a veth pair) to the *hub*, a namespace
that does nothing but forward. There is no default route and no way from the hub into the machine's
own network, so whatever a host sends ends in this run's namespaces. Because all traffic passes the
hub, one place decides about every direction between two hosts:

* a *cut* direction meets a blackhole rule: packets vanish silently, as behind a broken switch;
* a *bad* direction is routed through the slow path, a process that delays and loses (``quality``);
* everything else is forwarded by the kernel, at the kernel's speed.

Routing rules can do both on every kernel that has namespaces and TUN devices. The usual way, netem,
is a module that small kernels (cloud and container hosts, for instance) are built without.

All names begin with a prefix that carries the process id of the run, so that whoever comes later
can tell leftovers of a dead run from the belongings of a live one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.chaos.quality import Quality

NAME_PREFIX = "kvorum-chaos"
SLOW_DEVICE = "slow"
SLOW_TABLE = 100
CUT_PREFERENCE, SLOW_PREFERENCE = 10, 20
HUB_NUMBER = 254

Direction = tuple[str, str]
"""From one host to another, by name."""


@dataclass(frozen=True, slots=True)
class Weather:
    """Everything that is wrong with the network at one time; the default is a fine day."""

    cuts: frozenset[Direction] = frozenset()
    bad: Mapping[Direction, Quality] = field(default_factory=dict)

    def __or__(self, other: "Weather") -> "Weather":
        """Both at once; where both make a line bad, the other's word counts."""
        return Weather(self.cuts | other.cuts, {**self.bad, **other.bad})


@dataclass(frozen=True, slots=True)
class Topology:
    """The hosts of one run and their addresses.

    >>> topology = Topology(run=4711, hosts=("n1", "n2"))
    >>> topology.namespace("n1"), topology.address("n2")
    ('kvorum-chaos-4711-n1', '10.82.103.2')
    """

    run: int
    hosts: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(set(self.hosts)) == len(self.hosts), "hosts have different names"
        assert len(self.hosts) < HUB_NUMBER, "a run has one network of 253 hosts"

    @property
    def prefix(self) -> str:
        """What the names of all namespaces and mounts of this run begin with."""
        return f"{NAME_PREFIX}-{self.run}"

    @property
    def hub(self) -> str:
        """The namespace that forwards."""
        return f"{self.prefix}-hub"

    def namespace(self, host: str) -> str:
        """The namespace of a host."""
        assert host in self.hosts, f"{host} is no host of this run"
        return f"{self.prefix}-{host}"

    def address(self, host: str) -> str:
        """The address of a host, in a private network of this run's own."""
        return self._number(self.hosts.index(host) + 1)

    def _number(self, last: int) -> str:
        return f"10.{64 + (self.run >> 8) % 128}.{self.run % 256}.{last}"

    def namespaces(self) -> tuple[str, ...]:
        """All namespaces of the run, the hub last."""
        return (*map(self.namespace, self.hosts), self.hub)

    def cabling(self) -> list[str]:
        """Batch lines for ``ip`` that make cables, once the namespaces are there."""
        return [
            f"link add to-{host} netns {self.hub} type veth peer name eth0 "
            f"netns {self.namespace(host)}"
            for host in self.hosts
        ]

    def hub_setup(self) -> list[str]:
        """Batch lines for ``ip -n hub``."""
        hub = self._number(HUB_NUMBER)
        lines = ["link set lo up"]
        for host in self.hosts:
            lines += [
                f"address add {hub}/32 dev to-{host}",
                f"link set to-{host} up",
                f"route add {self.address(host)}/32 dev to-{host}",
            ]
        return lines

    def host_setup(self, host: str) -> list[str]:
        """Batch lines for ``ip -n host``."""
        hub, network = self._number(HUB_NUMBER), self._number(0)
        return [
            "link set lo up",
            f"address add {self.address(host)}/32 dev eth0",
            "link set eth0 up",
            f"route add {hub}/32 dev eth0",
            f"route add {network}/24 via {hub} src {self.address(host)}",
        ]

    def slow_path_setup(self) -> list[str]:
        """Batch lines for ``ip -n hub`` once the slow path has made its device."""
        return [
            f"link set {SLOW_DEVICE} up",
            f"route add default dev {SLOW_DEVICE} table {SLOW_TABLE}",
        ]

    def changes(self, before: Weather, after: Weather) -> list[str]:
        """Batch lines for ``ip -n hub`` that turn one weather into another."""
        lines = []
        for verb, cuts in (("del", before.cuts - after.cuts), ("add", after.cuts - before.cuts)):
            lines += [f"rule {verb} {self._cut(direction)}" for direction in sorted(cuts)]
        was, becomes = set(before.bad), set(after.bad)
        for verb, bad in (("del", was - becomes), ("add", becomes - was)):
            lines += [f"rule {verb} {self._detour(direction)}" for direction in sorted(bad)]
        return lines

    def _cut(self, direction: Direction) -> str:
        source, target = map(self.address, direction)
        return f"pref {CUT_PREFERENCE} from {source} to {target} blackhole"

    def _detour(self, direction: Direction) -> str:
        """Only what comes from the host's own cable: what the slow path sends on must not return
        to it.
        """
        source, target = map(self.address, direction)
        rule = f"pref {SLOW_PREFERENCE} from {source} to {target} iif to-{direction[0]}"
        return f"{rule} lookup {SLOW_TABLE}"


# --- Shapes of trouble ---


def between(ones: Iterable[str], others: Iterable[str]) -> frozenset[Direction]:
    """Every direction from one of the first to one of the second.

    >>> sorted(between(["a"], ["b", "c"]))
    [('a', 'b'), ('a', 'c')]
    """
    others = tuple(others)
    return frozenset((one, other) for one in ones for other in others if one != other)


def apart(ones: Iterable[str], others: Iterable[str]) -> frozenset[Direction]:
    """Both ways between two sets of hosts."""
    ones, others = tuple(ones), tuple(others)
    return between(ones, others) | between(others, ones)


def everywhere(hosts: Iterable[str]) -> frozenset[Direction]:
    """Every direction between these hosts."""
    hosts = tuple(hosts)
    return between(hosts, hosts)
