"""Every method of the SDK against a cluster of three real nodes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from kvorum import (
    AsyncClient,
    Client,
    Compacted,
    Conflict,
    Delete,
    FutureRevision,
    Get,
    Increment,
    InvalidRequest,
    Item,
    LimitExceeded,
    NotAnInteger,
    OutOfBounds,
    Put,
    PutResult,
    RangeTooLarge,
    Scan,
    ScanResult,
    Unavailable,
)
from kvorum._cluster import cluster_status
from kvorum._scan import items
from kvorum_proto.command_pb2 import Query
from tests.integration.cluster import Cluster, eventually

Story = Callable[[AsyncClient], Awaitable[None]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all stories; each uses keys of its own."""
    cluster = Cluster(Path(tmp_path_factory.mktemp("cluster")))
    cluster.start()
    try:
        asyncio.run(cluster.ready())
        yield cluster
    finally:
        cluster.end()


def tell(cluster: Cluster, story: Story) -> None:
    """Runs a story with a client of the cluster."""

    async def run() -> None:
        async with cluster.client() as kv:
            await story(kv)

    asyncio.run(run())


def test_put_get_delete(cluster: Cluster) -> None:
    async def story(kv: AsyncClient) -> None:
        first = await kv.put("basic", "one")
        second = await kv.put(b"basic", b"two", previous=True)
        assert second.revision > first.revision
        assert second.previous == Item(b"basic", b"one", first.revision, first.revision, 1)
        item = await kv.get("basic")
        assert item == Item(b"basic", b"two", first.revision, second.revision, 2)
        assert (await kv.get("basic", revision=first.revision)) == second.previous
        deleted = await kv.delete("basic", previous=True)
        assert (deleted.deleted, deleted.previous) == (True, item)
        assert not (await kv.delete("basic")).deleted
        assert await kv.get("basic") is None

    tell(cluster, story)


def test_compare_and_set_in_its_three_forms(cluster: Cluster) -> None:
    async def story(kv: AsyncClient) -> None:
        await kv.compare_and_set("cas", "1", expected=None)
        with pytest.raises(Conflict) as caught:
            await kv.compare_and_set("cas", "2", expected=None)
        assert caught.value.current is not None
        assert caught.value.current.value == b"1"
        await kv.compare_and_set("cas", "2", expected=caught.value.current)
        await kv.compare_and_set("cas", "3", expected="2")
        with pytest.raises(Conflict, match="revision"):
            await kv.compare_and_set("cas", "4", expected=caught.value.current)
        with pytest.raises(Conflict, match="absent"):
            await kv.compare_and_set("no such key", "4", expected="3")

    tell(cluster, story)


def test_increment_keeps_its_bounds(cluster: Cluster) -> None:
    async def story(kv: AsyncClient) -> None:
        assert await kv.increment("visits") == 1
        assert await kv.increment("visits", by=-3) == -2
        with pytest.raises(OutOfBounds):
            await kv.increment("visits", by=5, maximum=2)
        await kv.put("word", "hello")
        with pytest.raises(NotAnInteger):
            await kv.increment("word")

    tell(cluster, story)


def test_scans_are_paged_and_show_one_moment(cluster: Cluster) -> None:
    async def story(kv: AsyncClient) -> None:
        names = [f"scan/{number:03}" for number in range(250)]
        await kv.put_many({name: name for name in names})
        seen: list[str] = []
        async for item in kv.scan(prefix="scan/", page_size=40):
            if not seen:
                await kv.put("scan/999", "written during the scan")
                await kv.delete("scan/249")
            seen.append(item.key.decode())
        assert seen == names
        part = [item.key async for item in kv.scan("scan/010", "scan/020", reverse=True)]
        assert part == [f"scan/{number:03}".encode() for number in range(19, 9, -1)]
        first = kv.scan(prefix="scan/", limit=7, page_size=3, keys_only=True)
        assert [item.value async for item in first] == [b""] * 7
        assert await kv.count(prefix="scan/") == 250
        found = await kv.get_many(["scan/000", "scan/none"])
        assert [item is None for item in found.values()] == [False, True]

    tell(cluster, story)


def test_scans_of_several_groups_are_merged_by_key() -> None:
    groups = {1: [b"a", b"d", b"e"], 2: [], 3: [b"b", b"c", b"f"]}

    async def read_page(group: int, query: object) -> ScanResult:
        return ScanResult(2, tuple(Item(key, b"", 1, 1, 1) for key in groups[group]), 3)

    async def run() -> list[bytes]:
        return [item.key async for item in items(read_page, (1, 2, 3), Query(), 5)]

    assert asyncio.run(run()) == [b"a", b"b", b"c", b"d", b"e"]


