"""Repair of real nodes: a lost majority, a damaged log, and the tools for stopped nodes."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from kvorum import AsyncClient, KvorumError
from tests.integration.cluster import (
    PATIENCE_SECONDS,
    Cluster,
    NodeProcess,
    eventually,
    loopback,
    running_cluster,
)

pytestmark = pytest.mark.timeout(120)

WRITES = 200


def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``kvorum-server`` with a subcommand."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KVORUM_")}
    return subprocess.run(
        [sys.executable, "-m", "kvorum_server", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE_SECONDS,
        check=False,
        env=kept | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


async def holds_everything(client: AsyncClient) -> bool:
    items = await client.get_many([f"key {number}" for number in range(WRITES)])
    return all(item is not None for item in items.values())


async def fill(cluster: Cluster) -> None:
    async with cluster.client() as client:
        await client.put_many({f"key {number}": "v" for number in range(WRITES)})
    leader = await cluster.leader()
    last = await cluster.applied(leader)

    async def all_there() -> bool:
        return all([await cluster.applied(node) >= last for node in cluster.nodes])

    await eventually(all_there, "every node has applied everything")


def in_log(node: NodeProcess, pattern: str) -> None:
    async def said() -> bool:
        return re.search(pattern, node.log) is not None

    asyncio.run(eventually(said, f"{node.name} says {pattern!r}"))


def joining(name: str, directory: Path, members: Iterable[NodeProcess]) -> NodeProcess:
    """A new node that knows a cluster."""
    (place,) = loopback(1)
    addresses = ",".join(node.address for node in members)
    return NodeProcess(name, place, directory, ["--join", addresses])


def test_a_lost_majority_is_recovered_on_the_survivor_which_grows_again(tmp_path: Path) -> None:
    async def lose() -> Cluster:
        cluster = Cluster(tmp_path)
        cluster.start()
        await cluster.ready()
        await fill(cluster)
        for node in cluster.nodes:
            node.kill()
        return cluster

    cluster = asyncio.run(lose())
    lost, _, survivor = cluster.nodes
    fourth = joining("n4", tmp_path, [survivor])
    try:
        report = json.loads(tool("verify", "--data", str(survivor.data), "--output", "json").stdout)
        assert report["clean"], report
        recovered = tool(
            *("recover", "--data", str(survivor.data), "--force-new-cluster"),
            *("--yes", report["cluster_id"]),
        )
        assert recovered.returncode == 0, recovered.stderr
        assert "NEVER START THE OTHER NODES AGAIN with their data (n1, n2)" in recovered.stdout
        survivor.start()
        asyncio.run(serves_alone(survivor))
        new_id = identity_of_cluster(survivor)
        assert f"the new cluster {new_id}" in recovered.stdout
        assert new_id != report["cluster_id"]
        lost.start()
        in_log(lost, "role=candidate")
        asyncio.run(serves_alone(survivor))
        lost.kill()
        asyncio.run(grows(survivor, fourth))
    finally:
        fourth.end()
        cluster.end()


async def serves_alone(survivor: NodeProcess) -> None:
    async with AsyncClient(survivor.address, timeout=PATIENCE_SECONDS) as client:
        assert await holds_everything(client)
        await client.put("after", "the recovery")
        members = await client.members()
        assert [member.name for member in members] == ["n3"]


async def grows(survivor: NodeProcess, newcomer: NodeProcess) -> None:
    async with AsyncClient(survivor.address, timeout=PATIENCE_SECONDS) as client:
        await client.add_member(newcomer.name, newcomer.address)
    newcomer.start()

    async def has_everything() -> bool:
        async with AsyncClient(newcomer.address, timeout=1.0) as client:
            try:
                item = await client.get("after", max_staleness=60)
            except KvorumError:
                return False
            return item is not None

    await eventually(has_everything, "the newcomer has what the survivor had")


def identity_of_cluster(node: NodeProcess) -> str:
    async def ask() -> str:
        async with AsyncClient(node.address, timeout=PATIENCE_SECONDS) as client:
            return (await client.status(node.address)).cluster_id.hex()

    return asyncio.run(ask())


def test_a_node_with_a_damaged_log_is_quarantined_and_replaced(tmp_path: Path) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path) as cluster:
            await fill(cluster)
            victim = cluster.nodes[0]
            before = await cluster.status(victim)
            assert before is not None
            victim.kill()
            damage(victim)
            victim.start()

            async def says_how_to_come_back() -> bool:
                return "kvorum member replace n1" in victim.log

            await eventually(says_how_to_come_back, "the node asks to be replaced")
            assert "quarantine-1" in victim.log
            assert (victim.data / "quarantine-1/log").is_dir()
            assert "at byte" in (victim.data / "quarantine-1/damage.txt").read_text()
            looked = await asyncio.to_thread(
                tool, "verify", "--data", str(victim.data / "quarantine-1")
            )
            assert looked.returncode == 1
            assert "damage: log/" in looked.stdout
            async with cluster.client() as client:
                await client.replace_member("n1")

            async def is_back() -> bool:
                return await cluster.applied(victim) >= WRITES // 100

            await eventually(is_back, "the node serves a replica again")
            after = await cluster.status(victim)
            assert after is not None
            assert after.identity != before.identity
            async with cluster.client() as client:
                assert await holds_everything(client)
            assert "Traceback" not in victim.log

    asyncio.run(story())


def test_three_damaged_nodes_found_no_empty_cluster(tmp_path: Path) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path) as cluster:
            await fill(cluster)
            for node in cluster.nodes:
                node.kill()
                damage(node)
            cluster.start()
            for node in cluster.nodes:

                async def quarantined(node: NodeProcess = node) -> bool:
                    return "must join again" in node.log

                await eventually(quarantined, f"{node.name} is quarantined")
            with pytest.raises(KvorumError):
                async with cluster.client(timeout=3.0) as client:
                    await client.put("empty", "cluster")

    asyncio.run(story())


def damage(node: NodeProcess) -> None:
    """Flips a bit of the first write of the log, which everything else rests on."""
    path = sorted((node.data / "log").glob("*.wal"))[0]
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def test_the_tools_refuse_a_running_node_and_explain_themselves(tmp_path: Path) -> None:
    async def start() -> Cluster:
        cluster = Cluster(tmp_path, 1)
        cluster.start()
        await cluster.ready()
        return cluster

    cluster = asyncio.run(start())
    (node,) = cluster.nodes
    try:
        for arguments in (["verify"], ["recover", "--force-new-cluster", "--yes", "x"]):
            refused = tool(*arguments, "--data", str(node.data))
            assert refused.returncode == 1
            assert "is in use by another kvorum-server" in refused.stderr
            assert refused.stderr.count("\n") == 1
        node.kill()
        checked = tool("verify", "--data", str(node.data))
        assert (checked.returncode, checked.stderr) == (0, "")
        assert checked.stdout.endswith("no damage found\n")
        help_text = tool("--help").stdout
        for name in ("verify", "recover", "restore"):
            assert f"kvorum-server {name}" in help_text
            assert f"usage: kvorum-server {name}" in tool(name, "--help").stdout
    finally:
        cluster.end()
