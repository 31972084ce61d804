"""The machines, the network and the clients of one run, under the eyes of the checkers.

The cluster wires things together and notices: a broken or restored connection becomes an event at
the nodes that it concerns, usually soon, sometimes late, as the seed has it.
"""

import random
from hashlib import blake2b

from kvorum_proto import peer_pb2
from kvorum_server.config import Config
from kvorum_server.events import Effects, PeerConnected, PeerDisconnected
from kvorum_server.placement.bootstrap import make_bootstrap
from kvorum_server.state_hash import shared_rows
from kvorum_server.storage.rows import Table, escape, table_prefix
from kvorum_server.types import GroupId
from tests.simulator.checkers import Checkers, require
from tests.simulator.client import Asker, Client, Frame, Surroundings
from tests.simulator.limits import check_limits
from tests.simulator.linearizability import Call
from tests.simulator.network import Network
from tests.simulator.node import Node, World
from tests.simulator.options import Options
from tests.simulator.scheduler import MILLISECOND, SECOND, Action, Scheduler
from tests.simulator.sdk_client import SdkClient
from tests.simulator.streams import StreamFrame
from tests.simulator.trace import Trace
from tests.simulator.workload import Workload

CLIENT_ENDPOINTS = 100
"""Clients have the endpoints from here on, nodes those from 1 on."""

ROWS_EVERY = 5
"""Rows are compared at every so many applied indexes."""

GHOST = b"\xff ghost"
"""A key that no client knows."""

LIMITS_EVERY = 4
"""Queues are measured every so many turns."""

INVARIANTS_EVERY = 8
"""Hosts check their own invariants every so many turns."""


