"""Bad input and broken machines: each refusal is one line that says what to do; nothing is lost."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvorum import AsyncClient, DiskFull, Unavailable
from kvorum_server.config import Config
from kvorum_server.initial_cluster import InitialCluster
from kvorum_server.options import flag_of
from kvorum_server.placement.bootstrap import initial_configurations, make_bootstrap
from kvorum_server.storage.filedisk import FileDisk
from kvorum_server.storage.record import BootstrapRecord, ReplicaCreated
from kvorum_server.storage.rocksdb import FORMAT_KEY, RocksEngine
from kvorum_server.storage.segment import FORMAT as LOG_FORMAT
from kvorum_server.storage.segment import PREFIX_BYTES, encode_prefix
from kvorum_server.storage.wal import WriteAheadLog
from tests.integration.cluster import (
    PATIENCE_SECONDS,
    Cluster,
    NodeProcess,
    Place,
    eventually,
    free_ports,
    running_cluster,
)

SEGMENT_BYTES = 8192


def refusal(node: NodeProcess) -> str:
    """The one line with which a process ends that cannot or must not run."""
    code = node.wait()
    assert code in (1, 2), node.log
    return the_line(node.log)


def the_line(output: str) -> str:
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("kvorum-server: ")]
    return line


def refused(*arguments: str) -> str:
    """What ``kvorum-server`` says on standard error, in one line and nothing else."""
    ended = subprocess.run(
        [sys.executable, "-m", "kvorum_server", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ended.returncode in (1, 2)
    assert ended.stderr.count("\n") == 1, ended.stderr
    return the_line(ended.stderr)


# --- Options and places ---


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--tick-ms", "soon"], "--tick-ms is 'soon'; it must be an integer of at least 1"),
        ([], "initial_cluster is missing.*--initial-cluster n1=127.0.0.1:7400"),
        (["--initial-cluster", "n2=h:1"], "name is 'n1'; it must be one of those.*: n2"),
        (["--initial-cluster", "n1=h"], "'h' is no address; it must be host:port"),
        (["--data", "/dev/null/data"], "cannot use /dev/null/data/log as data directory"),
        (["--data", "/proc/kvorum"], "cannot use /proc/kvorum/log as data directory"),
    ],
)
def test_what_cannot_start_says_why(arguments: list[str], line: str, tmp_path: Path) -> None:
    given = ["--data", str(tmp_path / "data"), *arguments]
    if "--data" in arguments:
        given += ["--initial-cluster", "n1=127.0.0.1:7400"]
    assert re.search(line, refused(*given))


def test_help_lists_every_option() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "kvorum_server", "--help"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    ).stdout
    assert [name for name in Config.__slots__ if flag_of(name) not in shown] == []


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused(
            "--data", str(tmp_path), "--listen", address, "--initial-cluster", f"n1={address}"
        )
    assert f"cannot listen on {address}: the port is in use" in line


# --- A data directory that is not what it should be ---


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A cluster of one node that was stopped after some writes, with several segments of log."""
    cluster = Cluster(
        tmp_path_factory.mktemp("kept"),
        1,
        options=["--segment-bytes", str(SEGMENT_BYTES), "--checkpoint-entries", "15"],
    )

    async def fill() -> None:
        async with cluster.client() as client:
            for number in range(40):
                await client.put(f"key {number}", b"v" * 1000)

    (node,) = cluster.nodes
    try:
        cluster.start()
        asyncio.run(fill())
        began = time.monotonic()
        node.signal(signal.SIGTERM)
        assert node.wait() == 0
        assert time.monotonic() - began < 5
    finally:
        cluster.end()
    return cluster


@pytest.fixture
def node(kept: Cluster, tmp_path: Path) -> Iterator[NodeProcess]:
    """A process for a copy of that directory."""
    (original,) = kept.nodes
    copy = NodeProcess(
        "n1",
        Place(original.address),
        tmp_path,
        ["--initial-cluster", kept.initial, "--segment-bytes", str(SEGMENT_BYTES)],
    )
    shutil.copytree(original.data, copy.data)
    yield copy
    copy.end()


def segments(node: NodeProcess) -> list[Path]:
    return sorted((node.data / "log").glob("*.wal"))


def written(node: NodeProcess) -> list[Path]:
    """Segments that hold something; the spares behind them are blank."""
    return [path for path in segments(node) if path.read_bytes()[PREFIX_BYTES:].strip(b"\0")]


