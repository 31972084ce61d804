"""Real nodes whose state is damaged or gone while they are down: they come back as themselves."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kvorum import AsyncClient
from tests.integration.cluster import Cluster, NodeProcess, eventually, running_cluster

OPTIONS = ("--checkpoint-bytes", "20000", "--log-tail-entries", "2", "--memtable-bytes", "65536")

KEYS = 120


async def fill(cluster: Cluster, name: str) -> None:
    """Some hundred kilobytes, in many entries: several checkpoints are taken."""
    async with cluster.client() as client:
        for first in range(0, KEYS, 10):
            numbers = range(first, first + 10)
            await asyncio.gather(
                *(client.put(f"{name} {number}", b"value " * 250) for number in numbers)
            )


async def alarms(cluster: Cluster, node: NodeProcess) -> tuple[str, ...]:
    """What a node complains of; None of that when it does not answer."""
    status = await cluster.status(node)
    return () if status is None else status.alarms


async def cuts_its_logs(cluster: Cluster, node: NodeProcess) -> bool:
    """Whether some writes have brought the checkpoints that let a node cut every log.

    A checkpoint covers all groups, but only writes bring one near: when the catalog elects its
    leader after the last write, its few entries stay as they are until there are more.
    """
    await fill(cluster, "before")
    status = await cluster.status(node)
    return status is not None and all(group.log_first > 1 for group in status.groups)


def tables(node: NodeProcess) -> list[Path]:
    """The engine's files of rows."""
    return sorted((node.data / "state").glob("*.sst"))


def flip_bits(path: Path) -> None:
    """Every hundredth byte, so that no block is left whole."""
    data = bytearray(path.read_bytes())
    for offset in range(0, len(data) // 2, 100):
        data[offset] ^= 1
    path.write_bytes(data)


def delete_the_state(node: NodeProcess) -> None:
    shutil.rmtree(node.data / "state")


def flip_bits_in_all_tables(node: NodeProcess) -> None:
    for path in tables(node):
        flip_bits(path)


def lose_a_table(node: NodeProcess) -> None:
    tables(node)[0].unlink()


@pytest.mark.parametrize(
    "damage", [delete_the_state, flip_bits_in_all_tables, lose_a_table], ids=lambda f: f.__name__
)
def test_a_node_gets_a_new_state_under_its_old_identity(
    damage: Callable[[NodeProcess], None], tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path, options=OPTIONS) as cluster:
            leader = await cluster.leader()
            victim = next(node for node in cluster.nodes if node is not leader)
            await eventually(lambda: cuts_its_logs(cluster, victim), "its logs are cut")
            before = await cluster.status(victim)
            assert before is not None
            assert tables(victim)
            victim.kill()
            damage(victim)
            await fill(cluster, "meanwhile")
            victim.start()
            await eventually(lambda: is_whole(cluster, victim), "it has a state again")
            after = await cluster.status(victim)
            assert after is not None
            assert after.identity == before.identity
            assert [group.replica for group in after.groups] == [
                group.replica for group in before.groups
            ]
            async with AsyncClient(victim.address, timeout=20.0) as client:
                item = await client.get("before 3", max_staleness=20.0)
                assert item is not None
                compared = await client.compare_states(timeout=60.0)
            assert not any(comparison.differs for comparison in compared)
            assert all("equal" in comparison.finding for comparison in compared)
            assert "state damaged" in victim.log
            assert list(victim.data.glob("quarantine-state-*/damage.txt"))
            assert await alarms(cluster, victim) == ()

    async def is_whole(cluster: Cluster, node: NodeProcess) -> bool:
        if not node.running:
            # It met the damage while it ran, noted it and stopped; its supervisor starts it again.
            assert node.wait() == 1
            node.start()
            return False
        status = await cluster.status(node)
        leader = await cluster.status(await cluster.leader())
        if status is None or leader is None or len(status.groups) < 2:
            return False
        applied = {group.group: group.applied for group in leader.groups}
        return not any(group.rebuilding for group in status.groups) and all(
            group.applied >= applied[group.group] for group in status.groups
        )

    asyncio.run(story())
