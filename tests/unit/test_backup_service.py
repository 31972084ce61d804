"""A node that is asked for a backup: what it streams, what it refuses, and whom it waits for."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest

from kvorum_proto.backup_file import ItemsBlock, checksum_of
from kvorum_proto.backup_pb2 import BackupHeader
from kvorum_proto.cluster_pb2 import BackupChunk, BackupRequest
from kvorum_proto.command_pb2 import BUSY, UNAVAILABLE, WRONG_GROUP
from kvorum_server.config import Config
from kvorum_server.kv.backup import GroupView
from kvorum_server.rpc.backup import Backups
from kvorum_server.rpc.context import ServicerContext
from kvorum_server.storage.errors import EngineDamage
from tests.unit.kv_harness import SPACE, Harness
from tests.unit.services_setup import Aborted, Context

HEADER = BackupHeader(cluster_id=b"c" * 16, partitions=1, level=1)
CONFIG = Config(backup_slice_rows=3, tick_ms=1, snapshot_timeout_ticks=50)


class Node:
    """Backups of one group, whose rows the test writes."""

    def __init__(self, config: Config = CONFIG) -> None:
        self.group = Harness()
        self.header: BackupHeader | None = HEADER
        self.failures: list[BaseException] = []
        self.views: list[GroupView] = []
        self.backups = Backups(
            config=config,
            header=lambda: self.header,
            view=self.view,
            fail=self.failures.append,
        )

    def view(self, group: int) -> GroupView | None:
        if group != 1:
            return None
        self.views.append(GroupView(1, SPACE, self.group.engine.snapshot()))
        return self.views[-1]

    def fill(self, count: int) -> None:
        for number in range(count):
            self.group.put(b"k%03d" % number, b"v%d" % number)

    def serve(self, context: Context, revision_min: int = 0, group: int = 1) -> Awaitable[None]:
        request = BackupRequest(group=group, revision_min=revision_min).SerializeToString()
        return self.backups.serve(request, checked(context))


def checked(context: ServicerContext) -> ServicerContext:
    return context


def chunks(context: Context) -> list[BackupChunk]:
    return list(map(BackupChunk.FromString, context.written))


def asked(node: Node, revision_min: int = 0, group: int = 1) -> list[BackupChunk]:
    async def ask() -> list[BackupChunk]:
        context = Context()
        await node.serve(context, revision_min, group)
        return chunks(context)

    return asyncio.run(ask())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_a_stream_begins_with_where_the_group_stands_and_ends_with_an_end() -> None:
    node = Node()
    node.fill(7)
    start, *parts, end = asked(node)
    assert start.start.header == HEADER
    assert (start.start.group.group, start.start.group.revision) == (1, 8)
    assert [part.count for part in parts] == [3, 3, 1]
    assert end == BackupChunk(last=True)
    for part in parts:
        assert part.checksum == checksum_of(part.items)
    items = [item for part in parts for item in ItemsBlock("", 0, part.count, part.items).items()]
    assert [(item.key, item.value) for item in items] == [
        (b"k%03d" % number, b"v%d" % number) for number in range(7)
    ]


def test_what_is_written_while_it_streams_is_not_in_it() -> None:
    async def story() -> list[BackupChunk]:
        node, context = Node(), Context()
        node.fill(4)
        context.takes_replies.clear()
        serving = asyncio.ensure_future(node.serve(context))
        await until(lambda: bool(node.views))
        node.fill(9)
        context.takes_replies.set()
        await serving
        return chunks(context)

    start, *parts, _ = asyncio.run(story())
    assert start.start.group.revision == 5
    assert sum(part.count for part in parts) == 4


def test_a_node_that_is_behind_waits_until_it_is_not() -> None:
    async def story() -> list[BackupChunk]:
        node, context = Node(), Context()
        node.fill(1)
        serving = asyncio.ensure_future(node.serve(context, revision_min=5))
        await until(lambda: len(node.views) > 1)
        assert not context.written
        node.fill(3)
        await serving
        return chunks(context)

    start, part, _ = asyncio.run(story())
    assert start.start.group.revision == 5
    assert part.count == 3


def test_a_node_that_stays_behind_says_so() -> None:
    node = Node()
    node.fill(1)
    (refusal,) = asked(node, revision_min=9)
    assert refusal.error.code == UNAVAILABLE
    assert "is at revision 2 and does not get to 9" in refusal.error.message


def test_a_group_that_is_not_here_and_a_cluster_that_is_not_yet() -> None:
    node = Node()
    (refusal,) = asked(node, group=7)
    assert refusal.error.code == WRONG_GROUP
    node.header = None
    (refusal,) = asked(node)
    assert refusal.error.code == UNAVAILABLE


def test_more_backups_than_the_limit_are_busy_until_one_has_ended() -> None:
    async def story() -> None:
        node = Node(Config(backup_streams_max=1))
        node.fill(3)
        first, second, third = Context(), Context(), Context()
        first.takes_replies.clear()
        serving = asyncio.ensure_future(node.serve(first))
        await until(lambda: bool(node.views))
        await node.serve(second)
        (refusal,) = chunks(second)
        assert refusal.error.code == BUSY
        assert refusal.error.retry_after_ms
        first.takes_replies.set()
        await serving
        await node.serve(third)
        assert chunks(third)[-1].last

    asyncio.run(story())


def test_a_client_that_takes_nothing_is_given_up_and_its_view_is_closed() -> None:
    node, context = Node(), Context()
    node.fill(3)

    async def story() -> None:
        context.takes_replies.clear()
        await node.serve(context)

    with pytest.raises(Aborted, match="taken nothing") as aborted:
        asyncio.run(story())
    assert aborted.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert_closed(node.views[-1])
    assert asked(node)[-1].last


def test_a_client_that_hangs_up_leaves_nothing_behind() -> None:
    node, context = Node(), Context()
    node.fill(3)
    context.fails_to_write = True
    asyncio.run(_serve(node, context))
    assert_closed(node.views[-1])
    assert not node.failures


def test_a_call_that_is_cancelled_leaves_nothing_behind() -> None:
    async def story() -> None:
        node, context = Node(), Context()
        node.fill(3)
        context.takes_replies.clear()
        serving = asyncio.ensure_future(node.serve(context))
        await until(lambda: bool(node.views))
        serving.cancel()
        await asyncio.wait([serving])
        assert serving.cancelled()
        assert_closed(node.views[-1])

    asyncio.run(story())


def test_rows_that_cannot_be_read_stop_the_node() -> None:
    node = Node()

    def broken(group: int) -> GroupView:
        raise EngineDamage("read", "/data", "rotten")

    node.backups = Backups(
        config=CONFIG, header=lambda: HEADER, view=broken, fail=node.failures.append
    )
    asyncio.run(_serve(node, Context()))
    assert [type(failure) for failure in node.failures] == [EngineDamage]


def test_a_request_that_is_none_is_refused() -> None:
    with pytest.raises(Aborted, match="not a BackupRequest") as aborted:
        asyncio.run(_call(Node().backups, b"\xff"))
    assert aborted.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def _serve(node: Node, context: Context) -> None:
    await node.serve(context)


async def _call(backups: Backups, request: bytes) -> None:
    await backups.serve(request, checked(Context()))


def assert_closed(view: GroupView) -> None:
    with pytest.raises(AssertionError, match="closed"):
        view.rows()
