"""The systems under test: three nodes on this machine, started, found, hurt and ended alike.

A system gives what a measurement needs: endpoints for its client, the process ids of its servers,
its leader. Both write durably: an acknowledgement comes after the fsync of a quorum. etcd runs
with its defaults; its client talks to the leader, so that no request makes an extra hop, as ours
does by following hints. Data lives in a directory that the caller removes; ports are free ones;
processes are ended by their ids, whatever happens.
"""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.bench.load import Job, Measurement
from tests.integration.cluster import Cluster, eventually, free_ports

ROOT = Path(__file__).resolve().parents[2]
HEADROOM_BYTES = 1 << 20
"""Of the pipe from a client process: a measurement is a short line."""


class System(Protocol):
    """Three nodes of one kind."""

    name: str
    python: str
    """The interpreter that has the client library."""

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the servers that run."""

    async def start(self) -> None:
        """Returns once the nodes take writes."""

    async def endpoints(self) -> str:
        """Where a client connects."""

    def end(self) -> None:
        """Leaves no process running."""


class KvorumSystem:
    """Our own nodes."""

    name = "kvorum"
    python = sys.executable

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def processes(self) -> tuple[int, ...]:
        return tuple(node.pid for node in self.cluster.nodes if node.running)

    async def start(self) -> None:
        self.cluster.start()
        await self.cluster.ready()

    async def endpoints(self) -> str:
        return self.cluster.endpoints

    def end(self) -> None:
        self.cluster.end()


class EtcdSystem:
    """etcd as Debian packages it, with all its defaults."""

    name = "etcd"

    def __init__(self, directory: Path, python: str) -> None:
        self.python = python
        self._directory = directory
        ports = free_ports(6)
        self._clients = [f"http://127.0.0.1:{port}" for port in ports[:3]]
        self._peers = [f"http://127.0.0.1:{port}" for port in ports[3:]]
        self._running: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def missing(python: str) -> str:
        """Why etcd cannot take part; empty when it can."""
        if shutil.which("etcd") is None:
            return "etcd is not installed (Debian: apt-get install etcd-server)"
        importing = subprocess.run(
            [python, "-c", "import aetcd, uvloop"], capture_output=True, check=False
        )
        if importing.returncode:
            return f"{python} has no aetcd (pip install -r requirements/bench.txt)"
        return ""

    @property
    def processes(self) -> tuple[int, ...]:
        return tuple(process.pid for process in self._running)

    async def start(self) -> None:
        initial = ",".join(f"e{n}={peer}" for n, peer in enumerate(self._peers))
        for number, (client, peer) in enumerate(zip(self._clients, self._peers, strict=True)):
            data = self._directory / f"e{number}"
            command = ["etcd", "--name", f"e{number}", "--data-dir", str(data)]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            command += ["--initial-cluster", initial, "--initial-cluster-state", "new"]
            with data.with_suffix(".log").open("ab") as log:
                self._running.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                )
        await eventually(self._has_leader, "etcd has a leader")

    async def _has_leader(self) -> bool:
        return await asyncio.to_thread(self._leader) is not None

    async def endpoints(self) -> str:
        leader = await asyncio.to_thread(self._leader)
        assert leader is not None, "etcd has no leader"
        return leader.removeprefix("http://")

    def _leader(self) -> str | None:
        return next((address for address in self._clients if _etcd_leads(address)), None)

    def end(self) -> None:
        for process in self._running:
            process.kill()
        for process in self._running:
            process.wait()
        self._running.clear()


def _etcd_leads(address: str) -> bool:
    """Whether a member is the leader, as it says itself over its HTTP gateway."""
    request = urllib.request.Request(address + "/v3/maintenance/status", data=b"{}")
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            status = json.load(answer)
    except (OSError, ValueError):
        return False
    return bool(status["header"]["member_id"] == status.get("leader"))


class ClientProcess:
    """The client of one system, in a process of its own."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Starts the process; it connects with its first job."""
        endpoints = await self.system.endpoints()
        self._process = await asyncio.create_subprocess_exec(
            *(self.system.python, "-m", "tests.bench.client", self.system.name, endpoints),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            limit=HEADROOM_BYTES,
        )

    async def run(self, job: Job) -> Measurement:
        """Has a job done and returns what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(job.line())
        line = await self._process.stdout.readline()
        assert line, f"the client of {self.system.name} ended; its complaint is above"
        return Measurement.of(line)

    async def end(self) -> None:
        """Ends the process, by its id if it does not end by itself."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Stage:
    """Systems with their clients, running; ``async with``, and nothing is left behind."""

    def __init__(self, systems: Sequence[System]) -> None:
        self.systems = systems
        self.clients = [ClientProcess(system) for system in systems]
        self._started: list[ClientProcess] = []

    async def __aenter__(self) -> "Stage":
        try:
            for system, client in zip(self.systems, self.clients, strict=True):
                await system.start()
                await client.start()
                self._started.append(client)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._end()

    async def _end(self) -> None:
        for client in self._started:
            await client.end()
        for system in self.systems:
            system.end()


async def stop_nodes(cluster: Cluster, number: signal.Signals) -> float:
    """Sends a signal to all nodes and waits for their end: the seconds that took."""
    started = time.monotonic()
    for node in cluster.nodes:
        node.signal(number)
    await asyncio.gather(*(asyncio.to_thread(node.wait) for node in cluster.nodes))
    return time.monotonic() - started
