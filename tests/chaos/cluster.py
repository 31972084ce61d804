"""Nodes and clients of a chaos run, each in a namespace of its own, and what is known of them.

The nodes are those of the integration tests, on other places and with JSON logs. What is added here
is bookkeeping: which nodes are down on purpose, so that one that ended by itself is found out; how
much memory they take; who leads, as their logs tell; and small disks under their data, if wanted.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.clients import Progress
from tests.chaos.disks import Disk
from tests.chaos.network import Network, environment, launcher
from tests.chaos.node_logs import NodeLog, leader_of
from tests.integration.cluster import PATIENCE_SECONDS, Cluster, NodeProcess, Place, eventually

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CLIENT_PROCESS_LINES_MAX = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the nodes of a run are set up. ``disk_bytes`` 0: on the disk of the machine."""

    nodes: int = 3
    disk_bytes: int = 0
    reserve_bytes: int = 32 << 20
    options: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """The nodes' options."""
        reserve = ["--disk-reserve-bytes", str(self.reserve_bytes)] if self.disk_bytes else []
        return ["--replicas", str(self.nodes), "--log-format", "json", *reserve, *self.options]


def node_names(count: int) -> list[str]:
    """
    >>> node_names(3)
    ['n1', 'n2', 'n3']
    """
    return [f"n{number}" for number in range(1, count + 1)]


class Nodes:
    """The nodes of a run, to be struck by name."""

    def __init__(self, network: Network, directory: Path, settings: Settings) -> None:
        *names, self.spare = node_names(settings.nodes + 1)
        self._network, self._directory, self._settings = network, directory, settings
        self.cluster = Cluster(
            directory,
            settings.nodes,
            options=settings.arguments(),
            places=[network.place(name) for name in names],
        )
        self.by_name = {node.name: node for node in self.cluster.nodes}
        offset_ns = time.monotonic_ns() - time.time_ns()
        hosts = [*names, self.spare]
        self.logs = {name: NodeLog(name, directory / f"{name}.log", offset_ns) for name in hosts}
        self.disks = {
            name: Disk(directory / name, network.topology.prefix, settings.disk_bytes)
            for name in hosts
            if settings.disk_bytes
        }
        self.resident_bytes_max: dict[str, int] = {}
        self.violations: list[str] = []
        self._down_by_order: set[str] = set()

    def start(self) -> None:
        """Mounts the disks and starts all nodes."""
        for disk in self.disks.values():
            disk.mount()
        self.cluster.start()

    def end(self) -> None:
        """Ends all nodes and unmounts the disks, as far as they are there."""
        self.cluster.end()
        for disk in self.disks.values():
            disk.unmount()

    @property
    def names(self) -> list[str]:
        """All members; not the spare."""
        return [name for name in sorted(self.logs) if name != self.spare]

    def place(self, name: str) -> Place:
        """Where a node runs, or would run."""
        return self._network.place(name)

    def leader(self) -> str | None:
        """Who leads, as far as the logs tell."""
        for log in self.logs.values():
            log.read()
        return leader_of(list(self.logs.values()))

    # --- Blows ---

    def kill(self, name: str) -> None:
        """kill -9; nobody may start it before :meth:`revive`."""
        self._down_by_order.add(name)
        node = self.by_name[name]
        if node.running:
            node.kill()
        self.logs[name].ended(time.monotonic_ns())

    async def terminate(self, name: str) -> None:
        """SIGTERM, and waits for the end, which must be a good one; nothing if it has ended."""
        node = self.by_name[name]
        if name in self._down_by_order or not node.running:
            return
        self._down_by_order.add(name)
        node.signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(node.wait)
        except subprocess.TimeoutExpired:
            self.violations.append(f"{name} did not end within {PATIENCE_SECONDS:g} s of SIGTERM")
            node.kill()
            return
        self.logs[name].read()
        if code and (self.logs[name].serving or code != -signal.SIGTERM):
            self.violations.append(f"{name} ended with code {code} after SIGTERM")
        self.logs[name].ended(time.monotonic_ns())

    def revive(self, name: str) -> None:
        """Starts a node that was killed or stopped."""
        assert name in self._down_by_order, f"{name} was not taken down"
        if not self.by_name[name].running:
            self.by_name[name].start()
        self._down_by_order.discard(name)

    def pause(self, name: str, number: signal.Signals) -> None:
        """SIGSTOP or SIGCONT."""
        if self.by_name[name].running:
            self.by_name[name].signal(number)

    async def served(self, name: str) -> None:
        """Waits until a node that was started serves."""

        async def serves() -> bool:
            self.logs[name].read()
            return self.logs[name].serving

        await eventually(serves, f"{name} serves")

    # --- Members that come and go ---

    def expect_end(self, name: str) -> None:
        """A node is going to be told that it is no member any more, and to end by itself."""
        self._down_by_order.add(name)

    def lose_disk(self, name: str) -> None:
        """Takes the data of a node that is down away, for good."""
        assert not self.by_name[name].running, f"{name} still uses its disk"
        if name in self.disks:
            self.disks[name].unmount()
            self.disks[name].mount()
        else:
            shutil.rmtree(self._directory / name, ignore_errors=True)

    def start_joining(self, name: str) -> None:
        """Starts an empty node that asks the others to let it in."""
        others = ",".join(node.address for node in self.cluster.nodes if node.name != name)
        arguments = ["--join", others, *self._settings.arguments()]
        node = NodeProcess(name, self.place(name), self._directory, arguments)
        self.cluster.nodes[:] = [node, *(n for n in self.cluster.nodes if n.name != name)]
        self.by_name[name] = node
        node.start()
        self._down_by_order.discard(name)

    def retire(self, name: str) -> None:
        """Ends a node that has left, and clears its place for the next one."""
        self.kill(name)
        self.cluster.nodes[:] = [node for node in self.cluster.nodes if node.name != name]
        self.lose_disk(name)

    # --- Watching ---

    def inspect(self) -> None:
        """Notes memory, and nodes that ended although nobody told them to."""
        for name, node in self.by_name.items():
            if name in self._down_by_order:
                continue
            if not node.running:
                last_words = (node.log.splitlines() or ["nothing"])[-1]
                self.violations.append(
                    f"{name} ended by itself with code {node.wait()}; its last words: {last_words}"
                )
                self._down_by_order.add(name)
                self.logs[name].ended(time.monotonic_ns())
                continue
            resident = resident_bytes(node)
            self.resident_bytes_max[name] = max(resident, self.resident_bytes_max.get(name, 0))

    def complaints(self) -> list[str]:
        """What the nodes said that they should not have had to say."""
        for log in self.logs.values():
            log.read()
        return [f"{log.node}: {line}" for log in self.logs.values() for line in log.complaints]


