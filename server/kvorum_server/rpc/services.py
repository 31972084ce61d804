"""What clients can call: KV.Session, KV.Execute, Cluster.Status, Cluster.TransferLeadership.

A session stream costs the node per frame, never per request: a frame becomes a few events for the
Host, the Host's replies become one frame with all that has gathered. Results arrive here encoded
and are only wrapped (``EncodedReplies`` has the wire format of ``Replies``).

A frame that is not ours ends its stream with INVALID_ARGUMENT; other streams do not notice. When
too many events wait for a turn, requests are answered BUSY here, before they cost the Host
anything.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator

import grpc
from google.protobuf.message import DecodeError

from kvorum_proto.cluster_pb2 import (
    StatusRequest,
    StatusResponse,
    TransferRequest,
    TransferResponse,
)
from kvorum_proto.kv_pb2 import (
    ClientFrame,
    EncodedReplies,
    EncodedServerFrame,
    ServerFrame,
    ServerHello,
)
from kvorum_server.admission import busy_result
from kvorum_server.config import Config
from kvorum_server.events import Asked, Disconnected, Event, Proposed, Reply, TransferAsked
from kvorum_server.rpc.context import STREAM_ERRORS, ServicerContext
from kvorum_server.rpc.pipe import Pipe

WIRE_VERSION = 1
CLIENT_MESSAGE_BYTES_MAX = 8 * 1024 * 1024
FRAME_BYTES_MAX = 1024 * 1024
BUSY_RETRY_MS = 50
RESULT_OVERHEAD_BYTES = 16


class BadFrame(ValueError):
    """Bytes from a client that are no frame, or a frame that its stream must not carry."""


class Services:
    """The client side of a node. Runs on the node's event loop."""

    def __init__(
        self,
        *,
        config: Config,
        post: Callable[[Event], None],
        overloaded: Callable[[], bool],
        hello: Callable[[], ServerHello],
        status: Callable[[], StatusResponse],
        resolve: Callable[[str], int | None],
        leader_name: Callable[[int], str],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._config = config
        self._post = post
        self._overloaded = overloaded
        self._hello = hello
        self._status = status
        self._resolve = resolve
        self._leader_name = leader_name
        self._fail = fail
        self._last_connection = 0
        self._pipes: dict[int, Pipe[Reply]] = {}

    # --- Replies ---

    def deliver(self, reply: Reply) -> None:
        """Hands a reply to the stream it belongs to; dropped when that is gone."""
        pipe = self._pipes.get(reply.connection)
        if pipe is None:
            return
        size = sum(map(len, reply.results)) + RESULT_OVERHEAD_BYTES * len(reply.ids)
        pipe.put(reply, size)
        if pipe.waiting_bytes > self._config.client_outbox_bytes_max:
            pipe.close()

    def _encode(self, replies: list[Reply]) -> list[bytes]:
        """Server frames of about FRAME_BYTES_MAX; only a single result may make a larger one."""
        frames: list[bytes] = []
        part: list[EncodedReplies] = []
        size = 0
        for reply in replies:
            for encoded in _in_parts(reply):
                part.append(encoded)
                size += encoded.ByteSize()
                if size >= FRAME_BYTES_MAX:
                    frames.append(self._frame(part))
                    part, size = [], 0
        if part:
            frames.append(self._frame(part))
        return frames

    def _frame(self, replies: list[EncodedReplies]) -> bytes:
        hello = self._hello()
        frame = EncodedServerFrame(
            replies=replies,
            table_version=hello.table.version,
            cluster_id=hello.cluster_id,
            member=hello.member,
        )
        return frame.SerializeToString()

    # --- Frames ---

    async def _open(self, context: ServicerContext) -> tuple[int, Pipe[Reply]]:
        if len(self._pipes) >= self._config.client_connections_max:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"this node serves its limit of {self._config.client_connections_max} clients",
            )
        self._last_connection += 1
        pipe: Pipe[Reply] = Pipe()
        self._pipes[self._last_connection] = pipe
        return self._last_connection, pipe

    def _close(self, connection: int) -> None:
        del self._pipes[connection]
        self._post(Disconnected(connection))

    def _parse(self, data: bytes) -> ClientFrame:
        if len(data) > CLIENT_MESSAGE_BYTES_MAX:
            raise BadFrame(f"a frame of {len(data)} bytes; at most {CLIENT_MESSAGE_BYTES_MAX}")
        try:
            return ClientFrame.FromString(data)
        except DecodeError:
            raise BadFrame("not a client frame") from None

    def _greet(self, frame: ClientFrame) -> None:
        """Checks the hello that must come first; raises BadFrame."""
        if not frame.HasField("hello"):
            raise BadFrame("the first frame of a stream must carry a hello")
        if frame.hello.wire_version != WIRE_VERSION:
            raise BadFrame(
                f"client wire version {frame.hello.wire_version}; this node speaks {WIRE_VERSION}: "
                "use a client of the server's version"
            )
        if frame.hello.namespace or frame.hello.credential:
            raise BadFrame("this version knows no namespaces and no credentials; leave them out")
        ours = self._hello().cluster_id
        if ours and frame.hello.cluster_id not in (b"", ours):
            raise BadFrame(
                f"the client wants cluster {frame.hello.cluster_id.hex()}, this node belongs to "
                f"{ours.hex()}; check the endpoints"
            )

    def _submit(self, connection: int, frame: ClientFrame) -> int:
        """Turns a frame into events; the number of requests in it. Raises BadFrame."""
        count = 0
        overloaded = self._overloaded()
        for proposal in frame.proposals:
            ids = tuple(proposal.ids)
            count += len(ids)
            if not ids:
                raise BadFrame("commands without ids")
            if overloaded:
                self._refuse(connection, proposal.group, ids)
            else:
                self._post(Proposed(connection, proposal.group, ids, proposal.commands))
        for inquiry in frame.inquiries:
            ids = tuple(inquiry.ids)
            count += len(ids)
            if len(ids) != len(inquiry.queries):
                raise BadFrame(f"{len(inquiry.queries)} queries came with {len(ids)} ids")
            if overloaded:
                self._refuse(connection, inquiry.group, ids)
            else:
                self._post(Asked(connection, inquiry.group, ids, tuple(inquiry.queries)))
        return count

    def _refuse(self, connection: int, group: int, ids: tuple[int, ...]) -> None:
        results = [busy_result(BUSY_RETRY_MS)] * len(ids)
        self.deliver(Reply(connection, group, list(ids), results, 0, 0, 0))

    # --- Calls ---

    async def session(self, _: object, context: ServicerContext) -> None:
        """Handler of ``KV.Session``."""
        connection, pipe = await self._open(context)
        reader = asyncio.ensure_future(self._read(connection, context))
        writer = asyncio.ensure_future(pipe.run(self._encode, context.write))
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._close(connection)
            reader.cancel()
            writer.cancel()
            ends = await asyncio.gather(reader, writer, return_exceptions=True)
        match ends:
            case [BadFrame() as error, _]:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            case [_, None]:
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "the client does not take its replies; read faster or ask for less",
                )
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, STREAM_ERRORS):
                self._fail(end)

    async def _read(self, connection: int, context: ServicerContext) -> None:
        greeted = False
        while isinstance(data := await context.read(), bytes):
            frame = self._parse(data)
            if not greeted:
                self._greet(frame)
                greeted = True
                await context.write(ServerFrame(hello=self._hello()).SerializeToString())
            self._submit(connection, frame)

    async def execute(self, request: bytes, context: ServicerContext) -> bytes:
        """Handler of ``KV.Execute``: one frame in, one frame with all its answers out."""
        connection, pipe = await self._open(context)
        try:
            frame = self._parse(request)
            self._greet(frame)
            missing = self._submit(connection, frame)
            replies: list[Reply] = []
            while missing > 0:
                gathered = await pipe.take()
                if not gathered:
                    await context.abort(
                        grpc.StatusCode.RESOURCE_EXHAUSTED, "the answer is too large; ask for less"
                    )
                replies += gathered
                missing -= sum(len(reply.ids) for reply in gathered)
            return self._frame([_encoded(reply) for reply in replies])
        except BadFrame as error:
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            self._close(connection)

    async def status(self, request: bytes, context: ServicerContext) -> bytes:
        """Handler of ``Cluster.Status``."""
        try:
            StatusRequest.FromString(request)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a StatusRequest: {error}")
        return self._status().SerializeToString()

    async def transfer(self, request: bytes, context: ServicerContext) -> bytes:
        """Handler of ``Cluster.TransferLeadership``."""
        try:
            message = TransferRequest.FromString(request)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a TransferRequest: {error}")
        target = self._resolve(message.target) if message.target else None
        if message.target and target is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no member is named {message.target!r}")
        self._post(TransferAsked(message.group, target))
        return TransferResponse(leader=self._leader_name(message.group)).SerializeToString()


def _in_parts(reply: Reply) -> Iterator[EncodedReplies]:
    """A reply on the wire; one whose results would burst a frame in several parts."""
    whole = _encoded(reply)
    if whole.ByteSize() < 2 * FRAME_BYTES_MAX:
        yield whole
        return
    begin = 0
    size = 0
    for end, result in enumerate(reply.results, 1):
        size += len(result)
        if size >= FRAME_BYTES_MAX or end == len(reply.results):
            part = dataclasses.replace(
                reply, ids=reply.ids[begin:end], results=reply.results[begin:end]
            )
            yield _encoded(part)
            begin, size = end, 0


def _encoded(reply: Reply) -> EncodedReplies:
    return EncodedReplies(
        group=reply.group,
        ids=reply.ids,
        results=reply.results,
        term=reply.term,
        log_time=reply.log_time,
        revision=reply.revision,
    )
