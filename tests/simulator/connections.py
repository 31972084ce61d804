"""Streams between simulated nodes, and between nodes and clients: who speaks, who notices, who may.

Two processes that meet for the first time introduce themselves with the hellos of production and
judge each other with the same ``judge``; frames between processes that have not accepted each
other are dropped. Whom peers refuse stops when the production shell would: a fresh node at once, a
member when most of its cluster refuses it. What must never happen is a finding: a member that is
refused, and an old copy of a disk that is let in.

A broken or restored connection becomes an event at the nodes that it concerns, usually soon,
sometimes late, as the seed has it.

*Damaged bytes.* Under a stream lie TCP and HTTP/2, with TLS in earnest, whose checksums leave next
to nothing of a damage for us to see; a bug in a proxy may. What we can see are bytes that are no
frame: the real codec reads the damaged bytes here, and whatever they are, its answer has to be a
value or MalformedFrame. The second breaks the stream, as in production. The first is dropped: a
frame that parses and says something else than was sent is outside the fault model of a protocol
for crash faults.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from kvorum_proto import kv_pb2
from kvorum_server.events import Bootstrapped, Introduced, PeerConnected, PeerDisconnected
from kvorum_server.rpc.codec import MalformedFrame, decode_frame, encode_frame
from kvorum_server.rpc.handshake import NotExpected, Refused, Self, is_member, judge
from kvorum_server.storage.wal import Position
from kvorum_server.types import FEATURE_LEVEL
from tests.simulator.checkers import require
from tests.simulator.client import Asker, Frame
from tests.simulator.network import Network
from tests.simulator.node import Node
from tests.simulator.options import Options
from tests.simulator.scheduler import MILLISECOND, SECOND, Action, Scheduler
from tests.simulator.serving import ClientBytes
from tests.simulator.streams import StreamFrame
from tests.simulator.trace import Trace

CLIENT_ENDPOINTS = 100
"""Clients have the endpoints from here on, nodes those from 1 on."""

NOWHERE = Position(0, 0)

RETRY = 400 * MILLISECOND
"""Who was refused is not asked again for so long."""

REDIAL = 20 * MILLISECOND


@dataclass(frozen=True, slots=True)
class Introduction:
    """What came of the hellos of two processes; a refusal counts until it is time to try again."""

    lives: tuple[int, int]
    accepted: bool
    retry_at: int


@dataclass(slots=True)
class Connections:
    """All streams of a cluster. ``nodes`` and ``clients`` are the cluster's own lists."""

    options: Options
    scheduler: Scheduler
    network: Network[Frame]
    trace: Trace
    generator: random.Random
    nodes: Sequence[Node]
    clients: Sequence[Asker]
    count: Callable[[str], None]
    _noticed: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """Node and peer -> the life of each in which the node was last told that a stream stands."""
    _introduced: dict[tuple[int, int], Introduction] = field(default_factory=dict)

    def node(self, number: int) -> Node:
        """The node of an endpoint."""
        return self.nodes[number - 1]

    # --- Frames ---

    def deliver(self, source: int, target: int, frame: Frame) -> None:
        """A frame has reached its target."""
        if isinstance(frame, tuple) or (source < CLIENT_ENDPOINTS and target < CLIENT_ENDPOINTS):
            assert not isinstance(frame, StreamFrame), "nodes have no use for a client's streams"
            if self.may_hear(self.node(target), self.node(source)):
                self.node(target).receive(self.node(source).identity, frame)
            return
        self.trace.digest(frame.data if isinstance(frame, StreamFrame) else frame)
        self._deliver_bytes(source, target, frame)

    def _deliver_bytes(self, source: int, target: int, frame: ClientBytes) -> None:
        if target >= CLIENT_ENDPOINTS:
            self.clients[target - CLIENT_ENDPOINTS].receive(source, frame)
        else:
            self.node(target).receive_from_client(source, frame)

    def damaged(self, source: int, target: int, frame: Frame) -> None:
        """A frame has reached its target, and some of its bytes are not what was sent."""
        data = self._garble(_bytes_of(frame))
        try:
            if target >= CLIENT_ENDPOINTS:
                kv_pb2.ServerFrame.FromString(data)
            elif source >= CLIENT_ENDPOINTS:
                kv_pb2.ClientFrame.FromString(data)
            else:
                decode_frame(data)
        except (DecodeError, MalformedFrame):
            self.count("streams broken by damaged bytes")
            if isinstance(frame, StreamFrame):
                reset = StreamFrame(frame.stream, 0, 0, reset=True)
                self._deliver_bytes(source, target, reset)
                self._deliver_bytes(target, source, reset)
            else:
                self._break_stream(source, target)
        else:
            self.count("damaged frames dropped")

    def _garble(self, data: bytes) -> bytes:
        generator = self.generator
        if not data or generator.random() < 0.3:
            return data[: generator.randrange(len(data) + 1)]
        garbled = bytearray(data)
        for _ in range(generator.choice((1, 1, 3, 10))):
            garbled[generator.randrange(len(garbled))] ^= 1 << generator.randrange(8)
        return bytes(garbled)

    def _break_stream(self, one: int, other: int) -> None:
        self.network.break_stream(one, other)
        if max(one, other) >= CLIENT_ENDPOINTS:
            serving = self.node(min(one, other)).serving
            if serving is not None:
                serving.disconnect(max(one, other))
            return
        for node, peer in ((self.node(one), self.node(other)), (self.node(other), self.node(one))):
            if self.generator.random() < 0.5:
                # Nobody has dialled again in time: the break is reported first.
                if node.alive and self._noticed.get((node.number, peer.number), (0, 0))[1]:
                    node.put(PeerDisconnected(peer.identity))
                self._noticed.pop((node.number, peer.number), None)
            self.scheduler.after(self.generator.randrange(REDIAL), self._noticer(node, peer))

    # --- Introductions ---

    def may_hear(self, node: Node, source: Node) -> bool:
        """Whether frames that the source has sent are read by the node."""
        if not node.alive:
            return False
        if source.alive:
            return self.introduce(node, source)
        known = self._introduced.get(_pair(node, source))
        # The last frames of a process that has just ended.
        lives = (node.life, source.life - 1)
        if node.number > source.number:
            lives = lives[::-1]
        return known is not None and known.accepted and known.lives == lives

    def introduce(self, one: Node, other: Node) -> bool:
        """Whether two running processes accept each other; they are asked when they first meet."""
        if one.identity == other.identity:
            return False  # Two copies of one disk: neither knows the address of the other.
        pair = _pair(one, other)
        if one.number > other.number:
            one, other = other, one
        lives = (one.life, other.life)
        known = self._introduced.get(pair)
        if known is not None and known.lives != lives:
            known = None
        if known is not None and (known.accepted or self.scheduler.now < known.retry_at):
            return known.accepted
        # The one that dials is judged first, and judges only who has not refused it.
        refusals = [self._judge(other, one), self._judge(one, other)]
        stands = not any(refusals) and self._may_exchange(one, other)
        self._introduced[pair] = Introduction(lives, stands, self.scheduler.now + RETRY)
        if stands:
            for node, peer in ((one, other), (other, one)):
                self.scheduler.after(self.generator.randrange(REDIAL), self._noticer(node, peer))
        for node, peer, refusal in ((one, other, refusals[0]), (other, one, refusals[1])):
            if refusal is not None:
                self._send_away(node, peer, refusal)
            elif not any(refusals):
                require(not node.is_copy, f"{peer.name} lets an old copy of {node.name} in")
        return stands

    def _judge(self, node: Node, peer: Node) -> Refused | None:
        """Why the node will not speak with the peer, if it will not."""
        hello = hello_of(peer).hello()
        try:
            reached = node.reached.get(peer.identity, NOWHERE)
            judge(hello_of(node), hello, node.hellos.get(peer.identity), reached)
        except Refused as refusal:
            return refusal
        node.hellos[peer.identity] = hello
        node.reached[peer.identity] = max(reached, peer.log_end)
        return None

    def dial(self, node: Node) -> None:
        """The node says hello to all whom it may reach."""
        for peer in self.nodes:
            is_there = peer.alive and peer is not node and not peer.is_copy
            if node.alive and is_there and self.network.connected(node.number, peer.number):
                self.introduce(node, peer)

    def tell(self, node: Node, log_end: Position) -> None:
        """Peers with whom a stream stands hear how far the log of the node is durable."""
        for peer in self.nodes:
            if peer is node or not peer.alive or peer.paused or node.is_copy:
                continue
            if not node.alive:
                return  # Sent away.
            if self.network.connected(node.number, peer.number) and self.introduce(node, peer):
                known = peer.reached.get(node.identity, NOWHERE)
                peer.reached[node.identity] = max(known, log_end)

    def _may_exchange(self, one: Node, other: Node) -> bool:
        """More than hellos is for members: who is none yet is shown to the catalog, and who has
        become one gets the certificate.
        """
        stands = True
        for node, peer in ((one, other), (other, one)):
            own, hello = hello_of(node), hello_of(peer).hello()
            if own.bootstrap is None or not hello.fresh:
                continue
            if is_member(own, peer.identity):
                peer.put(Bootstrapped(own.bootstrap))
            else:
                stands = False
                node.put(Introduced(peer.identity, peer.name, peer.address, FEATURE_LEVEL))
        return stands

    def _send_away(self, node: Node, peer: Node, refusal: Refused) -> None:
        """The peer has refused the node. It may be time for it to give up."""
        if isinstance(refusal, NotExpected) or not node.alive or not peer.alive:
            return
        self.count("hellos refused")
        self.trace.note(node.name, f"refused by {peer.name}: {refusal}")
        knows = any(contact.identity == node.identity for contact in hello_of(peer).members)
        wrong = knows and not node.is_copy and peer.identity not in hello_of(node).removed
        require(not wrong, f"{peer.name} refuses the member {node.name}: {refusal}")
        assert node.host is not None
        is_fresh = node.host.bootstrap is None
        node.refused_by.add(peer.name)
        others = len(hello_of(node).members or node.world.bootstrap.members) - 1
        if is_fresh or len(node.refused_by) * 2 > others:
            node.crash(power_loss=False)
            node.lost = str(refusal)

    # --- What the nodes notice ---

    def links_changed(self) -> None:
        """A link or a machine changed: all concerned will notice, some of them late."""
        # A stream that broke begins with a hello again.
        for pair in [pair for pair in self._introduced if not self.network.connected(*pair)]:
            del self._introduced[pair]
        nodes = [node for node in self.nodes if not node.lost]
        for node in nodes:
            for peer in self.nodes:
                if node is not peer:
                    self.scheduler.after(self._notice_delay(), self._noticer(node, peer))
            for client in self.clients:
                if node.serving and not self.network.connected(node.number, client.endpoint):
                    node.serving.disconnect(client.endpoint)

    def _notice_delay(self) -> int:
        if self.generator.random() < self.options.silence:
            return self.generator.randrange(5 * SECOND)
        return self.generator.randrange(20 * MILLISECOND)

    def _noticer(self, node: Node, peer: Node) -> Action:
        return lambda: self.notice(node, peer)

    def notice(self, node: Node, peer: Node) -> None:
        """Tells a node what has become of its stream with a peer, if it does not know yet."""
        if not node.alive or node.paused:
            return
        pair = (node.number, peer.number)
        known_life, known_peer_life = self._noticed.get(pair, (0, 0))
        if known_life != node.life:
            known_peer_life = 0
        stands = peer.alive and self.network.connected(node.number, peer.number)
        stands = stands and self.introduce(node, peer)
        if not node.alive:
            return  # Sent away.
        peer_life = peer.life if stands else 0
        if known_peer_life and known_peer_life != peer_life:
            node.put(PeerDisconnected(peer.identity))
        if peer_life and known_peer_life != peer_life:
            node.put(PeerConnected(peer.identity))
        self._noticed[pair] = (node.life, peer_life)


def hello_of(node: Node) -> Self:
    """How a running process introduces itself to its peers."""
    assert node.host is not None
    assert node.recovered is not None
    catalog = node.host.directory.catalog
    roster = None if catalog is None else catalog.roster
    return Self(
        name=node.name,
        identity=node.identity,
        boot=node.host.boot,
        supported_level=FEATURE_LEVEL,
        initial_cluster_hash=b"",
        bootstrap=node.host.bootstrap if node.host.is_certified else None,
        process=node.process,
        log_end=node.log_end,
        recovered_end=node.recovered.end,
        address=node.address,
        joining=node.is_joining,
        members=node.host.directory.contacts(),
        expected=frozenset(roster.expected if roster else ()),
        removed=frozenset(roster.removed if roster else ()),
    )


def _bytes_of(frame: Frame) -> bytes:
    if isinstance(frame, StreamFrame):
        return frame.data
    return frame if isinstance(frame, bytes) else encode_frame(frame)


def _pair(one: Node, other: Node) -> tuple[int, int]:
    return min(one.number, other.number), max(one.number, other.number)
