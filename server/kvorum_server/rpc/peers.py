"""Streams between nodes: who dials whom, what a broken one means, and who founds the cluster.

One bidirectional ``Peer.Exchange`` stream per pair of nodes carries the envelopes of all groups.
The smaller identity dials. As long as a node is fresh it knows no identities, so it dials
everybody; a stream dialled the wrong way round ends after both hellos, which is all that founding
a cluster, or asking to be let in, needs. Whom to dial is asked again at every ``refresh``. Who has
waited some seconds to be dialled dials nevertheless, once, and so learns why nobody came: two nodes
that take each other for somebody else would both wait for ever.

Who accepts a stream refuses it with a status. Who has dialled it and does not like the answer sends
its reason as the last frame, or a node that runs on an old copy of its data, and whom others dial,
would never hear that it must stop. It stops when most of its cluster say so; strangers count for
nothing.

A broken stream is a hint that the other node is gone. The side that dials waits a random few
milliseconds, tries once, and only then reports; the other side gives it that time. Every attempt
uses a channel of its own: gRPC's reconnect back-off, which grows to two minutes and is shared
between channels to one address, would otherwise decide how soon a restarted node is heard again.

Nothing here is repeated or acknowledged: what a broken stream swallows, the protocol sends again.

The certificate of the cluster is passed on only by nodes that hold it durably: on every stream that
opens, and once more on the streams that stood already. So it cannot be made twice, and every node
learns it as long as one that knows it lives.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Protocol

import grpc
import grpc.aio

from kvorum_proto.peer_pb2 import (
    Bootstrap,
    InitialMember,
    LogPosition,
    PeerFrame,
    PeerHello,
)
from kvorum_server.config import Config
from kvorum_server.consensus import PROTOCOLS
from kvorum_server.events import (
    Bootstrapped,
    Event,
    Introduced,
    PeerConnected,
    PeerDisconnected,
    Received,
)
from kvorum_server.outbox import URGENT
from kvorum_server.placement.bootstrap import flaw_in
from kvorum_server.rpc.codec import MalformedFrame, encode_frame, envelope_from_proto, parse_frame
from kvorum_server.rpc.context import STREAM_ERRORS, ServicerContext
from kvorum_server.rpc.handshake import (
    NotExpected,
    Refused,
    Self,
    is_member,
    judge,
    position,
)
from kvorum_server.rpc.pipe import Dialled, Pipe, Stream
from kvorum_server.types import AppendRequest, Contact, Envelope, NodeId, SnapshotChunk

EXCHANGE = "/kvorum.v1.Peer/Exchange"
FRAME_BYTES_MAX = 1024 * 1024
PEER_MESSAGE_BYTES_MAX = 16 * 1024 * 1024
RETRY_SECONDS_MAX = 0.4
ACCEPT_GRACE_SECONDS = 0.03
REFUSAL_SECONDS_MAX = 1.0
KNOCK_SECONDS = 4.0
ENVELOPE_BYTES = 64
NOTICES_MAX = 256

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", PEER_MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", PEER_MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
)

Packet = list[Envelope] | bytes
"""Envelopes of one turn, or a frame that is encoded already."""


class SentAway(Exception):
    """The other node has refused us; the message is its reason and remedy."""


class NotLetIn(Exception):
    """The other node does not expect us yet; the message is what its operator has to do."""


class Log(Protocol):
    """Where things go that an operator should know."""

    def info(self, event: str, /, **details: str | int) -> object:
        """Something has gone as it should."""
        ...

    def warning(self, event: str, /, **details: str | int) -> object:
        """Something may need a hand."""
        ...


def envelope_bytes(envelope: Envelope) -> int:
    """About how much room an envelope takes in a frame."""
    message = envelope.message
    if isinstance(message, AppendRequest):
        return ENVELOPE_BYTES + sum(len(e.payload) + ENVELOPE_BYTES for e in message.entries)
    if isinstance(message, SnapshotChunk):
        return ENVELOPE_BYTES + sum(len(key) + len(value) for key, value in message.rows)
    return ENVELOPE_BYTES


def encode_packets(packets: list[Packet]) -> list[bytes]:
    """Frames of about FRAME_BYTES_MAX; votes and heartbeats first."""
    frames = [packet for packet in packets if isinstance(packet, bytes)]
    envelopes = [envelope for packet in packets if isinstance(packet, list) for envelope in packet]
    envelopes.sort(key=lambda envelope: not isinstance(envelope.message, URGENT))
    part: list[Envelope] = []
    size = 0
    for envelope in envelopes:
        part.append(envelope)
        size += envelope_bytes(envelope)
        if size >= FRAME_BYTES_MAX:
            frames.append(encode_frame(part))
            part, size = [], 0
    if part:
        frames.append(encode_frame(part))
    return frames


class Peers:
    """All streams of a node with its peers. Runs on the node's event loop."""

    def __init__(
        self,
        *,
        config: Config,
        contacts: Callable[[], Sequence[Contact]],
        myself: Callable[[], Self],
        post: Callable[[Event], None],
        found: Callable[[Mapping[str, NodeId]], Bootstrap | None],
        sent_away: Callable[[str], None],
        fail: Callable[[BaseException], None],
        log: Log,
    ) -> None:
        self._config = config
        self._find_contacts = contacts
        self._contacts: dict[str, Contact] = {}
        self._dialled: set[str] = set()
        self._myself = myself
        self._post = post
        self._found = found
        self._sent_away = sent_away
        self._fail = fail
        self._log = log
        self._pipes: dict[NodeId, Pipe[Packet]] = {}
        self._reported: set[NodeId] = set()
        self._fresh: dict[str, NodeId] = {}
        self._hellos: dict[NodeId, PeerHello] = {}
        self._reached: dict[NodeId, tuple[int, int]] = {}
        self._refused_by: set[str] = set()
        self._told: dict[tuple[str, str], str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def refresh(self) -> None:
        """Begins to dial those whom this node should reach and does not dial yet; who is none of
        them any more is let go when its stream ends.
        """
        self._contacts = {contact.address: contact for contact in self._find_contacts()}
        for address in self._contacts:
            if address not in self._dialled:
                self._dialled.add(address)
                self._spawn(self._dial(address))

    def _is_ours_to_dial(self, contact: Contact) -> bool:
        """The smaller identity dials; who has no cluster yet dials everybody."""
        own = self._myself()
        return own.bootstrap is None or not contact.identity or contact.identity > own.identity

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What our own tasks do not expect is a bug, and a node with a bug does not go on."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    async def close(self) -> None:
        """Ends all streams."""
        self._closing = True
        for pipe in self._pipes.values():
            pipe.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def connected(self) -> frozenset[NodeId]:
        """Peers with a stream at present."""
        return frozenset(self._pipes)

    def send(self, peer: NodeId, envelopes: list[Envelope]) -> None:
        """Sends what may leave; dropped when there is no stream or too much waits for it."""
        pipe = self._pipes.get(peer)
        if pipe is None or pipe.waiting_bytes > self._config.peer_outbox_bytes_max:
            return
        pipe.put(envelopes, sum(map(envelope_bytes, envelopes)))

    def tell_log_end(self) -> None:
        """This node's log has grown: its peers will know an older copy of it."""
        segment, offset = self._myself().log_end
        frame = PeerFrame(log_end=LogPosition(segment=segment, offset=offset)).SerializeToString()
        for pipe in self._pipes.values():
            pipe.put(frame, len(frame))

    def announce(self) -> None:
        """The certificate of the cluster is durable here: who is connected should have it, too."""
        self.refresh()
        for pipe in self._pipes.values():
            self._pass_on_certificate(pipe)

    def _pass_on_certificate(self, pipe: Pipe[Packet]) -> None:
        bootstrap = self._myself().bootstrap
        if bootstrap is not None:
            members = [
                InitialMember(identity=one.identity, name=one.name, address=one.address)
                for one in self._myself().members
            ]
            frame = PeerFrame(bootstrap=bootstrap, members=members).SerializeToString()
            pipe.put(frame, len(frame))

    # --- Dialling ---

    async def _dial(self, address: str) -> None:
        """Keeps a stream to whom this address belongs, if it is on us to dial. If it is not, asks
        now and then why nobody has: both may wait for each other if they know each other wrongly.
        """
        lost: NodeId = 0
        while not self._closing:
            contact = self._contacts.get(address)
            if contact is None:
                break
            if not self._is_ours_to_dial(contact):
                await asyncio.sleep(random.uniform(KNOCK_SECONDS / 2, KNOCK_SECONDS))
                if contact.identity in self._pipes or self._contacts.get(address) != contact:
                    continue
            peer = contact.name or address
            stood: NodeId = 0
            try:
                stood = await self._dial_once(contact)
            except SentAway as refusal:
                self._refused(peer, str(refusal))
            except NotLetIn as refusal:
                self._warn_once("waiting to be let in", peer, str(refusal), str(refusal))
            except Refused as refusal:
                self._refuse(peer, refusal)
            except (*STREAM_ERRORS, MalformedFrame) as error:
                self._warn_once("peer unreachable", peer, "", _reason(error))
            if lost and not stood:
                self._report_lost(lost)
            lost = stood
            wait = self._config.reconnect_wait_ms_max / 1000 if stood else RETRY_SECONDS_MAX
            await asyncio.sleep(random.uniform(0, wait))
        self._dialled.discard(address)
        if lost:
            self._report_lost(lost)

    async def _dial_once(self, contact: Contact) -> NodeId:
        """One stream from hello to end; with whom it stood, 0 when it did not."""
        name, address = contact.name, contact.address
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            call = channel.stream_stream(EXCHANGE, None, None)(None)
            try:
                await call.write(self._hello_frame())
                first = await call.read()
                if not isinstance(first, bytes):
                    return 0
                hello = self._hello_of(first)
                if name and hello.name != name:
                    raise Refused(
                        f"the node at {address} is {hello.name}, not {name}; check --listen and "
                        "--initial-cluster"
                    )
                try:
                    self._meet(hello)
                except Refused as refusal:
                    if not isinstance(refusal, NotExpected):
                        await _tell_refusal(call, str(refusal))
                    raise
                if hello.identity < self._myself().identity or not self._may_exchange(hello):
                    return 0
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    raise SentAway(error.details() or "refused") from None
                if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                    raise NotLetIn(error.details() or "not expected") from None
                raise
            else:
                await self._exchange(hello, call)
                return hello.identity
            finally:
                call.cancel()

    def _hello_frame(self) -> bytes:
        return PeerFrame(hello=self._myself().hello()).SerializeToString()

    def _hello_of(self, frame: bytes) -> PeerHello:
        parsed = parse_frame(frame)
        if not parsed.HasField("hello"):
            raise MalformedFrame("the first frame of a stream is no hello")
        return parsed.hello

    def _refused(self, name: str, reason: str) -> None:
        """A fresh node stops; a member stops only when most of its cluster will not speak with
        it.
        """
        self._warn_once("refused by peer", name, reason, reason)
        self._refused_by.add(name)
        others = len(self._contacts)
        if self._myself().bootstrap is None or (
            len(self._refused_by) * 2 > others and not self._reported
        ):
            self._sent_away(reason)

    def _refuse(self, name: str, refusal: Refused) -> None:
        """A fresh node stops, because its operator is watching; a member says so and goes on."""
        self._warn_once("peer refused", name, str(refusal), str(refusal))
        if self._myself().bootstrap is None and not isinstance(refusal, NotExpected):
            self._sent_away(str(refusal))

    def _warn_once(self, event: str, peer: str, kind: str, reason: str) -> None:
        """What is repeated several times a second is told when it begins and when it changes."""
        if self._told.get((event, peer)) == kind:
            return
        if len(self._told) >= NOTICES_MAX:  # the names are those that strangers give themselves
            self._told.clear()
        self._told[event, peer] = kind
        self._log.warning(event, peer=peer, reason=reason)

    # --- Accepting ---

    async def accept(self, _: object, context: "ServicerContext") -> None:
        """Handler of ``Peer.Exchange``."""
        identity = 0
        hello = PeerHello(name="a stranger")
        try:
            first = await context.read()
            if not isinstance(first, bytes):
                return
            hello = self._hello_of(first)
            self._meet(hello)
            await context.write(self._hello_frame())
            if hello.identity > self._myself().identity or not self._may_exchange(hello):
                return
            identity = hello.identity
            await self._exchange(hello, context)
        except SentAway as refusal:
            self._report_lost(identity)
            identity = 0
            if is_member(self._myself(), hello.identity):
                self._refused(hello.name, str(refusal))
        except NotExpected as refusal:
            self._warn_once("peer not expected", hello.name, str(refusal), str(refusal))
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(refusal))
        except Refused as refusal:
            self._warn_once("peer refused", hello.name, str(refusal), str(refusal))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refusal))
        except MalformedFrame as error:
            self._warn_once("malformed peer frame", hello.name, str(error), str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            if identity and not self._closing:
                self._spawn(self._await_redial(identity))

    async def _await_redial(self, identity: NodeId) -> None:
        """The other side dials: give it the time of one attempt before its silence counts."""
        wait = random.uniform(0, self._config.reconnect_wait_ms_max / 1000)
        await asyncio.sleep(ACCEPT_GRACE_SECONDS + wait)
        self._report_lost(identity)

    # --- Both ---

    def _meet(self, hello: PeerHello) -> None:
        """A peer has introduced itself; the first-named node may now be able to found the
        cluster, and one that is expected may be let in. Raises Refused.
        """
        reached = self._reached.get(hello.identity, (0, 0))
        judge(self._myself(), hello, self._hellos.get(hello.identity), reached)
        self._hellos[hello.identity] = hello
        self._reached[hello.identity] = max(reached, position(hello.log_end))
        self._refused_by.discard(hello.name)
        if hello.fresh and not self._may_exchange(hello):
            introduced = Introduced(
                hello.identity, hello.name, hello.address, hello.supported_level
            )
            self._post(introduced)
            return
        if self._myself().bootstrap is not None or not hello.fresh:
            self._fresh.pop(hello.name, None)
            return
        self._fresh[hello.name] = hello.identity
        bootstrap = self._found(self._fresh)
        if bootstrap is not None:
            self._post(Bootstrapped(bootstrap))

    def _may_exchange(self, hello: PeerHello) -> bool:
        """Whether there is more to say than hello: not to a node that is no member yet."""
        own = self._myself()
        return own.bootstrap is None or not hello.fresh or is_member(own, hello.identity)

    async def _exchange(self, hello: PeerHello, stream: Stream) -> None:
        """Both halves of a stream until it ends; a newer stream with the same peer replaces it."""
        identity = hello.identity
        for told in [told for told in self._told if told[1] == hello.name]:
            del self._told[told]
        self._log.info("peer connected", peer=hello.name)
        pipe: Pipe[Packet] = Pipe()
        older = self._pipes.get(identity)
        if older is not None:
            older.close()
        self._pipes[identity] = pipe
        self._reported.add(identity)
        self._post(PeerConnected(identity))
        self._pass_on_certificate(pipe)
        writer = asyncio.ensure_future(pipe.run(encode_packets, stream.write))
        reader = asyncio.ensure_future(self._receive(identity, stream))
        try:
            done, _ = await asyncio.wait((writer, reader), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except STREAM_ERRORS as error:
            self._log.info("peer lost", peer=hello.name, reason=_reason(error))
        finally:
            writer.cancel()
            reader.cancel()
            await asyncio.gather(writer, reader, return_exceptions=True)
            if self._pipes.get(identity) is pipe:
                del self._pipes[identity]

    async def _receive(self, identity: NodeId, stream: Stream) -> None:
        while isinstance(data := await stream.read(), bytes):
            frame = parse_frame(data)
            if frame.refusal:
                raise SentAway(frame.refusal)
            if frame.HasField("bootstrap"):
                self._certificate(frame.bootstrap, frame.members)
            if frame.HasField("log_end"):
                self._reached[identity] = max(self._reached[identity], position(frame.log_end))
            if frame.envelopes:
                self._post(Received(identity, tuple(map(envelope_from_proto, frame.envelopes))))

    def _certificate(self, bootstrap: Bootstrap, members: Sequence[InitialMember]) -> None:
        """Taken by a node without a cluster, if it is the one it was started for and names it."""
        own = self._myself()
        is_ours = own.joining or bootstrap.initial_cluster_hash == own.initial_cluster_hash
        is_named = any(one.identity == own.identity for one in (*bootstrap.members, *members))
        if own.bootstrap is None and is_ours and is_named:
            flaw = flaw_in(bootstrap, PROTOCOLS)
            if flaw:
                raise MalformedFrame(f"no cluster can begin with this certificate: {flaw}")
            self._post(Bootstrapped(bootstrap))

    def _report_lost(self, identity: NodeId) -> None:
        if identity in self._reported and identity not in self._pipes:
            self._reported.discard(identity)
            self._post(PeerDisconnected(identity))


async def _tell_refusal(call: Dialled, refusal: str) -> None:
    """The other side should hear why, above all if it runs on an old copy of a data directory."""
    await call.write(PeerFrame(refusal=refusal).SerializeToString())
    await call.done_writing()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_read_to_the_end(call), REFUSAL_SECONDS_MAX)


async def _read_to_the_end(call: Stream) -> None:
    while isinstance(await call.read(), bytes):
        continue


def _reason(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
