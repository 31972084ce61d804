"""A cluster of node processes on this machine: what ``kvorum up`` starts and ``kvorum down`` ends.

A directory holds it all::

    kvorum-data/cluster.json    which nodes there are, their addresses, their pids while they run
    kvorum-data/n1/             the data directory of a node; only the node touches it
    kvorum-data/n1.log          what the node prints

``cluster.json`` is replaced atomically whenever a pid changes, so that whoever comes next (another
``up``, ``down`` from another shell, the same after a crash of the first) finds the processes. A pid
is believed only if the process behind it is a node with that very data directory: numbers are used
again. Nodes are told to stop with SIGTERM, given time, and killed by pid only when they do not.

Nodes run in sessions of their own, so that Ctrl-C reaches them through us, in order, and not at
once. Left out: restarting a node that died. Whoever supervises in production should; here a death
should be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kvorum_cli.exits import Exit, Stop
from kvorum_cli.settings import DATA_DEFAULT

MANIFEST = "cluster.json"
FORMAT = 1
HOST = "127.0.0.1"
NODES_DEFAULT = 3
BASE_PORT_DEFAULT = 7400
REPLICAS_DEFAULT = 3
STOP_SECONDS = 6.0
STOP_POLL_SECONDS = 0.05
LOG_BYTES_MAX = 16 << 20
LOG_TAIL_BYTES = 4096
LOG_LINE_LENGTH_MAX = 300
SERVER_MODULES = ("kvorum_server", "rocksdict", "google_crc32c", "grpc_health", "structlog")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node of the cluster; ``pid`` is None while nobody has started it."""

    name: str
    address: str
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a directory remembers of its cluster."""

    nodes: tuple[LocalNode, ...]
    partitions: int = 1
    replicas: int = REPLICAS_DEFAULT
    consensus: str = "raft"

    @property
    def initial_cluster(self) -> str:
        """The text that founds the cluster; the same at every start."""
        return ",".join(f"{node.name}={node.address}" for node in self.nodes)

    @property
    def endpoints(self) -> str:
        """Where clients find it."""
        return ",".join(node.address for node in self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for; None = what is there, or the default."""

    nodes: int | None = None
    base_port: int | None = None
    partitions: int | None = None
    replicas: int | None = None
    consensus: str | None = None

    def manifest(self) -> Manifest:
        """A new cluster as wanted. Raises Stop for what cannot be."""
        nodes = self.nodes or NODES_DEFAULT
        base_port = self.base_port or BASE_PORT_DEFAULT
        if base_port + nodes - 1 > 65_535:
            raise Stop(Exit.USAGE, f"{nodes} nodes from port {base_port} go beyond port 65535")
        if self.replicas is not None and self.replicas > nodes:
            raise Stop(
                Exit.USAGE, f"{nodes} nodes cannot hold {self.replicas} replicas of anything"
            )
        return Manifest(
            tuple(
                LocalNode(f"n{number + 1}", f"{HOST}:{base_port + number}")
                for number in range(nodes)
            ),
            self.partitions or 1,
            self.replicas or min(REPLICAS_DEFAULT, nodes),
            self.consensus or "raft",
        )

    def check(self, present: Manifest, directory: Path) -> None:
        """Raises Stop when a cluster that exists is not what is wanted: it cannot be changed."""
        first_port = int(present.nodes[0].address.rpartition(":")[2])
        for option, wanted, found in (
            ("--nodes", self.nodes, len(present.nodes)),
            ("--base-port", self.base_port, first_port),
            ("--partitions", self.partitions, present.partitions),
            ("--replicas", self.replicas, present.replicas),
            ("--consensus", self.consensus, present.consensus),
        ):
            if wanted is not None and wanted != found:
                raise Stop(
                    Exit.USAGE,
                    f"the cluster in {directory} was made with {option} {found}, not {wanted}: "
                    f"leave out {option}, or choose another --data",
                )


