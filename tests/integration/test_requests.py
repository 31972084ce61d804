"""What clients may send, by gRPC alone: the client library would stop most of it earlier."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from kvorum_proto import command_pb2 as wire
from kvorum_proto.kv_pb2 import ClientFrame, ClientHello, Proposal, ServerFrame
from kvorum_server.config import Config
from tests.integration.cluster import PATIENCE_SECONDS, running_cluster

if TYPE_CHECKING:
    Call: TypeAlias = grpc.aio.StreamStreamCall[bytes, bytes]

EXECUTE = "/kvorum.v1.KV/Execute"
SESSION = "/kvorum.v1.KV/Session"


def frame(*submissions: wire.Submission, **greeting: object) -> bytes:
    commands = wire.CommandBatch(submissions=submissions).SerializeToString()
    return raw_frame(commands, len(submissions), **greeting)


def raw_frame(commands: bytes, count: int = 1, **greeting: object) -> bytes:
    hello = ClientHello(**{"wire_version": 1, **greeting})  # type: ignore[arg-type]
    proposal = Proposal(group=1, ids=range(1, count + 1), commands=commands)
    return ClientFrame(hello=hello, proposals=[proposal]).SerializeToString()


def put(key: bytes, value: bytes) -> wire.Submission:
    return wire.Submission(put=wire.Put(key=key, value=value))


def test_a_node_serves_what_is_right_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    """One process for all of it: after each wrong request it must go on serving the right ones."""

    async def story() -> None:
        async with running_cluster(tmp_path, 1) as cluster:
            (node,) = cluster.nodes
            async with grpc.aio.insecure_channel(node.address) as channel:
                await limits_are_typed(channel)
                await malformed_commands_are_typed(channel)
                await strangers_are_refused(channel)
                await a_bad_frame_ends_its_own_stream(channel)
                await health_and_reflection_answer(channel)
            await cluster.ready()
            assert "Traceback" not in node.log

    asyncio.run(story())


async def execute(channel: grpc.aio.Channel, request: bytes) -> list[wire.Result]:
    call = channel.unary_unary(EXECUTE, None, None)
    answer = ServerFrame.FromString(await call(request, timeout=PATIENCE_SECONDS))
    return [result for replies in answer.replies for result in replies.results]


async def limits_are_typed(channel: grpc.aio.Channel) -> None:
    """Larger than the client library would ever send."""
    limits = Config()
    results = await execute(
        channel,
        frame(
            put(b"k" * (limits.key_bytes_max + 1), b"v"),
            put(b"k", b"v" * (limits.value_bytes_max + 1)),
            put(b"k", b"v" * (limits.request_bytes_max + 1)),
            put(b"fits", b"v"),
        ),
    )
    refused_results = [result.error.code for result in results if result.HasField("error")]
    assert refused_results == [wire.LIMIT_EXCEEDED] * 3
    assert sum(result.HasField("put") for result in results) == 1


async def malformed_commands_are_typed(channel: grpc.aio.Channel) -> None:
    unknown = put(b"k", b"v")
    unknown.MergeFromString(b"\xf8\x07\x01")  # field 127
    for commands in (b"\xff", wire.CommandBatch(submissions=[unknown]).SerializeToString()):
        (result,) = await execute(channel, raw_frame(commands))
        assert result.error.code == wire.MALFORMED
        assert result.error.message


async def strangers_are_refused(channel: grpc.aio.Channel) -> None:
    for request, reason in (
        (frame(put(b"k", b"v"), cluster_id=b"another"), "check the endpoints"),
        (frame(put(b"k", b"v"), wire_version=7), "client wire version 7; this node speaks 1"),
        (b"\xff", "not a client frame"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=reason) as refused_call:
            await execute(channel, request)
        assert refused_call.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def a_bad_frame_ends_its_own_stream(channel: grpc.aio.Channel) -> None:
    good = channel.stream_stream(SESSION, None, None)(None)
    bad = channel.stream_stream(SESSION, None, None)(None)
    for call in (good, bad):
        await call.write(frame(put(b"k", b"v")))
        assert (await read(call)).HasField("hello")
        assert (await read(call)).replies
    await bad.write(b"\xff\xff\xff")
    assert await bad.code() is grpc.StatusCode.INVALID_ARGUMENT
    await good.write(frame(put(b"k", b"still served")))
    (replies,) = (await read(good)).replies
    assert replies.results[0].HasField("put")
    good.cancel()


async def read(call: "Call") -> ServerFrame:
    data = await call.read()
    assert isinstance(data, bytes)
    return ServerFrame.FromString(data)


async def health_and_reflection_answer(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "kvorum.v1.KV"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def question() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async for response in reflection.ServerReflectionInfo(question()):
        names = {service.name for service in response.list_services_response.service}
        assert {"kvorum.v1.KV", "kvorum.v1.Cluster", "kvorum.v1.Peer"} <= names
