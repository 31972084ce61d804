"""Streams between nodes over real gRPC; the Host behind each of them is a list of events."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

import grpc
import grpc.aio
import pytest

from kvorum_proto.cluster_pb2 import StatusResponse
from kvorum_proto.kv_pb2 import ServerHello
from kvorum_proto.peer_pb2 import Bootstrap, InitialMember, PeerFrame
from kvorum_server.config import Config
from kvorum_server.events import Bootstrapped, Event, PeerConnected, PeerDisconnected, Received
from kvorum_server.rpc.backup import Backups
from kvorum_server.rpc.codec import decode_frame
from kvorum_server.rpc.handshake import Self
from kvorum_server.rpc.peers import EXCHANGE, FRAME_BYTES_MAX, Peers, encode_packets
from kvorum_server.rpc.server import PortInUse, make_server
from kvorum_server.rpc.services import Services
from kvorum_server.types import (
    AppendRequest,
    Configuration,
    Contact,
    Entry,
    EntryKind,
    Envelope,
    HeartbeatRequest,
    SnapshotChunk,
    SnapshotMeta,
    TimeoutNow,
    VoteRequest,
)
from tests.integration.cluster import eventually, free_ports

HASH = b"h" * 16
PING = Envelope(1, 1, 2, TimeoutNow(7))


class Log:
    """Notes what an operator would read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, /, **details: str | int) -> None:
        self.lines.append(f"{event} {details['peer']}")

    def warning(self, event: str, /, **details: str | int) -> None:
        self.lines.append(f"{event} {details['peer']}: {details['reason']}")


class Node:
    """Peers and the server in front of them."""

    def __init__(self, name: str, identity: int, addresses: Mapping[str, str]) -> None:
        self.name = name
        self.log = Log()
        self.events: list[Event] = []
        self.sent_away: list[str] = []
        self.is_durable = True
        self.failures: list[BaseException] = []
        self.myself = Self(name, identity, 1, 1, HASH, None)
        self.founds: Callable[[Mapping[str, int]], Bootstrap | None] = lambda fresh: None
        self._addresses = addresses

    async def start(self) -> None:
        config = Config(name=self.name, listen=self._addresses[self.name])
        self.peers = Peers(
            config=config,
            contacts=self._contacts,
            myself=lambda: self.myself,
            post=self._post,
            found=lambda fresh: self.founds(fresh),
            sent_away=self.sent_away.append,
            fail=self.failures.append,
            log=self.log,
        )
        services = Services(
            config=config,
            post=self._post,
            overloaded=lambda: False,
            engine_is_behind=lambda: False,
            hello=ServerHello,
            status=StatusResponse,
            resolve=lambda name: None,
            leader_name=lambda group: "",
            fail=self.failures.append,
        )
        backups = Backups(
            config=config,
            header=lambda: None,
            view=lambda group: None,
            fail=self.failures.append,
        )
        self.server = await make_server(config, services, self.peers, backups)
        self.peers.refresh()

    def _contacts(self) -> list[Contact]:
        identities = {}
        if self.myself.bootstrap is not None:
            identities = {one.name: one.identity for one in self.myself.bootstrap.members}
        return [
            Contact(address, name, identities.get(name, 0))
            for name, address in self._addresses.items()
            if name != self.name
        ]

    def _post(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Bootstrapped) and self.is_durable:
            self.certify(event.bootstrap)

    def certify(self, bootstrap: Bootstrap) -> None:
        """The certificate is durable; the shell announces it."""
        self.myself = Self(self.name, self.myself.identity, self.myself.boot, 1, HASH, bootstrap)
        self.peers.announce()

    async def stop(self) -> None:
        await self.peers.close()
        await self.server.stop(0)

    def saw(self, event: Event) -> bool:
        return event in self.events


