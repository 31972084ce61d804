"""The clients over real gRPC, against a node of a few lines that this test scripts.

What a cluster does with requests is tested with real nodes elsewhere; here it is the wire:
streams that open, break, stay silent or speak nonsense, callers that go away, loops, threads and
forks.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import grpc
import grpc.aio
import pytest

from kvorum._caller import Caller
from kvorum._channel import MESSAGE_BYTES_MAX, StreamBroken, request
from kvorum._client import AsyncClient
from kvorum._errors import (
    ClientClosed,
    DeadlineExceeded,
    InvalidRequest,
    Unavailable,
    UnknownOutcome,
    WrongCluster,
)
from kvorum._link import Link
from kvorum._pump import OUTBOX_BYTES_MAX, Outbox
from kvorum._sync import Client
from kvorum._types import PutResult
from kvorum_proto import command_pb2 as wire
from kvorum_proto.kv_pb2 import ClientFrame, Replies, ServerFrame
from tests.unit.dispatcher_setup import GROUP, SESSION, Setup, done

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]


class Node:
    """A node that greets, opens sessions, and answers every other request with ``result``."""

    def __init__(self) -> None:
        self.result: wire.Result | None = done()
        self.frames: list[ClientFrame] = []
        self.streams = 0
        self.cluster = b"c"
        self.first: bytes | None = None
        self.cut = asyncio.Event()

    async def session(self, _: object, context: "Context") -> None:
        """Handler of KV.Session."""
        self.streams += 1
        reading = asyncio.ensure_future(self._read(context))
        cutting = asyncio.ensure_future(self.cut.wait())
        await asyncio.wait((reading, cutting), return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        cutting.cancel()
        self.cut.clear()

    async def _read(self, context: "Context") -> None:
        assert isinstance(await context.read(), bytes)
        setup = Setup(leader="")
        hello = ServerFrame(hello=setup.hello(self.cluster))
        hello.hello.ClearField("addresses")
        await context.write(self.first if self.first is not None else hello.SerializeToString())
        while isinstance(data := await context.read(), bytes):
            frame = ClientFrame.FromString(data)
            self.frames.append(frame)
            await context.write(self._answers(frame).SerializeToString())

    def _answers(self, frame: ClientFrame) -> ServerFrame:
        replies = Replies(group=GROUP)
        for proposal in frame.proposals:
            batch = wire.CommandBatch.FromString(proposal.commands)
            for number, submission in zip(proposal.ids, batch.submissions, strict=True):
                command = submission.WhichOneof("command")
                if command == "session_open":
                    result: wire.Result | None = SESSION
                elif command == "session_close":
                    result = wire.Result(session_close=wire.SessionCloseResult())
                else:
                    result = self.result
                if result is not None:
                    replies.ids.append(number)
                    replies.results.append(result)
        for inquiry in frame.inquiries:
            for number in inquiry.ids if self.result is not None else ():
                replies.ids.append(number)
                replies.results.append(wire.Result(get=wire.GetResult(revision=1)))
        return ServerFrame(replies=[replies])


@contextlib.asynccontextmanager
async def serving(node: Node) -> AsyncIterator[str]:
    """The node on a port of its own; its address."""
    server = grpc.aio.server()
    methods = {"Session": grpc.stream_stream_rpc_method_handler(node.session)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("kvorum.v1.KV", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def with_node(
    story: Callable[[Node, AsyncClient], Awaitable[None]], *, sessions: bool = True
) -> None:
    """Runs a story with a node and a client of it."""

    async def run() -> None:
        node = Node()
        async with (
            serving(node) as address,
            AsyncClient(address, timeout=10.0, sessions=sessions) as kv,
        ):
            await story(node, kv)

    asyncio.run(run())


def free_address() -> str:
    """Where nobody listens."""
    return "127.0.0.1:1"


def test_a_hundred_calls_are_one_frame() -> None:
    async def story(node: Node, kv: AsyncClient) -> None:
        await kv.put("first", "1")
        node.frames.clear()
        results = await asyncio.gather(*(kv.put(f"k{number}", "v") for number in range(100)))
        assert results == [PutResult(2)] * 100
        assert len(node.frames) == 1
        node.frames.clear()
        assert len(await kv.put_many({f"k{number}": "v" for number in range(100)})) == 100
        assert len(await kv.get_many(["a", "b"])) == 2
        assert len(node.frames) == 2

    with_node(story)


def test_a_broken_stream_is_opened_again_and_the_call_repeated() -> None:
    async def story(node: Node, kv: AsyncClient) -> None:
        await kv.put("first", "1")
        node.result = None
        pending = asyncio.ensure_future(kv.put("second", "2"))
        while len(node.frames) < 3:
            await asyncio.sleep(0)
        node.result = done(9)
        node.cut.set()
        assert await pending == PutResult(9)
        assert node.streams == 2
        assert node.frames[2].proposals[0].commands == node.frames[3].proposals[0].commands

    with_node(story)


def test_without_sessions_a_broken_stream_is_an_unknown_outcome() -> None:
    async def story(node: Node, kv: AsyncClient) -> None:
        node.result = None
        pending = asyncio.ensure_future(kv.put("k", "v"))
        while not node.frames:
            await asyncio.sleep(0)
        node.cut.set()
        with pytest.raises(UnknownOutcome, match="no session"):
            await pending

    with_node(story, sessions=False)


def test_a_cancelled_call_leaves_nothing_behind() -> None:
    async def story(node: Node, kv: AsyncClient) -> None:
        await kv.put("first", "1")
        node.result = None
        pending = asyncio.ensure_future(kv.put("second", "2"))
        while len(node.frames) < 3:
            await asyncio.sleep(0)
        pending.cancel()
        await asyncio.wait([pending])
        assert pending.cancelled()
        node.result = done()
        await kv.put("third", "3")
        batch = wire.CommandBatch.FromString(node.frames[-1].proposals[0].commands)
        assert batch.submissions[0].acknowledged_below == batch.submissions[0].sequence

    with_node(story)


def test_closing_says_goodbye_and_ends_what_is_pending() -> None:
    async def story(node: Node, kv: AsyncClient) -> None:
        await kv.put("first", "1")
        node.result = None
        pending = asyncio.ensure_future(kv.put("second", "2"))
        while len(node.frames) < 3:
            await asyncio.sleep(0)
        await kv.close()
        with pytest.raises(UnknownOutcome, match="closed"):
            await pending
        batch = wire.CommandBatch.FromString(node.frames[-1].proposals[0].commands)
        assert batch.submissions[0].session_close.session == 77
        with pytest.raises(ClientClosed, match="make a new one"):
            await kv.get("k")
        await kv.close()

    with_node(story)


def test_nobody_there_is_said_in_one_line_within_the_timeout() -> None:
    async def run() -> None:
        async with AsyncClient(f"{free_address()},127.0.0.1:2", timeout=0.5) as kv:
            with pytest.raises(Unavailable) as caught:
                await kv.get("k")
        message = str(caught.value)
        assert "no endpoint could serve get within 0.5 s" in message
        assert message.count("connection refused") == 2
        assert "\n" not in message

    asyncio.run(run())


def test_a_port_that_never_answers_is_unavailable() -> None:
    async def run(address: str) -> None:
        async with AsyncClient(address, timeout=0.3) as kv:
            with pytest.raises(Unavailable, match="has not answered"):
                await kv.get("k")

    with socket.create_server(("127.0.0.1", 0)) as nobody_accepts:
        asyncio.run(run(f"127.0.0.1:{nobody_accepts.getsockname()[1]}"))


@pytest.mark.parametrize("first", [b"\xff\xff", b""], ids=["garbage", "no hello"])
def test_a_node_of_another_protocol_is_unavailable(first: bytes) -> None:
    async def story(node: Node, kv: AsyncClient) -> None:
        node.first = first
        with pytest.raises(Unavailable, match="does not speak this client's protocol"):
            await kv.get("k", timeout=0.3)

    with_node(story)


def test_another_cluster_is_refused_before_the_deadline() -> None:
    async def run() -> None:
        node = Node()
        async with serving(node) as address:
            async with AsyncClient(address, timeout=60.0, cluster_id=b"mine".hex()) as kv:
                with pytest.raises(WrongCluster, match="belongs to cluster 63"):
                    await kv.put("k", "v")
            assert not node.frames, "no request has left"

    asyncio.run(run())


def test_a_read_that_is_never_answered_ends_at_its_deadline() -> None:
    async def story(node: Node, kv: AsyncClient) -> None:
        await kv.get("k")
        node.result = None
        with pytest.raises(UnknownOutcome):
            await kv.put("k", "v", timeout=0.2)
        with pytest.raises(DeadlineExceeded):
            await kv.get("k", timeout=0.2)

    with_node(story)


def test_a_client_belongs_to_one_loop() -> None:
    kv = AsyncClient(free_address())
    with pytest.raises(Unavailable):
        asyncio.run(kv.put("k", "v", timeout=0.1))
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(kv.put("k", "v", timeout=0.1))


def test_a_blocking_client_works_from_a_thread_of_its_own() -> None:
    async def run() -> None:
        async with serving(Node()) as address:
            await asyncio.to_thread(use_blocking_client, address)

    asyncio.run(run())


def use_blocking_client(address: str) -> None:
    """What a program without a loop does."""
    with Client(address) as kv:
        assert kv.put("k", "v") == PutResult(2)
        assert kv.get("k") is None
        with pytest.raises(TypeError):
            kv.put("k", 1)  # type: ignore[arg-type]
    with pytest.raises(ClientClosed):
        kv.get("k")
    kv.close()


def test_a_forked_child_is_told_that_the_client_stayed_in_the_parent() -> None:
    script = """