class LocalCluster:
    """The cluster of one directory."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        assert manifest.nodes, "a cluster has nodes"
        self.directory = directory
        self.manifest = manifest
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def data_option(self) -> str:
        """What to add to ``kvorum up`` or ``kvorum down`` to mean this cluster."""
        return "" if self.directory == Path(DATA_DEFAULT) else f" --data {self.directory}"

    @classmethod
    def prepare(cls, directory: Path, wanted: Wanted) -> LocalCluster:
        """The cluster of a directory, new or not, started by nobody yet. Raises Stop."""
        manifest = load_manifest(directory)
        if manifest is None or not _was_born(directory, manifest):
            manifest = wanted.manifest()
            foreign = [node.name for node in manifest.nodes if (directory / node.name).exists()]
            if foreign:
                raise Stop(
                    Exit.REFUSED,
                    f"{directory} holds {', '.join(foreign)} but no {MANIFEST}: "
                    "choose another --data, or move these away",
                )
        else:
            wanted.check(manifest, directory)
        return cls(directory, manifest)

    @classmethod
    def find(cls, directory: Path) -> LocalCluster:
        """The cluster that a directory remembers. Raises Stop when there is none."""
        manifest = load_manifest(directory)
        if manifest is None:
            raise Stop(Exit.NOT_FOUND, f"{directory} holds no cluster of 'kvorum up'")
        return cls(directory, manifest)

    def record(self) -> None:
        """Writes down which cluster the directory holds, for the first ``up``. Raises OSError."""
        self._save()

    def running(self) -> list[LocalNode]:
        """The nodes that live, whoever started them; reaps our own that do not."""
        for child in self._children:
            child.poll()
        return [node for node in self.manifest.nodes if self._is_running(node)]

    def refresh(self) -> None:
        """Takes over what others have written: ``up --detach`` may have started a node again."""
        self.manifest = load_manifest(self.directory) or self.manifest

    def start(self, nodes: Iterable[LocalNode]) -> None:
        """Starts nodes and remembers their pids. Raises Stop when that cannot be."""
        chosen = list(nodes)
        require_server()
        for node in chosen:
            require_port(node.address)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._save()
            for node in chosen:
                self._remember(node.name, self._spawn(node))
        except OSError as error:
            place = error.filename or self.directory
            raise Stop(Exit.REFUSED, f"cannot write {place}: {error.strerror}") from None

    async def stop(self) -> list[str]:
        """Ends every node that runs; the names of those that had to be killed."""
        self.refresh()
        stopping = self.running()
        for node in stopping:
            self._signal(node, signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + STOP_SECONDS
        while (left := self.running()) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(STOP_POLL_SECONDS)
        for node in left:
            self._signal(node, signal.SIGKILL)
        while self.running():
            await asyncio.sleep(STOP_POLL_SECONDS)
        if any(node.pid is not None for node in self.manifest.nodes):
            nodes = tuple(dataclasses.replace(node, pid=None) for node in self.manifest.nodes)
            self.manifest = dataclasses.replace(self.manifest, nodes=nodes)
            self._save()
        return [node.name for node in left]

    def log_of(self, name: str) -> Path:
        """The file with everything that a node has printed."""
        return self.directory / f"{name}.log"

    def last_words(self, name: str) -> str:
        """The last line that a node has printed, as far as a terminal should see it."""
        try:
            with self.log_of(name).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                tail = log.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [words for line in _ANSI.sub("", tail).splitlines() if (words := line.split())]
        return " ".join(lines[-1])[:LOG_LINE_LENGTH_MAX] if lines else ""

    # --- Processes ---

    def _spawn(self, node: LocalNode) -> int:
        log = self.log_of(node.name)
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_size > LOG_BYTES_MAX:
                log.replace(log.with_suffix(".log.old"))
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        environment.pop("KVORUM_ADVERTISE", None)
        with log.open("ab") as output:
            child = subprocess.Popen(
                self.command_of(node),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        self._children.append(child)
        return child.pid

    def command_of(self, node: LocalNode) -> list[str]:
        """How a node is started; ``-P``: modules in the working directory do not concern it."""
        return [
            *(sys.executable, "-P", "-m", "kvorum_server", "--name", node.name),
            *self._mark_of(node),
            *("--initial-cluster", self.manifest.initial_cluster),
            *("--partitions", str(self.manifest.partitions)),
            *("--replicas", str(self.manifest.replicas)),
            *("--consensus", self.manifest.consensus),
        ]

    def _mark_of(self, node: LocalNode) -> tuple[str, ...]:
        """The part of a command line that no other process has."""
        data = str((self.directory / node.name).absolute())
        return "--data", data, "--listen", node.address

    def _is_running(self, node: LocalNode) -> bool:
        return node.pid is not None and " ".join(self._mark_of(node)) in command_line(node.pid)

    def _signal(self, node: LocalNode, number: signal.Signals) -> None:
        assert node.pid is not None, "only a node that runs gets a signal"
        with contextlib.suppress(ProcessLookupError):
            os.kill(node.pid, number)

    def _remember(self, name: str, pid: int) -> None:
        nodes = tuple(
            dataclasses.replace(node, pid=pid) if node.name == name else node
            for node in self.manifest.nodes
        )
        self.manifest = dataclasses.replace(self.manifest, nodes=nodes)
        self._save()

    def _save(self) -> None:
        content = json.dumps({"format": FORMAT, **dataclasses.asdict(self.manifest)}, indent=2)
        fresh = self.directory / f"{MANIFEST}.new"
        with fresh.open("w", encoding="utf-8") as file:
            file.write(content + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.directory / MANIFEST)


def load_manifest(directory: Path) -> Manifest | None:
    """What a directory remembers, None when it holds no cluster. Raises Stop."""
    path = directory / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise Stop(
                Exit.REFUSED,
                f"{path} has format {content['format']}, this kvorum knows {FORMAT}: "
                "use the version that wrote it",
            )
        return Manifest(
            tuple(
                LocalNode(str(node["name"]), str(node["address"]), node["pid"])
                for node in content["nodes"]
            ),
            int(content["partitions"]),
            int(content["replicas"]),
            str(content["consensus"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Stop(Exit.REFUSED, f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Stop(
            Exit.REFUSED,
            f"{path} is not what 'kvorum up' wrote: restore it, or choose another --data",
        ) from None


def _was_born(directory: Path, manifest: Manifest) -> bool:
    """Whether a node has ever begun to keep data: before that, a first attempt may be corrected."""
    return any((directory / node.name).exists() for node in manifest.nodes)


def command_line(pid: int) -> str:
    """The command line of a process, its words joined by spaces; empty when there is none."""
    if Path("/proc/self/cmdline").exists():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return ""
        return os.fsdecode(words).replace("\0", " ")
    found = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
    )
    return os.fsdecode(found.stdout)


def require_server() -> None:
    """Raises Stop when the node is not installed: plain kvorum is client and CLI."""
    if any(importlib.util.find_spec(module) is None for module in SERVER_MODULES):
        raise Stop(Exit.REFUSED, "the server is not installed: pip install 'kvorum[server]'")


def require_port(address: str) -> None:
    """Raises Stop when somebody listens on an address, or nobody may."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise Stop(
                Exit.REFUSED,
                f"cannot listen on {address}: {(error.strerror or 'refused').lower()}; stop what "
                "listens there, or give another --base-port to a new --data",
            ) from None