def certificate(*nodes: Node) -> Bootstrap:
    return Bootstrap(
        cluster_id=b"c",
        members=[InitialMember(identity=n.myself.identity, name=n.name) for n in nodes],
        initial_cluster_hash=HASH,
        partitions=1,
        replicas=len(nodes),
        protocol="raft",
    )


@contextlib.asynccontextmanager
async def network(*identities: int, bootstrapped: bool = True) -> AsyncIterator[list[Node]]:
    """Nodes n1, n2... with these identities, members of one cluster already or not."""
    ports = free_ports(len(identities))
    addresses = {f"n{number}": f"127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
    nodes = [
        Node(name, identity, addresses)
        for name, identity in zip(addresses, identities, strict=True)
    ]
    if bootstrapped:
        for node in nodes:
            myself = node.myself
            node.myself = Self(myself.name, myself.identity, 1, 1, HASH, certificate(*nodes))
    try:
        for node in nodes:
            await node.start()
        yield nodes
    finally:
        for node in nodes:
            await node.stop()


async def until(condition: Callable[[], bool], what: str) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds, what)


async def connected(first: Node, second: Node) -> None:
    await until(
        lambda: (
            first.saw(PeerConnected(second.myself.identity))
            and second.saw(PeerConnected(first.myself.identity))
        ),
        "both know of their stream",
    )


@pytest.mark.parametrize("identities", [(1, 2), (2, 1)])
def test_one_stream_carries_messages_both_ways_whoever_dials(identities: tuple[int, int]) -> None:
    async def story() -> None:
        async with network(*identities) as (first, second):
            await connected(first, second)
            first.peers.send(second.myself.identity, [PING])
            second.peers.send(first.myself.identity, [PING, PING])
            await until(
                lambda: (
                    second.saw(Received(first.myself.identity, (PING,)))
                    and first.saw(Received(second.myself.identity, (PING, PING)))
                ),
                "the messages arrived",
            )
            assert first.peers.connected() == {second.myself.identity}

    asyncio.run(story())