import os, kvorum
kv = kvorum.Client("127.0.0.1:1")
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    kv.get("k")
except kvorum.ClientClosed as error:
    os._exit(7 if "fork" in str(error) else 1)
os._exit(1)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 7


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="timeout"):
        AsyncClient(timeout=0)
    with pytest.raises(InvalidRequest, match="has no port"):
        AsyncClient("localhost")
    with pytest.raises(InvalidRequest, match="name at least one"):
        AsyncClient([])
    assert Caller(["n1:1"], timeout=1.0, cluster_id=b"", sessions=True).unusable is None


def test_a_unary_call_to_nobody_says_why() -> None:
    with pytest.raises(StreamBroken, match="connection refused"):
        asyncio.run(request(free_address(), "Cluster/Status", b"", 1.0))


def test_a_link_is_congested_until_its_frames_are_written() -> None:
    async def run() -> None:
        link = Link("n1:1")
        outbox = Outbox(link)
        outbox.put(b"x" * (OUTBOX_BYTES_MAX + 1))
        assert link.congested
        assert not outbox.relieved()
        assert len(await outbox.get()) == OUTBOX_BYTES_MAX + 1
        assert outbox.relieved()
        assert not link.congested

    asyncio.run(run())
    assert OUTBOX_BYTES_MAX < MESSAGE_BYTES_MAX