def resident_bytes(node: NodeProcess) -> int:
    """The memory of a node that is in RAM; 0 when it has just ended."""
    try:
        return int(Path(f"/proc/{node.pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


class ClientProcess:
    """A process of clients in a namespace; ``progress`` is what it said last."""

    def __init__(self, process: asyncio.subprocess.Process, host: str, history: Path) -> None:
        self.host = host
        self.history = history
        self.progress = Progress()
        self.heard = asyncio.Event()
        self._process = process
        self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.progress = Progress(**json.loads(line))
            self.heard.set()

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.returncode is None

    async def end(self) -> None:
        """Lets the process finish what is on its way. Raises when it ended badly."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = await asyncio.wait_for(self._process.wait(), PATIENCE_SECONDS)
        await self._listener
        if code:
            raise RuntimeError(f"the clients on {self.host} ended with code {code}; see above")

    async def kill(self) -> None:
        """Ends the process if it still runs."""
        self._listener.cancel()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


async def start_clients(
    network: Network, host: str, endpoints: str, history: Path, numbers: Sequence[int]
) -> ClientProcess:
    """Starts clients on a host; ``numbers``: the first client, how many, the seed."""
    command = [*launcher(network.topology.namespace(host)), sys.executable]
    command += ["-m", "tests.chaos.clients", endpoints, str(history), *map(str, numbers)]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=CLIENT_PROCESS_LINES_MAX,
        env=environment(),
    )
    return ClientProcess(process, host, history)


@contextlib.asynccontextmanager
async def running_nodes(
    network: Network, directory: Path, settings: Settings
) -> AsyncIterator[Nodes]:
    """Nodes that take writes; gone at the end, whatever happens."""
    nodes = Nodes(network, directory, settings)
    try:
        nodes.start()
        await nodes.cluster.ready()
        yield nodes
    finally:
        nodes.end()