def value_at(node: NodeProcess, key: str) -> bytes | None:
    async def ask() -> bytes | None:
        async with AsyncClient(node.address, timeout=PATIENCE_SECONDS) as client:
            item = await client.get(key)
            return None if item is None else item.value

    return asyncio.run(ask())


def test_another_initial_cluster_than_the_one_it_began_with(node: NodeProcess) -> None:
    node.start("--initial-cluster", "n1=127.0.0.1:1,n2=127.0.0.1:2")
    line = refusal(node)
    assert "initial_cluster disagrees with the data in" in line
    assert f"which began as n1={node.address}; repeat that text" in line


def test_the_directory_of_another_node(node: NodeProcess, kept: Cluster) -> None:
    node.name = "n2"
    node.start("--initial-cluster", f"{kept.initial},n2=127.0.0.1:1")
    assert "disagrees with the data in" in refusal(node)


def test_a_directory_in_use(node: NodeProcess, kept: Cluster) -> None:
    node.start()
    assert value_at(node, "key 0") == b"v" * 1000
    line = refused(
        "--data", str(node.data), "--listen", "127.0.0.1:1", "--initial-cluster", kept.initial
    )
    assert "is in use by another kvorum-server; stop it" in line
    assert value_at(node, "key 39") == b"v" * 1000


def test_a_flipped_bit_in_the_log(node: NodeProcess) -> None:
    path = written(node)[-1]
    data = bytearray(path.read_bytes())
    offset = PREFIX_BYTES + 100
    data[offset] ^= 1
    path.write_bytes(data)
    node.start()
    line = refusal(node)
    assert re.search(rf"write-ahead log damaged: {path.name} at byte \d+", line)
    assert "start the node with --join and addresses of other members, or restore a backup" in line
    assert path.read_bytes() == data, "what is damaged is left as it was found"


def test_a_missing_segment(node: NodeProcess) -> None:
    missing = segments(node)[1]
    missing.unlink()
    node.start()
    assert f"write-ahead log damaged: {missing.name} at byte 0: the segment is missing" in refusal(
        node
    )


def test_a_torn_tail_is_cut_without_a_fuss(node: NodeProcess) -> None:
    path = written(node)[-1]
    data = bytearray(path.read_bytes())
    end = len(data.rstrip(b"\0"))
    data[end + 8 : end + 40] = b"half of a write that nobody knew"
    path.write_bytes(data)
    node.start()
    assert value_at(node, "key 39") == b"v" * 1000
    assert "torn tail cut" in node.log


def test_a_log_of_a_newer_format(node: NodeProcess) -> None:
    path = written(node)[-1]
    data = path.read_bytes()
    newer = LOG_FORMAT + 1
    prefix = encode_prefix(int(path.stem), len(data), version=newer)
    path.write_bytes(prefix + data[PREFIX_BYTES:])
    node.start()
    line = f"{path.name} has format {newer}, this program knows formats up to {LOG_FORMAT}"
    assert line in refusal(node)


def test_a_state_of_a_newer_format(node: NodeProcess) -> None:
    engine = RocksEngine(node.data / "state", Config())
    engine.write({FORMAT_KEY: (2).to_bytes(4, "big")})
    engine.flush()
    engine.close()
    node.start()
    line = refusal(node)
    assert "state has format 2, this program knows formats up to 1" in line
    assert "upgrade" in line


def test_a_state_that_was_deleted(node: NodeProcess) -> None:
    shutil.rmtree(node.data / "state")
    node.start()
    assert re.search(r"the state of group \d ends at entry 0, but a checkpoint at", refusal(node))


def test_a_full_disk_refuses_writes_and_nothing_else(node: NodeProcess) -> None:
    node.start("--disk-reserve-bytes", str(10**17))

    async def story() -> None:
        async with AsyncClient(node.address, timeout=PATIENCE_SECONDS) as client:

            async def is_full() -> bool:
                try:
                    await client.put("key 0", "new", timeout=1.0)
                except DiskFull as error:
                    return "delete keys or compact" in str(error)
                except Unavailable:
                    return False  # it is still starting
                return False

            await eventually(is_full, "writes are refused")
            assert await client.get("key 1") is not None
            assert await client.delete("key 1")
            assert await client.get("key 1") is None
            assert "disk full" in " ".join((await client.status(node.address)).alarms)

    asyncio.run(story())
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    node.start()

    async def again() -> None:
        async with AsyncClient(node.address, timeout=PATIENCE_SECONDS) as client:
            await client.put("key 1", "there is room")

    asyncio.run(again())
    assert value_at(node, "key 1") == b"there is room"