@pytest.mark.parametrize("identities", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_a_cluster_is_founded_once_and_everybody_learns_it(
    identities: tuple[int, int, int],
) -> None:
    async def story() -> None:
        async with network(*identities, bootstrapped=False) as nodes:
            founder = nodes[0]
            made: list[Bootstrap] = []

            def found(fresh: Mapping[str, int]) -> Bootstrap | None:
                if made or not {"n2", "n3"} <= set(fresh):
                    return None
                made.append(certificate(*nodes))
                return made[0]

            founder.founds = found
            await until(
                lambda: all(node.myself.bootstrap is not None for node in nodes),
                "all hold the certificate",
            )
            assert all(node.myself.bootstrap == made[0] for node in nodes)

    asyncio.run(story())


def test_a_certificate_that_is_not_durable_is_not_passed_on() -> None:
    async def story() -> None:
        async with network(1, 2, bootstrapped=False) as (founder, other):
            made = certificate(founder, other)
            founder.is_durable = False
            founder.founds = lambda fresh: made if "n2" in fresh else None
            await until(lambda: founder.saw(Bootstrapped(made)), "the cluster is founded")
            await connected(founder, other)
            founder.peers.send(2, [PING])
            await until(lambda: other.saw(Received(1, (PING,))), "the stream works")
            assert not other.saw(Bootstrapped(made))
            founder.certify(made)
            await until(lambda: other.saw(Bootstrapped(made)), "it is durable, so it is told")

    asyncio.run(story())


@pytest.mark.parametrize("identities", [(1, 2), (2, 1)])
def test_a_broken_stream_is_reported_and_a_new_one_too(identities: tuple[int, int]) -> None:
    async def story() -> None:
        async with network(*identities) as (first, second):
            await connected(first, second)
            await second.stop()
            lost = PeerDisconnected(second.myself.identity)
            await until(lambda: first.saw(lost), "the loss is reported")
            first.events.clear()
            await second.start()
            await until(
                lambda: first.saw(PeerConnected(second.myself.identity)), "the stream is back"
            )

    asyncio.run(story())


def test_an_unreachable_peer_is_told_once() -> None:
    async def story() -> None:
        async with network(1, 2) as (first, second):
            await connected(first, second)
            await second.stop()
            await until(
                lambda: any(line.startswith("peer unreachable n2") for line in first.log.lines),
                "it is told",
            )
            attempts = 0
            dial_once = first.peers._dial_once

            async def counted(contact: Contact) -> int:
                nonlocal attempts
                attempts += 1
                return await dial_once(contact)

            first.peers._dial_once = counted  # type: ignore[method-assign]
            await until(lambda: attempts >= 3, "three more attempts")
            unreachable = [line for line in first.log.lines if "unreachable" in line]
            assert len(unreachable) == 1
            await second.start()

    asyncio.run(story())


def test_a_fresh_node_that_is_refused_is_sent_away_with_the_reason() -> None:
    async def story() -> None:
        async with network(1, 2) as (member, lost):
            await connected(member, lost)
            await lost.stop()
            lost.myself = Self("n2", 99, 1, 1, HASH, None)
            await lost.start()
            await until(lambda: bool(lost.sent_away), "the emptied node is told")
            assert "`kvorum member replace n2`" in lost.sent_away[0]
            assert not member.sent_away

    asyncio.run(story())


def test_an_old_copy_that_comes_back_is_sent_away() -> None:
    """Its boot is the next one, so only what it had told of its log gives it away."""

    async def story() -> None:
        async with network(2, 1) as (copied, witness):
            await connected(copied, witness)
            copied.myself = dataclasses.replace(copied.myself, log_end=(4, 400))
            copied.peers.tell_log_end()
            await until(lambda: witness.peers._reached[2] == (4, 400), "it was told")
            await copied.stop()
            copied.myself = dataclasses.replace(copied.myself, boot=2, recovered_end=(3, 900))
            await copied.start()
            await until(
                lambda: any("n1 is an old copy" in line for line in witness.log.lines),
                "it is refused",
            )
            assert witness.events.count(PeerConnected(2)) == 1, "the copy is not let in"
            await until(lambda: bool(copied.sent_away), "it is told, though it does not dial")
            assert "n1 is an old copy" in copied.sent_away[0]

    asyncio.run(story())


def refusal_in(log: Log) -> bool:
    return any("belongs to cluster" in line for line in log.lines)


def test_who_waits_in_vain_to_be_dialled_asks_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes the other for a node with a smaller identity, which would have to dial."""
    monkeypatch.setattr("kvorum_server.rpc.peers.KNOCK_SECONDS", 0.02)

    async def story() -> None:
        async with network(5, 6, bootstrapped=False) as nodes:
            for node, believed in zip(nodes, ((5, 1), (2, 6)), strict=True):
                await node.stop()
                members = [
                    InitialMember(identity=identity, name=other.name)
                    for identity, other in zip(believed, nodes, strict=True)
                ]
                cluster = Bootstrap(cluster_id=node.name.encode(), members=members)
                node.myself = dataclasses.replace(node.myself, bootstrap=cluster)
            for node in nodes:
                await node.start()
            for node in nodes:
                await until(partial(refusal_in, node.log), f"{node.name} says why it has no stream")
                assert not node.peers.connected()

    asyncio.run(story())


@pytest.mark.parametrize(("identity", "sent_away"), [(2, ["you are an old copy"]), (3, [])])
def test_a_member_stops_when_most_members_refuse_it_and_not_for_a_stranger(
    identity: int, sent_away: list[str]
) -> None:
    """The second node is down; somebody speaks with its identity, or with an unknown one."""

    async def story() -> None:
        async with network(5, 2) as (node, other):
            await connected(node, other)
            await other.stop()
            await until(lambda: node.saw(PeerDisconnected(2)), "its stream has ended")
            node.events.clear()
            speaker = dataclasses.replace(other.myself, identity=identity, boot=2)
            async with grpc.aio.insecure_channel(node._addresses["n1"]) as channel:
                call = channel.stream_stream(EXCHANGE, None, None)(None)
                await call.write(PeerFrame(hello=speaker.hello()).SerializeToString())
                await call.read()
                refusal = PeerFrame(refusal="you are an old copy")
                await call.write(refusal.SerializeToString())
                await until(lambda: node.saw(PeerDisconnected(identity)), "the stream has ended")
            assert node.sent_away == sent_away
            await other.start()

    asyncio.run(story())


def test_the_older_of_two_processes_with_one_identity_stops() -> None:
    async def story() -> None:
        async with network(1, 2) as (original, witness):
            await connected(original, witness)
            await original.stop()
            original.myself = Self("n1", 1, 9, 1, HASH, original.myself.bootstrap)
            await original.start()
            await until(lambda: witness.peers._hellos[1].boot == 9, "the newer process was seen")
            await original.stop()
            original.myself = Self("n1", 1, 8, 1, HASH, original.myself.bootstrap)
            await original.start()
            await until(lambda: bool(original.sent_away), "the older one is told")
            assert "another process runs with the identity of n1" in original.sent_away[0]
            assert not witness.sent_away

    asyncio.run(story())


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"",
        PeerFrame().SerializeToString(),
        PeerFrame(bootstrap=Bootstrap()).SerializeToString(),
    ],
)
def test_a_stream_that_does_not_begin_with_a_hello_is_ended(data: bytes) -> None:
    async def story() -> grpc.StatusCode:
        async with (
            network(1, 2) as (node, _),
            grpc.aio.insecure_channel(node._addresses["n1"]) as channel,
        ):
            call = channel.stream_stream(EXCHANGE, None, None)(None)
            await call.write(data)
            code: grpc.StatusCode = await call.code()
            return code

    assert asyncio.run(story()) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_malformed_frame_ends_its_stream_and_the_node_goes_on() -> None:
    async def story() -> None:
        async with network(1, 2) as (first, second):
            await connected(first, second)
            second.events.clear()
            first.peers._pipes[2].put(b"\xff", 1)
            await until(lambda: second.saw(PeerConnected(1)), "the pair found each other again")
            assert any("malformed peer frame" in line for line in second.log.lines)

    asyncio.run(story())


def test_a_port_in_use_is_one_line() -> None:
    async def story() -> None:
        async with network(1, 2) as (first, _):
            config = Config(listen=first._addresses["n1"])
            with pytest.raises(PortInUse, match=r"cannot listen on 127.0.0.1:.*--listen"):
                await make_server(config, Services, Peers, Backups)  # type: ignore[arg-type]

    asyncio.run(story())


def test_votes_and_heartbeats_go_first_and_frames_stay_small() -> None:
    payload = b"x" * (FRAME_BYTES_MAX // 2)
    entry = Entry(1, 1, EntryKind.COMMANDS, 0, 1, payload)
    append = Envelope(1, 1, 2, AppendRequest(1, 0, 0, (entry,), 0))
    meta = SnapshotMeta(1, 1, 0, Configuration.initial((1,)))
    chunk = Envelope(1, 1, 2, SnapshotChunk(1, 1, 0, meta, ((b"k", payload),), 0, last=True))
    vote = Envelope(1, 1, 2, VoteRequest(2, 0, 0))
    beat = Envelope(2, 1, 2, HeartbeatRequest(2, 0))
    frames = encode_packets([[append, chunk], b"encoded", [append, vote], [append, beat]])
    assert frames[0] == b"encoded"
    envelopes = [envelope for frame in frames[1:] for envelope in decode_frame(frame)]
    assert envelopes[:2] == [vote, beat]
    assert envelopes[2:] == [append, chunk, append, append]
    assert all(len(frame) < 2 * FRAME_BYTES_MAX for frame in frames)
