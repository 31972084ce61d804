"""The client side of a node, without a node: a test plays the client of a stream."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

import grpc

from kvorum_proto import command_pb2 as wire
from kvorum_proto.cluster_pb2 import StatusResponse
from kvorum_proto.kv_pb2 import (
    ClientFrame,
    ClientHello,
    Partition,
    PartitionTable,
    Proposal,
    ServerFrame,
    ServerHello,
)
from kvorum_server.config import Config
from kvorum_server.events import (
    Asked,
    Event,
    Proposed,
    Reply,
)
from kvorum_server.rpc.context import ServicerContext
from kvorum_server.rpc.services import (
    WIRE_VERSION,
    Services,
)
from tests.unit.host_setup import encoded

CLUSTER = b"c" * 16
HELLO = ServerHello(
    wire_version=WIRE_VERSION,
    cluster_id=CLUSTER,
    member=11,
    table=PartitionTable(version=4, partitions=[Partition(group=1)]),
)
OK = wire.Result(put=wire.PutResult(revision=2)).SerializeToString()


class Aborted(Exception):
    """What gRPC raises in a handler that aborts."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code


class Context:
    """A stream whose client says ``frames`` and then stays, leaves, or falls silent for good."""

    def __init__(self, *frames: bytes, leaves: bool = True) -> None:
        self.written: list[bytes] = []
        self.takes_replies = asyncio.Event()
        self.takes_replies.set()
        self.fails_to_write = False
        self._frames = list(frames)
        self._leaves = leaves

    def say(self, frame: bytes) -> None:
        """The client sends another frame."""
        self._frames.append(frame)

    async def read(self) -> object:
        await asyncio.sleep(0)
        while not self._frames and not self._leaves:
            await asyncio.sleep(0)
        return self._frames.pop(0) if self._frames else None

    async def write(self, frame: bytes, /) -> None:
        if self.fails_to_write:
            raise asyncio.InvalidStateError("the call is over")
        await self.takes_replies.wait()
        self.written.append(frame)

    async def abort(self, code: grpc.StatusCode, details: str, /) -> NoReturn:
        raise Aborted(code, details)

    def frames(self) -> list[ServerFrame]:
        return list(map(ServerFrame.FromString, self.written))


class Node:
    """Services on a node that notes events and answers every request at once."""

    def __init__(self, config: Config | None = None) -> None:
        self.events: list[Event] = []
        self.failures: list[BaseException] = []
        self.is_overloaded = False
        self.engine_is_behind = False
        self.hello = HELLO
        self.answer: Callable[[Event], Reply | None] = answered
        self.services = Services(
            config=config or Config(),
            post=self.post,
            overloaded=lambda: self.is_overloaded,
            engine_is_behind=lambda: self.engine_is_behind,
            hello=lambda: self.hello,
            status=lambda: StatusResponse(name="n1"),
            resolve={"n2": 22}.get,
            leader_name=lambda group: f"leader of {group}",
            fail=self.failures.append,
        )

    def post(self, event: Event) -> None:
        self.events.append(event)
        reply = self.answer(event)
        if reply is not None:
            asyncio.get_running_loop().call_soon(self.services.deliver, reply)


def answered(event: Event) -> Reply | None:
    if isinstance(event, Proposed | Asked):
        results = [OK] * len(event.ids)
        return Reply(event.connection, event.group, list(event.ids), results, 3, 100, 2)
    return None


def frame(*submissions: wire.Submission, hello: bool = True, **greeting: object) -> bytes:
    """A frame with commands for group 1, ids from 1."""
    ids = range(1, len(submissions) + 1)
    proposals = [Proposal(group=1, ids=ids, commands=encoded(*submissions))] if submissions else []
    greetings = {"wire_version": WIRE_VERSION, **greeting}
    return ClientFrame(
        hello=ClientHello(**greetings) if hello else None,  # type: ignore[arg-type]
        proposals=proposals,
    ).SerializeToString()


def run_session(node: Node, context: Context) -> None:
    """A session from its first frame to its end."""

    async def session() -> None:
        task = asyncio.create_task(node.services.session(None, checked(context)))
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            await task

    asyncio.run(session())


def checked(context: ServicerContext) -> ServicerContext:
    return context


def execute(node: Node, request: bytes) -> ServerFrame:
    return ServerFrame.FromString(asyncio.run(node.services.execute(request, checked(Context()))))
