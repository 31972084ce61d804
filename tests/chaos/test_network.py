"""Namespaces as hosts: what is planned for them, and that real packets obey."""

import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.chaos.faults import BadLines, Kill, Partition, Shape, cuts_of, weather_of
from tests.chaos.network import (
    NAMESPACES,
    Network,
    environment,
    is_abandoned,
    launcher,
    network,
    sweep,
)
from tests.chaos.permission import need_namespaces
from tests.chaos.quality import QUEUE_SECONDS_MAX, Line, Quality
from tests.chaos.slow_path import direction_of
from tests.chaos.topology import NAME_PREFIX, Topology, Weather, apart, between, everywhere

HOSTS = ("n1", "n2", "n3")
NODES = ["n1", "n2", "n3", "n4", "n5"]
CLIENTS = ["c1", "c2"]

ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], 7400)) as server:
    print("ready", flush=True)
    while True:
        server.accept()[0].close()
"""
DIAL = """
import socket, sys, time
began = time.monotonic()
socket.create_connection((sys.argv[1], 7400), timeout=0.4).close()
print(time.monotonic() - began)
"""


# --- Plans ---


def test_weather_changes_by_what_differs_only() -> None:
    topology = Topology(4711, HOSTS)
    cut = Weather(cuts=between(["n1"], ["n2", "n3"]))
    less = Weather(cuts=between(["n1"], ["n2"]), bad={("n2", "n3"): Quality(delay_ms=5)})
    first, second, third = (topology.address(host) for host in HOSTS)
    assert topology.changes(cut, less) == [
        f"rule del pref 10 from {first} to {third} blackhole",
        f"rule add pref 20 from {second} to {third} iif to-n2 lookup 100",
    ]
    assert topology.changes(less, less) == []


def test_runs_of_different_processes_share_no_name_and_no_address() -> None:
    runs = [Topology(run, HOSTS) for run in (4711, 4712)]
    for property_of in (lambda t: set(t.namespaces()), lambda t: set(map(t.address, HOSTS))):
        one, other = map(property_of, runs)
        assert not one & other


@pytest.mark.parametrize("choice", range(8))
def test_every_partition_has_the_shape_of_its_name(choice: int) -> None:
    def cuts(shape: Shape) -> frozenset[tuple[str, str]]:
        return cuts_of(shape, "n2", NODES, CLIENTS, choice)

    others = [node for node in NODES if node != "n2"]
    assert cuts(Shape.ISOLATED) == apart(["n2"], others)
    assert cuts(Shape.DEAF) | cuts(Shape.MUTE) == cuts(Shape.ISOLATED)
    assert not cuts(Shape.DEAF) & cuts(Shape.MUTE)
    assert cuts(Shape.CLIENTS) == apart(["n2"], CLIENTS)
    ((source, target),) = cuts(Shape.ONE_WAY)
    assert source == "n2"
    assert target in others
    bridge = cuts(Shape.BRIDGE)
    assert len(bridge) == 2 * 2 * 2, "two nodes on each side cannot speak with the other two"
    assert all("n2" not in direction for direction in bridge)
    small = {node for node in NODES if ("n2", node) not in cuts(Shape.MINORITY)}
    assert len(small) == 2, "the victim and one other"


def test_bad_lines_of_one_node_reach_the_clients_and_those_of_all_do_not() -> None:
    quality = Quality(delay_ms=5)
    one = weather_of(BadLines(quality), ["n1"], NODES, CLIENTS, 0)
    assert set(one.bad) == apart(["n1"], {*NODES, *CLIENTS} - {"n1"})
    assert set(weather_of(BadLines(quality), NODES, NODES, CLIENTS, 0).bad) == everywhere(NODES)
    assert weather_of(Kill(), ["n1"], NODES, CLIENTS, 0) == Weather()
    both = one | weather_of(Partition(Shape.CLIENTS), ["n1"], NODES, CLIENTS, 0)
    assert both.cuts
    assert both.bad == one.bad


def test_a_lossy_line_loses_about_its_share_and_doubles_its_share() -> None:
    line = Line(Quality(loss=0.25, duplicates=0.1), random.Random(3))
    copies = [len(line.arrivals(100, 0.0)) for _ in range(4000)]
    assert 0.22 < copies.count(0) / 4000 < 0.28
    assert 0.05 < copies.count(2) / 4000 < 0.1


def test_jitter_stays_in_its_bounds_and_lets_packets_overtake() -> None:
    line = Line(Quality(delay_ms=10, jitter_ms=5), random.Random(3))
    arrivals = [arrival for number in range(500) for arrival in line.arrivals(100, number / 1e4)]
    delays = [arrival - number / 1e4 for number, arrival in enumerate(arrivals)]
    assert 0.005 <= min(delays) < 0.006
    assert 0.014 < max(delays) <= 0.015
    assert arrivals != sorted(arrivals)


def test_a_slow_line_spaces_packets_and_loses_what_its_queue_cannot_hold() -> None:
    line = Line(Quality(kilobits_per_second=80), random.Random(3))
    arrivals = [line.arrivals(1000, 0.0) for _ in range(20)]
    assert [round(arrival, 3) for arrival, *_ in arrivals[:3]] == [0.1, 0.2, 0.3]
    kept = [arrival for packet in arrivals for arrival in packet]
    assert max(kept) <= QUEUE_SECONDS_MAX + 0.2
    assert arrivals[-1] == []


def test_the_slow_path_reads_addresses_where_ip_has_them() -> None:
    packet = bytearray(40)
    packet[12:20] = bytes([10, 64, 0, 1, 10, 64, 0, 2])
    assert direction_of(bytes(packet)) == "10.64.0.1 10.64.0.2"


def test_only_names_of_ended_runs_are_abandoned() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    alive = is_abandoned(f"{NAME_PREFIX}-{ended.pid}-n1")
    ended.wait()
    assert not alive
    assert is_abandoned(f"{NAME_PREFIX}-{ended.pid}-n1")
    assert is_abandoned(f"{NAME_PREFIX}-{ended.pid}")
    assert not is_abandoned(f"other-{ended.pid}-n1")


# --- Packets ---


@pytest.fixture
def hosts() -> Iterator[Network]:
    """Three hosts, each of which accepts connections."""
    need_namespaces()
    with network(HOSTS, seed=5) as made:
        servers = [_python(made, host, ECHO, made.topology.address(host)) for host in HOSTS]
        try:
            for server in servers:
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
            yield made
        finally:
            for server in servers:
                server.kill()
                server.communicate()


def _python(made: Network, host: str, program: str, argument: str) -> subprocess.Popen[str]:
    command = [*launcher(made.topology.namespace(host)), sys.executable, "-c", program, argument]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=subprocess.DEVNULL, text=True)


def reach(made: Network, source: str, target: str) -> float | None:
    """Seconds that a new connection takes; None: it cannot be made."""
    found = _python(made, source, DIAL, made.topology.address(target)).communicate()[0]
    return float(found) if found else None


def test_cuts_delays_and_their_end(hosts: Network) -> None:
    assert reach(hosts, "n1", "n2") is not None
    hosts.set(Weather(cuts=between(["n1"], ["n2"])))
    assert reach(hosts, "n1", "n2") is None
    assert reach(hosts, "n2", "n1") is None, "no connection without an answer"
    assert reach(hosts, "n1", "n3") is not None
    delayed = Quality(delay_ms=50)
    hosts.set(Weather(bad=dict.fromkeys(apart(["n1"], ["n2"]), delayed)))
    seconds = reach(hosts, "n1", "n2")
    assert seconds is not None
    assert seconds >= 0.1, "there and back"
    quick = reach(hosts, "n1", "n3")
    assert quick is not None
    assert quick < seconds
    hosts.set(Weather(bad={("n2", "n1"): Quality(loss=1.0)}))
    assert reach(hosts, "n1", "n2") is None
    hosts.set(Weather())
    assert reach(hosts, "n1", "n2") is not None


def test_nothing_is_left_of_a_run_that_was_killed() -> None:
    need_namespaces()
    program = (
        "from tests.chaos.network import network\n"
        "with network(('n1', 'n2')) as made:\n"
        "    print(made.topology.prefix, flush=True)\n"
        "    input()\n"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert run.stdout is not None
    prefix = run.stdout.readline().strip()
    made = [path.name for path in NAMESPACES.iterdir() if path.name.startswith(prefix)]
    assert len(made) == 3
    run.kill()
    run.communicate()
    assert set(made) <= set(sweep())
    assert not [path for path in NAMESPACES.iterdir() if path.name.startswith(prefix)]