def test_delete_range_goes_on_until_all_is_gone(cluster: Cluster) -> None:
    async def story(kv: AsyncClient) -> None:
        await kv.put_many({f"range/{number:04}": "x" for number in range(1500)})
        with pytest.raises(RangeTooLarge):
            await kv.delete_range(prefix="range/", atomic=True)
        few = await kv.delete_range("range/0000", "range/0003", previous=True, atomic=True)
        assert [item.key for item in few.previous] == [b"range/0000", b"range/0001", b"range/0002"]
        assert (await kv.delete_range(prefix="range/")).deleted == 1497
        assert await kv.count(prefix="range/") == 0

    tell(cluster, story)


def test_a_txn_takes_one_branch(cluster: Cluster) -> None:
    async def story(kv: AsyncClient) -> None:
        await kv.put("txn/a", "1")
        result = await kv.txn(
            when=[kv.value("txn/a") == "1", kv.version("txn/b") == 0],
            then=[Put("txn/a", "2"), Get("txn/none"), Increment("txn/n"), Scan(prefix="txn/")],
            otherwise=[Get("txn/a")],
        )
        assert result.succeeded
        assert result.results[:3] == (PutResult(result.revision), None, 1)
        again = await kv.txn(when=[kv.value("txn/a") == "1"], otherwise=[Get("txn/a")])
        assert not again.succeeded
        (item,) = again.results
        assert isinstance(item, Item)
        assert (item.value, item.mod_revision) == (b"2", result.revision)
        with pytest.raises(InvalidRequest):
            await kv.txn(then=[Put("txn/a", "1"), Delete("txn/a")])

    tell(cluster, story)


def test_limits_are_refused_with_their_names(cluster: Cluster) -> None:
    async def story(kv: AsyncClient) -> None:
        with pytest.raises(LimitExceeded, match="key_bytes_max"):
            await kv.put("k" * 9000, "v")
        with pytest.raises(LimitExceeded, match="value_bytes_max"):
            await kv.put("k", b"v" * (3 << 19))
        with pytest.raises(LimitExceeded, match="a request holds at most"):
            await kv.put("k", b"v" * (3 << 20))

    tell(cluster, story)


def test_history_can_be_read_until_it_is_compacted(cluster: Cluster) -> None:
    async def story(kv: AsyncClient) -> None:
        old = await kv.put("history", "old")
        new = await kv.put("history", "new")
        with pytest.raises(FutureRevision):
            await kv.get("history", revision=new.revision + 1_000_000)
        await kv.compact(new.revision)
        with pytest.raises(Compacted) as caught:
            await kv.get("history", revision=old.revision)
        assert caught.value.oldest_revision == new.revision

    tell(cluster, story)


def test_any_replica_answers_a_read_that_allows_staleness(cluster: Cluster) -> None:
    async def story(kv: AsyncClient) -> None:
        await kv.put("stale", "1")
        for node in cluster.nodes:
            async with AsyncClient(node.address) as one:

                async def seen(client: AsyncClient = one) -> bool:
                    return await client.get("stale", max_staleness=10.0) is not None

                await eventually(seen, f"{node.name} has seen the write")

    tell(cluster, story)


def test_operators_see_members_and_status_and_move_the_leadership(cluster: Cluster) -> None:
    async def story(kv: AsyncClient) -> None:
        assert [member.name for member in await kv.members()] == ["n1", "n2", "n3"]
        status = await kv.cluster_status()
        assert not status.unreachable
        leader = next(group.leader for group in status.nodes[0].groups if group.group == 1)
        target = next(node.name for node in status.nodes if node.name != leader)
        await kv.transfer_leadership(1, target)

        async def moved() -> bool:
            addresses = [node.address for node in cluster.nodes]
            nodes = (await cluster_status(addresses, 5.0)).nodes
            return any(
                group.leader == target
                for node in nodes
                for group in node.groups
                if group.group == 1
            )

        await eventually(moved, f"{target} leads")
        assert await kv.put("after the transfer", "1")
        with pytest.raises(Unavailable, match="gave no status"):
            await kv.status("127.0.0.1:1")

    tell(cluster, story)


def test_the_blocking_client_does_the_same(cluster: Cluster) -> None:
    with Client(cluster.endpoints) as kv:
        kv.put_many({f"sync/{number}": "x" for number in range(5)})
        assert [item.key for item in kv.scan(prefix="sync/", limit=2)] == [b"sync/0", b"sync/1"]
        assert kv.increment("sync counter", by=2) == 2
        assert kv.txn(when=[kv.version("sync/0") == 1], then=[Delete("sync/0")]).succeeded
        assert kv.count(prefix="sync/") == 4
