"""A network of namespaces on this machine: made, disturbed and taken away again.

What exactly is done is decided in ``topology``; here it is carried out, by ``ip`` and by the slow
path. A network is a context: it is gone afterwards, also after a failure or Ctrl-C. What cannot
clean up, because it was killed with -9, leaves names that carry its process id; :func:`sweep`, at
the start of every run, removes everything whose process is no longer there, processes that were
started in such a namespace included.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.topology import NAME_PREFIX, Topology, Weather
from tests.integration.cluster import Place

NAMESPACES = Path("/run/netns")
TUN_DEVICE = Path("/dev/net/tun")
CLONE_NEWNET = 0x40000000
COMMAND_SECONDS_MAX = 20.0
PORT = 7400


def missing() -> str:
    """Why this machine cannot have such a network; empty when it can."""
    if sys.platform != "linux":
        return "network namespaces are a thing of Linux"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if shutil.which("ip") is None:
        return "there is no ip command (Debian: apt-get install iproute2)"
    if not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        return f"{TUN_DEVICE} cannot be opened"
    name = f"{NAME_PREFIX}-{os.getpid()}-probe"
    made = _command(["ip", "netns", "add", name], check=False)
    if made.returncode:
        return f"network namespaces are not permitted: {made.stderr.strip()}"
    _command(["ip", "netns", "delete", name])
    return ""


class NetworkError(RuntimeError):
    """A command that should have changed the network has failed; the text says which and why."""


def _command(
    words: Sequence[str], text: str = "", *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        words, input=text, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False
    )
    if check and done.returncode:
        raise NetworkError(f"{' '.join(words)}: {done.stderr.strip()}\n{text}")
    return done


def _batch(lines: Sequence[str], namespace: str = "") -> None:
    """Has ``ip`` carry out many lines, in a namespace if one is named."""
    if lines:
        inside = ["-netns", namespace] if namespace else []
        _command(["ip", *inside, "-batch", "-"], "\n".join(lines) + "\n")


class Network:
    """The namespaces of one run, with the weather in them."""

    def __init__(self, topology: Topology, seed: int) -> None:
        self.topology = topology
        self.weather = Weather()
        self._seed = seed
        self._slow_path: subprocess.Popen[str] | None = None

    def make(self) -> None:
        """Namespaces, cables, routes, and the slow path."""
        topology = self.topology
        for namespace in topology.namespaces():
            _command(["ip", "netns", "add", namespace])
        _batch(topology.cabling())
        _batch(topology.hub_setup(), topology.hub)
        for host in topology.hosts:
            _batch(topology.host_setup(host), topology.namespace(host))
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        _command([*launcher(topology.hub), "sh", "-c", forward])
        self._start_slow_path()

    def _start_slow_path(self) -> None:
        command = [*launcher(self.topology.hub), sys.executable, "-m", "tests.chaos.slow_path"]
        self._slow_path = subprocess.Popen(
            [*command, str(self._seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._await_slow_path("ready")
        _batch(self.topology.slow_path_setup(), self.topology.hub)

    def _await_slow_path(self, word: str) -> None:
        assert self._slow_path is not None
        assert self._slow_path.stdout is not None
        line = self._slow_path.stdout.readline().strip()
        if line != word:
            raise NetworkError(f"the slow path said {line!r} instead of {word!r}")

    def set(self, weather: Weather) -> None:
        """Makes this the weather."""
        assert self._slow_path is not None
        assert self._slow_path.stdin is not None
        address = self.topology.address
        table = {
            f"{address(source)} {address(target)}": quality.as_json()
            for (source, target), quality in weather.bad.items()
        }
        self._slow_path.stdin.write(json.dumps(table) + "\n")
        self._slow_path.stdin.flush()
        self._await_slow_path("done")
        _batch(self.topology.changes(self.weather, weather), self.topology.hub)
        self.weather = weather

    def place(self, host: str) -> Place:
        """Where a node of this host runs."""
        namespace = self.topology.namespace(host)
        return Place(f"{self.topology.address(host)}:{PORT}", launcher(namespace))

    def remove(self) -> None:
        """Takes everything away, as far as it was made."""
        if self._slow_path is not None:
            self._slow_path.kill()
            self._slow_path.communicate()
        for namespace in self.topology.namespaces():
            if (NAMESPACES / namespace).exists():
                _remove_namespace(namespace)


def launcher(namespace: str) -> tuple[str, ...]:
    """What to put in front of a command to run it in a namespace; the process id stays one."""
    return ("ip", "netns", "exec", namespace)


def environment() -> dict[str, str]:
    """Lets a process of ours import what this one can import."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@contextlib.contextmanager
def network(hosts: Sequence[str], seed: int = 0) -> Iterator[Network]:
    """A network of this process; nothing of it is left afterwards."""
    made = Network(Topology(os.getpid(), tuple(hosts)), seed)
    sweep()
    try:
        made.make()
        yield made
    finally:
        made.remove()


def enter(namespace: str) -> None:
    """Moves this process into a namespace; threads that exist already stay behind, so first."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (NAMESPACES / namespace).open("rb") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise NetworkError(f"setns to {namespace}: {os.strerror(ctypes.get_errno())}")


# --- What dead runs have left ---


def sweep() -> list[str]:
    """Removes what runs that live no more have left; their names."""
    namespaces = sorted(NAMESPACES.iterdir()) if NAMESPACES.exists() else []
    left = [path.name for path in namespaces if is_abandoned(path.name)]
    for namespace in left:
        _remove_namespace(namespace)
    for mount in Path("/proc/mounts").read_text().splitlines():
        source, target, *_ = mount.split()
        if is_abandoned(source):
            _command(["umount", "--lazy", target])
            left.append(source)
    return left


def is_abandoned(name: str) -> bool:
    """Whether a name is one of ours, of a run whose process is gone.

    >>> is_abandoned(f"{NAME_PREFIX}-{os.getpid()}-n1"), is_abandoned("docker0")
    (False, False)
    """
    found = re.match(rf"{NAME_PREFIX}-(\d+)(-|$)", name)
    return found is not None and not Path(f"/proc/{found[1]}").exists()


def _remove_namespace(namespace: str) -> None:
    inside = _command(["ip", "netns", "pids", namespace], check=False).stdout.split()
    for process in map(int, inside):
        if process != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    _command(["ip", "netns", "delete", namespace])
