"""A real cluster for tests: node processes on loopback, free ports, ended by process id whatever
happens.

Nothing here waits by sleeping for a guess: a test says what must become true and how long it may
take at most; the time limits are generous, because machines are shared, and only a hang reaches
them.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvorum import AsyncClient, KvorumError, NodeStatus

PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.02


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; they stay bound until all are drawn, so that none comes
    twice.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Returns once ``condition`` holds; fails with ``what`` when patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node runs: its ``host:port``, and the command that puts its process there, if any."""

    address: str
    launcher: tuple[str, ...] = ()


def loopback(count: int) -> list[Place]:
    """Places on this machine."""
    return [Place(f"127.0.0.1:{port}") for port in free_ports(count)]


class NodeProcess:
    """One ``kvorum-server`` process and what it needs to be started again."""

    def __init__(self, name: str, place: Place, directory: Path, arguments: Sequence[str]) -> None:
        self.name = name
        self.address = place.address
        self._launcher = place.launcher
        self.data = directory / name
        self.log_path = directory / f"{name}.log"
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Starts the process; its output is appended to the log."""
        assert not self.running
        command = [*self._launcher, sys.executable, "-m", "kvorum_server", "--name", self.name]
        command += ["--data", str(self.data), "--listen", self.address, *self._arguments, *more]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment()
            )

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KVORUM_")}
        return kept | {"PYTHONPATH": os.pathsep.join(sys.path)}

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, by process id."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and waits until the process is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """The exit code, once there is one."""
        assert self._process is not None
        return self._process.wait(PATIENCE_SECONDS)

    @property
    def log(self) -> str:
        """All that the node has written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def end(self) -> None:
        """Leaves nothing running."""
        if self.running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            self.wait()


class Cluster:
    """Nodes n1..nN that know each other."""

    def __init__(
        self,
        directory: Path,
        count: int = 3,
        *,
        options: Sequence[str] = (),
        places: Sequence[Place] = (),
    ) -> None:
        places = places or loopback(count)
        names = [f"n{number}" for number in range(1, count + 1)]
        self.initial = ",".join(
            f"{name}={place.address}" for name, place in zip(names, places, strict=True)
        )
        arguments = ["--initial-cluster", self.initial, "--replicas", str(min(3, count)), *options]
        self.nodes = [
            NodeProcess(name, place, directory, arguments)
            for name, place in zip(names, places, strict=True)
        ]

    @property
    def endpoints(self) -> str:
        """All addresses, as the SDK takes them."""
        return ",".join(node.address for node in self.nodes)

    def start(self) -> None:
        """Starts every node that does not run."""
        for node in self.nodes:
            if not node.running:
                node.start()

    def end(self) -> None:
        """Leaves nothing running."""
        for node in self.nodes:
            node.end()

    def client(self, *, timeout: float = PATIENCE_SECONDS) -> AsyncClient:
        """A client of the whole cluster."""
        return AsyncClient(self.endpoints, timeout=timeout)

    async def status(self, node: NodeProcess) -> NodeStatus | None:
        """What a node says of itself; None when it does not answer."""
        async with AsyncClient(node.address, timeout=1.0) as client:
            try:
                return await client.status(node.address)
            except KvorumError:
                return None

    async def ready(self) -> None:
        """Returns once a write goes through."""
        async with self.client() as client:
            await client.put("ready", "yes")

    async def leader(self, group: int = 1) -> NodeProcess:
        """The running node that leads a group, as it says itself."""
        found: list[NodeProcess] = []

        async def one_leads() -> bool:
            for node in self.nodes:
                status = await self.status(node) if node.running else None
                roles = {} if status is None else {one.group: one.role for one in status.groups}
                if roles.get(group) == "leader":
                    found.append(node)
                    return True
            return False

        await eventually(one_leads, f"group {group} has a leader")
        return found[0]

    async def applied(self, node: NodeProcess, group: int = 1) -> int:
        """The applied index of a group on a node; 0 when it does not answer."""
        status = await self.status(node)
        if status is None:
            return 0
        return next((one.applied for one in status.groups if one.group == group), 0)


@contextlib.asynccontextmanager
async def running_cluster(
    directory: Path, count: int = 3, *, options: Sequence[str] = (), ready: bool = True
) -> AsyncIterator[Cluster]:
    """A cluster, after its first write unless not wanted; gone at the end, also when the test
    fails.
    """
    cluster = Cluster(directory, count, options=options)
    try:
        cluster.start()
        if ready:
            await cluster.ready()
        yield cluster
    finally:
        cluster.end()
