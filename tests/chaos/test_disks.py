"""Nodes on small disks of their own, really filled up: what cannot be kept is refused, and all goes
on by itself when there is space again.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from kvorum import AsyncClient, DiskFull, KvorumError
from tests.chaos.disks import Disk
from tests.chaos.network import sweep
from tests.chaos.permission import need_namespaces
from tests.chaos.topology import NAME_PREFIX
from tests.integration.cluster import Cluster, NodeProcess, eventually, running_cluster

pytestmark = pytest.mark.timeout(120)

DISK_BYTES = 96 << 20
RESERVE_BYTES = 16 << 20
NEARLY_BYTES = 1 << 20
WRITES_MAX = 5_000
OPTIONS = ["--disk-reserve-bytes", str(RESERVE_BYTES), "--segment-bytes", "1MiB"]


@contextlib.asynccontextmanager
async def small_disks(directory: Path) -> AsyncIterator[tuple[Cluster, dict[str, Disk]]]:
    """Three nodes, each with a small disk."""
    need_namespaces()
    sweep()
    name = f"{NAME_PREFIX}-{os.getpid()}"
    disks = {node: Disk(directory / node, name, DISK_BYTES) for node in ("n1", "n2", "n3")}
    try:
        for disk in disks.values():
            disk.mount()
        async with running_cluster(directory, options=OPTIONS) as cluster:
            yield cluster, disks
    finally:
        for disk in disks.values():
            disk.unmount()


async def alarm_of(cluster: Cluster, node: NodeProcess) -> bool:
    """Whether a node's status warns of its disk."""
    status = await cluster.status(node)
    return status is not None and any("disk full" in alarm for alarm in status.alarms)


async def refused(kv: AsyncClient) -> bool:
    """Whether a write is refused for lack of space."""
    try:
        await kv.put("key", "new", timeout=1.0)
    except DiskFull as error:
        return "delete keys or compact" in str(error)
    return False


def test_a_leader_without_space_refuses_writes_serves_reads_and_recovers(tmp_path: Path) -> None:
    async def story() -> None:
        async with small_disks(tmp_path) as (cluster, disks), cluster.client() as kv:
            await kv.put("kept", "before")
            for disk in disks.values():
                disk.fill(NEARLY_BYTES)
            await eventually(lambda: refused(kv), "writes are refused")
            item = await kv.get("kept")
            assert item is not None
            assert item.value == b"before"
            assert (await kv.delete("kept")).deleted, "what makes room goes on"
            for node in cluster.nodes:
                await eventually(partial(alarm_of, cluster, node), f"{node.name} warns")

            for disk in disks.values():
                disk.free()
            await kv.put("kept", "after")
            item = await kv.get("kept")
            assert item is not None
            assert item.value == b"after"

            async def calm() -> bool:
                return not any([await alarm_of(cluster, node) for node in cluster.nodes])

            await eventually(calm, "the alarms have ended")

    asyncio.run(story())


def test_disks_full_to_the_last_byte_lose_nothing_and_end_no_process(tmp_path: Path) -> None:
    value = b"x" * 50_000

    async def story() -> None:
        acknowledged: list[bytes] = []
        async with small_disks(tmp_path) as (cluster, disks), cluster.client() as kv:

            async def write() -> bool:
                key = b"kept/%06d" % len(acknowledged)
                try:
                    await kv.put(key, value, timeout=0.5)
                except KvorumError:
                    return False
                acknowledged.append(key)
                return True

            assert all([await write() for _ in range(40)])
            for disk in disks.values():
                disk.fill(0)
            while await write():
                assert len(acknowledged) < WRITES_MAX, "somebody should have noticed by now"
            assert all(node.running for node in cluster.nodes), "a full disk ends no process"
            assert await kv.get("kept/000000") is not None
            for disk in disks.values():
                disk.free()
            await kv.put("again", "there is room")
            for node in cluster.nodes:
                node.signal(signal.SIGKILL)
                node.wait()
            cluster.start()
            async with cluster.client() as reader:
                found = [item.key async for item in reader.scan(prefix="kept/", keys_only=True)]
            assert set(acknowledged) <= set(found)

    asyncio.run(story())


def test_a_node_on_a_full_disk_says_so_at_its_start_and_loses_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with small_disks(tmp_path) as (cluster, disks), cluster.client() as kv:
            await kv.put("kept", "before")
            node = cluster.nodes[-1]
            node.kill()
            disks[node.name].fill(0)
            node.start()
            code = await asyncio.to_thread(node.wait)
            last_words = node.log.splitlines()[-1]
            assert code == 1, last_words
            assert "cannot start in" in last_words
            assert "free some space" in last_words
            disks[node.name].free()
            index = await cluster.applied(await cluster.leader())
            node.start()

            async def caught_up() -> bool:
                return await cluster.applied(node) >= index

            await eventually(caught_up, "it is back with all that it had")
            assert "quarantined" not in node.log

    asyncio.run(story())
