"""The client's half of a backup, against nodes that send what a node should not send."""

import asyncio
import io
from collections.abc import Callable, Sequence

import grpc
import grpc.aio
import pytest

from kvorum import AsyncClient, Busy, KvorumError, Unavailable, WrongGroup
from kvorum._backup import _Saving
from kvorum_proto.backup_file import checksum_of, encode_item, read_through
from kvorum_proto.backup_pb2 import BackupGroup, BackupHeader
from kvorum_proto.cluster_pb2 import BackupChunk, BackupRequest, BackupStart
from kvorum_proto.command_pb2 import BUSY, WRONG_GROUP, Error

ITEMS = encode_item(b"k", b"v", 2, 2, 1, 0)
START = BackupChunk(
    start=BackupStart(
        header=BackupHeader(cluster_id=b"c" * 16, partitions=1),
        group=BackupGroup(group=1, revision=2),
    )
)
PART = BackupChunk(items=ITEMS, count=1, checksum=checksum_of(ITEMS))
END = BackupChunk(last=True)


class RogueNode:
    """Answers every ``Cluster.Backup`` with the same messages; then ends, or stays silent."""

    def __init__(self, messages: Sequence[bytes], *, silent: bool = False) -> None:
        self.requests: list[BackupRequest] = []
        self._messages = messages
        self._silent = silent

    async def backup(self, request: bytes, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg]
        self.requests.append(BackupRequest.FromString(request))
        for message in self._messages:
            await context.write(message)
        if self._silent:
            await asyncio.Event().wait()

    async def start(self) -> tuple[grpc.aio.Server, str]:
        server = grpc.aio.server()
        handler = grpc.unary_stream_rpc_method_handler(self.backup)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("kvorum.v1.Cluster", {"Backup": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, f"127.0.0.1:{port}"


def save(
    node: RogueNode,
    progress: Callable[[int, int], None] | None = None,
    patience_seconds: float = 30.0,
) -> bytes:
    """What one group of that node makes of a file; raises what the client is told."""

    async def story() -> bytes:
        file = io.BytesIO()
        server, address = await node.start()
        try:
            async with AsyncClient(address) as kv:
                saving = _Saving(kv._caller, file, "", progress, None)
                saving._patience_seconds = patience_seconds
                await saving._save(1, 7, address)
                saving._writer.finish()
                return file.getvalue()
        finally:
            await server.stop(0)

    return asyncio.run(story())


def encoded(*chunks: BackupChunk) -> list[bytes]:
    return [chunk.SerializeToString() for chunk in chunks]


def test_what_a_node_sends_becomes_a_file() -> None:
    seen: list[tuple[int, int]] = []
    node = RogueNode(encoded(START, PART, END))
    data = save(node, lambda items, size_bytes: seen.append((items, size_bytes)))
    contents = read_through(io.BytesIO(data), "test")
    assert contents.items == 1
    assert contents.header.created_ms
    assert [items for items, _ in seen] == [1]
    assert node.requests == [BackupRequest(group=1, revision_min=7)]


@pytest.mark.parametrize(
    ("messages", "error", "told"),
    [
        (encoded(BackupChunk(error=Error(code=BUSY, message="enough"))), Busy, "enough"),
        (encoded(BackupChunk(error=Error(code=WRONG_GROUP))), WrongGroup, "error code"),
        ([], Unavailable, "ended the backup too early; begin again"),
        (encoded(START, PART), Unavailable, "ended the backup too early"),
        ([b"\xff"], Unavailable, "is no part of a backup; begin again"),
        (
            encoded(START, BackupChunk(items=ITEMS[:-1] + b"w", count=1, checksum=PART.checksum)),
            Unavailable,
            "was changed on its way",
        ),
    ],
    ids=["busy", "wrong group", "nothing", "no end", "garbage", "changed"],
)
def test_what_is_no_backup_is_refused(
    messages: list[bytes], error: type[KvorumError], told: str
) -> None:
    with pytest.raises(error, match=told):
        save(RogueNode(messages))


def test_a_node_that_falls_silent_is_not_waited_for_for_ever() -> None:
    with pytest.raises(Unavailable, match=r"was silent for 0\.2 seconds; begin again"):
        save(RogueNode(encoded(START), silent=True), patience_seconds=0.2)
