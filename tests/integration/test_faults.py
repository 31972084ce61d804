"""Real nodes that are killed, stopped and left behind: nothing acknowledged is lost, nothing
stale is read.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kvorum import AsyncClient, KvorumError
from tests.integration.cluster import Cluster, eventually, running_cluster
from tests.integration.history import History, work

pytestmark = pytest.mark.timeout(120)

CLIENTS = 8


@contextlib.asynccontextmanager
async def load(cluster: Cluster, history: History) -> AsyncIterator[None]:
    """Clients at work around the body; a good number of operations before it and after it."""
    stop = asyncio.Event()

    async def progress(operations: int) -> None:
        target = history.acknowledged + operations

        async def reached() -> bool:
            return history.acknowledged >= target

        await eventually(reached, f"{operations} more operations are acknowledged")

    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(cluster.client()) for _ in range(CLIENTS)]
        workers = [
            asyncio.create_task(work(kv, number, history, stop))
            for number, kv in enumerate(clients)
        ]
        try:
            await progress(200)
            yield
            await progress(200)
        finally:
            stop.set()
            await asyncio.gather(*workers)


def test_the_leader_is_killed_under_load(tmp_path: Path) -> None:
    async def story() -> None:
        history = History()
        async with running_cluster(tmp_path) as cluster, load(cluster, history):
            for _ in range(2):
                victim = await cluster.leader()
                victim.kill()
                successor = await cluster.leader()
                assert successor is not victim
                victim.start()
                await _caught_up(cluster)
        history.check()

    asyncio.run(story())


def test_all_nodes_are_killed_and_every_acknowledged_write_is_there(tmp_path: Path) -> None:
    async def story() -> None:
        acknowledged: dict[bytes, bytes] = {}
        async with running_cluster(tmp_path) as cluster:

            async def write(kv: AsyncClient, worker: int) -> None:
                with contextlib.suppress(KvorumError):
                    for number in range(100_000):
                        key, value = b"%d/%d" % (worker, number), b"%d" % number
                        await kv.put(key, value)
                        acknowledged[key] = value

            async with cluster.client(timeout=1.0) as kv:
                writers = [asyncio.create_task(write(kv, worker)) for worker in range(64)]

                async def enough() -> bool:
                    return len(acknowledged) > 3_000

                await eventually(enough, "3,000 writes are acknowledged")
                for node in cluster.nodes:
                    node.signal(signal.SIGKILL)
                for node in cluster.nodes:
                    node.wait()
                await asyncio.gather(*writers)

            cluster.start()
            async with cluster.client() as kv:
                found = await kv.get_many(list(acknowledged))
            lost = {
                key
                for key, value in acknowledged.items()
                if (item := found[key]) is None or item.value != value
            }
            assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged writes are lost"

    asyncio.run(story())


def test_a_follower_that_missed_more_than_the_log_holds_gets_a_snapshot(tmp_path: Path) -> None:
    small = ["--checkpoint-entries", "50", "--log-tail-entries", "5"]

    async def story() -> None:
        async with running_cluster(tmp_path, options=small) as cluster:
            leader = await cluster.leader()
            behind = next(node for node in cluster.nodes if node is not leader)
            behind.kill()
            async with cluster.client() as kv:
                for number in range(300):
                    await kv.put(f"missed/{number % 100}", b"%d" % number)

                async def cut() -> bool:
                    status = await cluster.status(leader)
                    return status is not None and status.groups[1].log_first > 200

                await eventually(cut, "the leader has cut its log")
                behind.start()
                await _caught_up(cluster)
                assert "snapshot installed" in behind.log
            async with AsyncClient(behind.address) as alone:
                stale = [item async for item in alone.scan(prefix="missed/", max_staleness=60)]
                assert len(stale) == 100

    asyncio.run(story())


def test_a_leader_that_was_stopped_for_three_seconds_answers_nothing_stale(tmp_path: Path) -> None:
    async def story() -> None:
        history = History()
        async with running_cluster(tmp_path) as cluster, load(cluster, history):
            paused = await cluster.leader()
            paused.signal(signal.SIGSTOP)
            await asyncio.sleep(3.0)
            paused.signal(signal.SIGCONT)
            await _caught_up(cluster)
        history.check()

    asyncio.run(story())


def test_nodes_restart_one_by_one_under_load_and_leave_within_the_grace(tmp_path: Path) -> None:
    async def story() -> None:
        history = History()
        async with running_cluster(tmp_path) as cluster, load(cluster, history):
            for node in cluster.nodes:
                node.signal(signal.SIGTERM)
                assert await asyncio.to_thread(node.wait) == 0
                node.start()
                await _caught_up(cluster)
        history.check()

    asyncio.run(story())


async def _caught_up(cluster: Cluster) -> None:
    """Returns once every node has applied what the leader had applied at the call."""
    leader = await cluster.leader()
    index = await cluster.applied(leader)

    async def all_there() -> bool:
        applied = [await cluster.applied(node) for node in cluster.nodes]
        return min(applied) >= index

    await eventually(all_there, f"all nodes have applied entry {index}")
