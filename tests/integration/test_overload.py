"""Real nodes with more to do than they can, or that stand still for a while: nobody is elected for
it, and who asks for little gets it.

Nothing here judges how fast anything is. What is asserted is that terms stay as they are and that
operations succeed, however long a busy machine takes.
"""

import asyncio
import contextlib
import signal
from pathlib import Path

import grpc.aio
import pytest

from kvorum import AsyncClient, KvorumError
from kvorum_proto.kv_pb2 import ClientFrame, ClientHello, Proposal, ServerFrame
from tests.integration.cluster import Cluster, NodeProcess, eventually, running_cluster
from tests.unit.host_setup import encoded, put

pytestmark = pytest.mark.timeout(120)

PATIENT = ["--election-ticks-min", "60", "--election-ticks-max", "120"]
"""Machines that run tests are shared: a node may well get no processor for half a second."""

FLOODS = 3
IN_FLIGHT = 300
LARGE = b"v" * 8192


async def terms(cluster: Cluster) -> dict[int, int]:
    """The highest term of each group, as all nodes say."""
    found: dict[int, int] = {}
    for node in cluster.nodes:
        status = await cluster.status(node)
        for group in () if status is None else status.groups:
            found[group.group] = max(found.get(group.group, 0), group.term)
    return found


async def settled(cluster: Cluster) -> dict[int, int]:
    """The terms, once every group has a leader."""
    for group in (0, 1):
        await cluster.leader(group)
    return await terms(cluster)


async def flood(kv: AsyncClient, number: int, stop: asyncio.Event) -> None:
    """Large puts and counts of everything, with far more in flight than the node's limit."""

    async def forever(worker: int) -> None:
        while not stop.is_set():
            with contextlib.suppress(KvorumError):
                if worker % 10 == 0:
                    await kv.count()
                else:
                    await kv.put(b"flood/%d/%d" % (number, worker), LARGE)

    await asyncio.gather(*(forever(worker) for worker in range(IN_FLIGHT)))


def test_a_flood_changes_no_leader_and_starves_nobody(tmp_path: Path) -> None:
    limits = ["--pending-commands-max", "512", "--apply-commands-max", "512", *PATIENT]

    async def story() -> None:
        async with running_cluster(tmp_path, options=limits) as cluster:
            async with cluster.client() as kv:
                await kv.put_many({b"row/%05d" % n: b"v" for n in range(5_000)})
            before = await settled(cluster)
            stop = asyncio.Event()
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(cluster.client()) for _ in range(FLOODS)]
                floods = [
                    asyncio.create_task(flood(kv, number, stop))
                    for number, kv in enumerate(clients)
                ]
                async with cluster.client() as quiet:
                    for number in range(15):
                        key = b"quiet/%d" % number
                        await quiet.put(key, b"%d" % number)
                        item = await quiet.get(key)
                        assert item is not None
                        assert item.value == b"%d" % number
                stop.set()
                await asyncio.gather(*floods)
            assert await settled(cluster) == before

    asyncio.run(story())


async def _stopped(node: NodeProcess, seconds: float) -> None:
    node.signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    node.signal(signal.SIGCONT)


async def _writes_go_on(cluster: Cluster, count: int) -> None:
    async with cluster.client() as kv:
        for number in range(count):
            await kv.put(b"k", b"%d" % number)


def test_a_follower_that_stood_still_elects_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path, options=PATIENT) as cluster:
            before = await settled(cluster)
            leaders = [await cluster.leader(group) for group in (0, 1)]
            follower = next(node for node in cluster.nodes if node not in leaders)
            await asyncio.gather(_stopped(follower, 4.0), _writes_go_on(cluster, 100))
            index = await cluster.applied(leaders[1])

            async def caught_up() -> bool:
                return await cluster.applied(follower) >= index

            await eventually(caught_up, "the follower has what it missed")
            assert "stood still" in follower.log
            assert await settled(cluster) == before

    asyncio.run(story())


def test_a_leader_that_stood_still_for_less_than_an_election_stays_leader(tmp_path: Path) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path, options=PATIENT) as cluster:
            before = await settled(cluster)
            leader = await cluster.leader()
            await asyncio.gather(_stopped(leader, 0.3), _writes_go_on(cluster, 50))
            assert await settled(cluster) == before

    asyncio.run(story())


def test_a_client_that_closes_its_side_gets_its_answers(tmp_path: Path) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path, 1) as cluster:
            address = cluster.nodes[0].address
            async with grpc.aio.insecure_channel(address) as channel:
                call = channel.stream_stream("/kvorum.v1.KV/Session", None, None)(None)
                hello = ClientFrame(hello=ClientHello(wire_version=1))
                await call.write(hello.SerializeToString())
                for number in range(1, 101):
                    proposal = Proposal(group=1, ids=[number], commands=encoded(put(b"k")))
                    await call.write(ClientFrame(proposals=[proposal]).SerializeToString())
                await call.done_writing()
                answered: list[int] = []
                async for data in call:
                    for replies in ServerFrame.FromString(data).replies:
                        answered += replies.ids
                        results = [one.WhichOneof("result") for one in replies.results]
                        assert set(results) == {"put"}
                assert answered == list(range(1, 101))
                assert await call.code() is grpc.StatusCode.OK

    asyncio.run(story())