# --- Nodes that must not form a cluster ---


def test_an_initial_cluster_that_disagrees_between_nodes(tmp_path: Path) -> None:
    first, second = (f"127.0.0.1:{port}" for port in free_ports(2))
    texts = {"n1": f"n1={first},n2={second}", "n2": f"n2={second},n1={first}"}
    nodes = [
        NodeProcess(name, Place(address), tmp_path, ["--initial-cluster", texts[name]])
        for name, address in (("n1", first), ("n2", second))
    ]
    try:
        for node in nodes:
            node.start()
        stopped = asyncio.run(one_stops(nodes))
        assert "were started with different --initial-cluster texts; give all" in refusal(stopped)
    finally:
        for node in nodes:
            node.end()


def test_two_nodes_with_one_identity(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 2)
    first, second = cluster.nodes
    try:
        first.start()
        asyncio.run(eventually_in(first, "serving"))
        first.kill()
        shutil.copytree(first.data, second.data)
        cluster.start()
        stopped = asyncio.run(one_stops(cluster.nodes))
        line = refusal(stopped)
        assert "have the same identity: one data directory is a copy of the other" in line
        assert "an empty --data directory" in line
    finally:
        cluster.end()


async def one_stops(nodes: list[NodeProcess]) -> NodeProcess:
    async def any_stopped() -> bool:
        return not all(node.running for node in nodes)

    await eventually(any_stopped, "one of the nodes stops")
    return next(node for node in nodes if not node.running)


async def eventually_in(node: NodeProcess, text: str) -> None:
    async def is_logged() -> bool:
        return text in node.log

    await eventually(is_logged, f"{node.name} logs {text!r}")


def test_an_emptied_member_and_a_member_of_another_cluster_are_sent_away(tmp_path: Path) -> None:
    """And a stopped leader hands over, while the others keep every acknowledged write."""

    async def story() -> None:
        async with running_cluster(tmp_path) as cluster, cluster.client() as client:
            await client.put("before", "1")
            leader = await cluster.leader()
            lost = next(node for node in cluster.nodes if node is not leader)
            lost.kill()
            shutil.move(lost.data, tmp_path / "lost")
            lost.start()
            line = await asyncio.to_thread(refusal, lost)
            assert "was it emptied or lost?" in line
            assert f"`kvorum member replace {lost.name}`" in line
            await client.put("meanwhile", "2")

            lost.log_path.unlink()
            shutil.rmtree(lost.data)
            found_alone(lost, cluster, tmp_path)
            lost.start()
            assert "belongs to cluster" in await asyncio.to_thread(refusal, lost)

            lost.log_path.unlink()
            shutil.rmtree(lost.data)
            shutil.move(tmp_path / "lost", lost.data)
            lost.start()
            await eventually_in(lost, "peer connected")
            await hand_over(cluster)
            for key, value in (("before", b"1"), ("meanwhile", b"2")):
                item = await client.get(key)
                assert item is not None
                assert item.value == value

    asyncio.run(story())


def found_alone(node: NodeProcess, cluster: Cluster, directory: Path) -> None:
    """Gives a node the directory of the same node in another cluster of the same text."""
    initial = InitialCluster.parse(cluster.initial)
    disk = FileDisk(node.data / "log")
    log, recovered = WriteAheadLog.open(
        disk, segment_bytes=Config().segment_bytes, new_identity=lambda: 7
    )
    identities = {name: number for number, (name, _) in enumerate(initial.members, 100)}
    bootstrap = make_bootstrap(
        cluster_id=b"another cluster!",
        members=initial.members,
        identities=identities | {node.name: recovered.identity},
        partitions=1,
        replicas=3,
        protocol="raft",
        initial_cluster_hash=initial.hash,
        settings=Config(),
    )
    created = [
        ReplicaCreated(
            group, configuration.replica_of(recovered.identity) or 0, group + 1, configuration
        )
        for group, configuration in initial_configurations(bootstrap).items()
    ]
    log.append([BootstrapRecord(bootstrap.SerializeToString()), *created])
    log.sync()
    log.close()
    disk.close()


async def hand_over(cluster: Cluster) -> None:
    """SIGTERM to the leader: it is gone within five seconds, and another one leads."""
    leader = await cluster.leader()
    leader.signal(signal.SIGTERM)
    began = time.monotonic()
    assert await asyncio.to_thread(leader.wait) == 0
    assert time.monotonic() - began < 5
    async with cluster.client() as client:
        await client.put("after", "3")
    assert "Traceback" not in leader.log