class Cluster:
    """Everything of one run but its faults."""

    def __init__(self, seed: int, options: Options, scheduler: Scheduler, trace: Trace) -> None:
        self.options = options
        self.scheduler = scheduler
        self.trace = trace
        self.checkers = Checkers()
        self.history: list[Call] = []
        self.turns = 0
        self.rotten: set[tuple[int, GroupId]] = set()
        """Nodes and groups whose rows a fault has changed; until they were rebuilt, nobody judges
        them."""
        self.harmed: set[GroupId] = set()
        """Groups that such a fault has met once."""
        self._generator = random.Random(f"{seed} cluster")
        self.network: Network[Frame] = Network(
            scheduler,
            random.Random(f"{seed} network"),
            self._deliver,
            delay_min=options.delay_min,
            delay_mean=options.delay_mean,
            loss=options.loss,
            duplication=options.duplication,
            reordering=options.reordering,
        )
        identities = [self._generator.getrandbits(63) | 1 for _ in range(options.nodes)]
        self.bootstrap = _bootstrap(identities, options.config)
        numbers = {identity: number for number, identity in enumerate(identities, 1)}
        world = World(options, scheduler, self.network, trace, self, self.bootstrap, numbers)
        self.nodes = [Node(number, identity, seed, world) for identity, number in numbers.items()]
        self.clients = self._make_clients(seed)
        self._streams: dict[tuple[int, int], tuple[int, int]] = {}

    def _make_clients(self, seed: int) -> list[Asker]:
        """At least half of them are the product's own library."""
        addresses = {member.address: n for n, member in enumerate(self.bootstrap.members, 1)}
        workload = Workload(self.options, random.Random(f"{seed} workload"))
        around = Surroundings(
            options=self.options,
            scheduler=self.scheduler,
            network=self.network,
            nodes=addresses,
            workload=workload,
            history=self.history,
            trace=self.trace,
        )
        clients: list[Asker] = []
        hostile = self._generator.randrange(self.options.clients // 2 + 1)
        for number in range(self.options.clients):
            make = Client if number < hostile else SdkClient
            clients.append(
                make(
                    endpoint=CLIENT_ENDPOINTS + number,
                    around=around,
                    generator=random.Random(f"{seed} client {number}"),
                    reads=1.0 if number % 3 == 1 else self.options.reads,
                    budget=self.options.operations_max // self.options.clients,
                )
            )
        return clients

    def start(self) -> None:
        """Starts all machines and clients."""
        for node in self.nodes:
            node.start()
        self.links_changed()
        for client in self.clients:
            client.start()

    def node(self, number: int) -> Node:
        """The node of an endpoint."""
        return self.nodes[number - 1]

    def _deliver(self, source: int, target: int, frame: Frame) -> None:
        if isinstance(frame, tuple) or (source < CLIENT_ENDPOINTS and target < CLIENT_ENDPOINTS):
            assert not isinstance(frame, StreamFrame), "nodes have no use for a client's streams"
            self.node(target).receive(self.node(source).identity, frame)
            return
        self.trace.digest(frame.data if isinstance(frame, StreamFrame) else frame)
        if target >= CLIENT_ENDPOINTS:
            self.clients[target - CLIENT_ENDPOINTS].receive(source, frame)
        else:
            self.node(target).receive_from_client(source, frame)

    # --- Connections ---

    def links_changed(self) -> None:
        """A link or a machine changed: all concerned will notice, some of them late."""
        for node in self.nodes:
            for peer in self.nodes:
                if node is not peer:
                    self.scheduler.after(self._notice_delay(), self._noticer(node, peer))
            for client in self.clients:
                if not self.network.connected(node.number, client.endpoint):
                    node.disconnect_client(client.endpoint)

    def _notice_delay(self) -> int:
        if self._generator.random() < self.options.silence:
            return self._generator.randrange(5 * SECOND)
        return self._generator.randrange(20 * MILLISECOND)

    def _noticer(self, node: Node, peer: Node) -> Action:
        return lambda: self.notice(node, peer)

    def notice(self, node: Node, peer: Node) -> None:
        """Tells a node what has become of its stream with a peer, if it does not know yet."""
        if not node.alive or node.paused:
            return
        pair = (node.number, peer.number)
        known_life, known_peer_life = self._streams.get(pair, (0, 0))
        if known_life != node.life:
            known_peer_life = 0
        stands = peer.alive and self.network.connected(node.number, peer.number)
        peer_life = peer.life if stands else 0
        if known_peer_life and known_peer_life != peer_life:
            node.put(PeerDisconnected(peer.identity))
        if peer_life and known_peer_life != peer_life:
            node.put(PeerConnected(peer.identity))
        self._streams[pair] = (node.life, peer_life)

    # --- What the nodes report ---

    def started(self, node: Node) -> None:
        """See ``Observer``."""
        assert node.recovered is not None
        self.checkers.started(node.name, node.recovered)

    def turned(self, node: Node, effects: Effects) -> None:
        """See ``Observer``."""
        self.turns += 1
        assert node.host is not None
        if effects.append is not None:
            self.checkers.appended(node.identity, effects.append.records)
        for envelopes in effects.messages.values():
            for envelope in envelopes:
                self.checkers.promised(node.identity, envelope)
        if self.turns % INVARIANTS_EVERY == 0:
            node.host.check_invariants()
        for transition in effects.transitions:
            # The product compares states, too, and may only find what a fault has put there.
            if transition.name in ("states differ", "state lost"):
                known = transition.group in self.harmed
                require(known, f"{node.name}: {transition.name} {transition.details}")
        for group, replica in node.host.replicas.items():
            if self.turns % LIMITS_EVERY == 0:
                check_limits(node.name, replica, node.host.config)
            status = replica.consensus.status()
            if replica.consensus.rebuilding:
                self.rotten.discard((node.number, group))
                self.checkers.looked(node.identity, group, status, None)
                continue
            machine = replica.machine.status()
            self.checkers.looked(node.identity, group, status, machine)
            if machine.applied_index and machine.applied_index % ROWS_EVERY == 0:
                self.compare_rows(node, group)

    def compare_rows(self, node: Node, group: GroupId) -> None:
        """Compares the rows that replicas share with those of others at the same applied index."""
        assert node.host is not None
        replica = node.host.replicas[group]
        if (node.number, group) in self.rotten or replica.consensus.rebuilding:
            return
        digest = blake2b(digest_size=8)
        for key, value in shared_rows(node.engine, replica.space):
            digest.update(b"%d %d " % (len(key), len(value)) + key + value)
        applied = replica.machine.status().applied_index
        self.checkers.check_rows(node.identity, group, applied, digest.digest())

    def rot(self, node: Node, group: GroupId) -> None:
        """A row that nobody wrote appears among the present ones of a replica."""
        assert node.host is not None
        self.trace.note(node.name, f"group {group}: a row has changed by itself")
        start = table_prefix(node.host.replicas[group].space, Table.CURRENT)
        node.engine.write({start + escape(GHOST): b"rot"})
        self.rotten.add((node.number, group))
        self.harmed.add(group)

    def synced(self, node: Node, writes: int) -> None:
        """See ``Observer``."""
        self.checkers.synced(node.identity, writes)

    # --- Rest ---

    def converged(self) -> str:
        """Empty when all replicas of all groups have applied the same; else what is missing."""
        groups = range(2)
        for group in groups:
            applied = set()
            for node in self.nodes:
                if node.host is None or group not in node.host.replicas:
                    return f"{node.name} has no replica of group {group}"
                applied.add(node.host.replicas[group].machine.status().applied_index)
            if len(applied) > 1:
                return f"group {group} is applied up to {sorted(applied)}"
        return ""


def _bootstrap(identities: list[int], config: Config) -> peer_pb2.Bootstrap:
    names = [f"n{number}" for number, _ in enumerate(identities, 1)]
    return make_bootstrap(
        cluster_id=b"simulated",
        members=tuple((name, f"{name}:7400") for name in names),
        identities=dict(zip(names, identities, strict=True)),
        partitions=1,
        replicas=len(identities),
        protocol=config.consensus,
        initial_cluster_hash=b"",
        settings=config,
    )
