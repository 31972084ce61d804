"""What clients can call: KV.Session, KV.Execute, Cluster.Status, Cluster.TransferLeadership,
Cluster.CompareStates.

A session stream costs the node per frame, never per request: a frame becomes a few events for the
Host, the Host's replies become one frame with all that has gathered. Results arrive here encoded
and are only wrapped (``EncodedReplies`` has the wire format of ``Replies``).

A frame that is not ours ends its stream with INVALID_ARGUMENT; other streams do not notice.

*Too much work* is sent away here, with BUSY, before it costs the Host anything: when the inbox is
full, when a connection holds more than its share of what may be in flight (``shares.py``), when
the engine cannot keep up with writes, when too many replies of all clients together wait.

*Slow clients* are bounded, too. When many replies wait for one, the Host is told and reads nothing
more for it until it has caught up; the replies to its writes go on, and when they become too many
the stream is closed.

A client may close its side of the stream and still gets the answers that it is owed.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError

from kvorum_proto.cluster_pb2 import (
    CompareRequest,
    CompareResponse,
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
from kvorum_server.events import (
    Asked,
    CompareAsked,
    Congested,
    Disconnected,
    Event,
    Proposed,
    Relieved,
    Reply,
    TransferAsked,
)
from kvorum_server.rpc.context import STREAM_ERRORS, ServicerContext
from kvorum_server.rpc.pipe import Pipe
from kvorum_server.rpc.shares import Shares

WIRE_VERSION = 1
CLIENT_MESSAGE_BYTES_MAX = 8 * 1024 * 1024
FRAME_BYTES_MAX = 1024 * 1024
RESULT_OVERHEAD_BYTES = 16

CONGESTED_PART = 4
"""A client is congested when this part of the replies that may wait for it do wait."""

NOT_GREETED = -1
"""No greeting has such a version; that of a node without a cluster has 0."""


class BadFrame(ValueError):
    """Bytes from a client that are no frame, or a frame that its stream must not carry."""


@dataclass(slots=True)
class Connection:
    """One stream of a client, or one call of Execute."""

    number: int
    pipe: Pipe[Reply] = field(default_factory=Pipe)
    is_congested: bool = False
    has_left: bool = False
    """The client has closed its side; it still takes what it is owed."""
    is_cut_off: bool = False
    """The client took no replies until too many waited."""
    told_version: int = NOT_GREETED
    """Version of the table in the greeting that the client has seen last."""


class Services:
    """The client side of a node. Runs on the node's event loop."""

    def __init__(
        self,
        *,
        config: Config,
        post: Callable[[Event], None],
        overloaded: Callable[[], bool],
        engine_is_behind: Callable[[], bool],
        hello: Callable[[], ServerHello],
        status: Callable[[], StatusResponse],
        resolve: Callable[[str], int | None],
        leader_name: Callable[[int], str],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._config = config
        self._post = post
        self._overloaded = overloaded
        self._engine_is_behind = engine_is_behind
        self._hello = hello
        self._status = status
        self._resolve = resolve
        self._leader_name = leader_name
        self._fail = fail
        self._last_connection = 0
        self._connections: dict[int, Connection] = {}
        self._shares = Shares(
            requests_max=config.pending_commands_max, bytes_max=config.log_inflight_bytes_max
        )

    # --- Replies ---

    def deliver(self, reply: Reply) -> None:
        """Hands a reply to the stream it belongs to; dropped when that is gone."""
        self._shares.give_back(reply.connection, len(reply.ids))
        connection = self._connections.get(reply.connection)
        if connection is not None:
            self._put(connection, reply)

    def _put(self, connection: Connection, reply: Reply) -> None:
        size = sum(map(len, reply.results)) + RESULT_OVERHEAD_BYTES * len(reply.ids)
        pipe = connection.pipe
        pipe.put(reply, size)
        limit = self._config.client_outbox_bytes_max
        if pipe.waiting_bytes > limit:
            connection.is_cut_off = True
            pipe.close()
        elif pipe.waiting_bytes > limit // CONGESTED_PART and not connection.is_congested:
            connection.is_congested = True
            self._post(Congested(connection.number))
        if connection.has_left:
            self._close_when_answered(connection)

    def _close_when_answered(self, connection: Connection) -> None:
        if self._shares.held(connection.number) == 0:
            connection.pipe.close()

    def _written(self, connection: Connection) -> None:
        """The transport has taken what had waited for a client."""
        if connection.is_congested:
            connection.is_congested = False
            self._post(Relieved(connection.number))

    def announce(self) -> None:
        """The greeting has changed. Clients that wait for no answer are told as well: before they
        want one again, every node that they know may have been replaced.
        """
        for connection in self._connections.values():
            if connection.told_version != NOT_GREETED:
                connection.pipe.nudge()

    @property
    def waiting_bytes(self) -> int:
        """Replies that wait for all clients together."""
        return sum(connection.pipe.waiting_bytes for connection in self._connections.values())

    def _encode(self, connection: Connection, replies: list[Reply]) -> list[bytes]:
        """Server frames of about FRAME_BYTES_MAX; only a single result may make a larger one.

        The greeting comes first, and comes again when nodes or leaders have changed: otherwise a
        client that lives long would know no node any more when all have been replaced.
        """
        frames: list[bytes] = []
        hello = self._hello()
        if connection.told_version != hello.table.version:
            connection.told_version = hello.table.version
            frames.append(ServerFrame(hello=hello).SerializeToString())
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

    async def _open(self, context: ServicerContext) -> Connection:
        if len(self._connections) >= self._config.client_connections_max:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"this node serves its limit of {self._config.client_connections_max} clients",
            )
        self._last_connection += 1
        connection = Connection(self._last_connection)
        self._connections[connection.number] = connection
        return connection

    def _close(self, connection: Connection) -> None:
        del self._connections[connection.number]
        self._shares.forget(connection.number)
        self._post(Disconnected(connection.number))

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

    def _submit(self, connection: Connection, frame: ClientFrame, size_bytes: int) -> int:
        """Turns a frame into events; the number of requests in it. Raises BadFrame."""
        count = sum(len(proposal.ids) for proposal in frame.proposals)
        count += sum(len(inquiry.ids) for inquiry in frame.inquiries)
        each = size_bytes // max(1, count)
        number = connection.number
        for proposal in frame.proposals:
            ids = tuple(proposal.ids)
            if not ids:
                raise BadFrame("commands without ids")
            if self._engine_is_behind() or not self._may_enter(number, len(ids), each):
                self._send_away(connection, proposal.group, ids, each)
            else:
                self._post(Proposed(number, proposal.group, ids, proposal.commands))
        for inquiry in frame.inquiries:
            ids = tuple(inquiry.ids)
            if len(ids) != len(inquiry.queries):
                raise BadFrame(f"{len(inquiry.queries)} queries came with {len(ids)} ids")
            if self._may_enter(number, len(ids), each):
                self._post(Asked(number, inquiry.group, ids, tuple(inquiry.queries)))
            elif ids:
                self._send_away(connection, inquiry.group, ids, each)
        return count

    def _may_enter(self, connection: int, count: int, each: int) -> bool:
        if self._overloaded() or count == 0:
            return False
        return self._shares.take(connection, count, count * each)

    def _send_away(
        self, connection: Connection, group: int, ids: tuple[int, ...], each: int
    ) -> None:
        pause_ms = self._shares.send_away(len(ids), len(ids) * each)
        results = [busy_result(pause_ms)] * len(ids)
        self._put(connection, Reply(connection.number, group, list(ids), results, 0, 0, 0))

    # --- Calls ---

    async def session(self, _: object, context: ServicerContext) -> None:
        """Handler of ``KV.Session``."""
        connection = await self._open(context)
        reader = asyncio.ensure_future(self._read(connection, context))
        writer = asyncio.ensure_future(
            connection.pipe.run(
                lambda replies: self._encode(connection, replies),
                context.write,
                lambda: self._written(connection),
            )
        )
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if connection.has_left:
                await asyncio.wait((writer,))
        finally:
            self._close(connection)
            reader.cancel()
            writer.cancel()
            ends = await asyncio.gather(reader, writer, return_exceptions=True)
        if isinstance(ends[0], BadFrame):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(ends[0]))
        if connection.is_cut_off:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "the client does not take its replies; read faster or ask for less",
            )
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, STREAM_ERRORS):
                self._fail(end)

    async def _read(self, connection: Connection, context: ServicerContext) -> None:
        """Takes frames until the client closes its side."""
        greeted = False
        while isinstance(data := await context.read(), bytes):
            frame = self._parse(data)
            if not greeted:
                self._greet(frame)
                greeted = True
                connection.pipe.nudge()
            self._submit(connection, frame, len(data))
        connection.has_left = True
        self._close_when_answered(connection)

    async def execute(self, request: bytes, context: ServicerContext) -> bytes:
        """Handler of ``KV.Execute``: one frame in, one frame with all its answers out."""
        connection = await self._open(context)
        try:
            frame = self._parse(request)
            self._greet(frame)
            missing = self._submit(connection, frame, len(request))
            replies: list[Reply] = []
            size = 0
            while missing > 0:
                size += connection.pipe.waiting_bytes
                gathered = await connection.pipe.take()
                self._written(connection)
                if not gathered or size > self._config.client_outbox_bytes_max:
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

    async def compare(self, request: bytes, context: ServicerContext) -> bytes:
        """Handler of ``Cluster.CompareStates``."""
        try:
            CompareRequest.FromString(request)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a CompareRequest: {error}")
        self._post(CompareAsked())
        led = [group.group for group in self._status().groups if group.role == "leader"]
        return CompareResponse(groups=led).SerializeToString()


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
