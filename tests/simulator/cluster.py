"""The machines, the network and the clients of one run, under the eyes of the checkers.

The set of nodes changes. A machine whose disk was emptied, or exchanged for an old copy, runs
another node from then on; what it was before is ``lost`` and stays in the list, because what it
promised stays promised. A node may be lost, or *spoiled* by damage that has not shown yet, only as
long as the others are a quorum without it: nobody promises more.
"""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b

from kvorum_proto import peer_pb2
from kvorum_server.config import Config
from kvorum_server.consensus.quorum import has_quorum
from kvorum_server.events import Effects
from kvorum_server.placement.bootstrap import make_bootstrap
from kvorum_server.placement.roster import Roster
from kvorum_server.state_hash import shared_rows
from kvorum_server.storage.errors import DiskFailure, EngineDamage, NoRoom, StorageError
from kvorum_server.storage.rows import Table, escape, table_prefix
from kvorum_server.storage.wal import Position
from kvorum_server.types import Configuration, GroupId, NodeId
from tests.simulator.checkers import Checkers, require
from tests.simulator.client import Asker, Client, Frame, Surroundings
from tests.simulator.connections import CLIENT_ENDPOINTS, Connections
from tests.simulator.limits import check_limits
from tests.simulator.linearizability import Call
from tests.simulator.network import Network
from tests.simulator.node import Node
from tests.simulator.options import Options
from tests.simulator.scheduler import Scheduler
from tests.simulator.sdk_client import SdkClient
from tests.simulator.trace import Trace
from tests.simulator.workload import Workload
from tests.simulator.world import World

GROUPS = 2
"""The catalog and one partition."""

ROWS_EVERY = 5
"""Rows are compared at every so many applied indexes."""

INVARIANTS_EVERY = 8
"""Hosts check their own invariants every so many turns."""

GHOST = b"\xff ghost"
"""A key that no client knows."""

LIMITS_EVERY = 4
"""Queues are measured every so many turns."""


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
        self.faults: Counter[str] = Counter()
        """How often each fault has struck."""
        self.on_end: Callable[[Node], None] = lambda node: None
        """Told of a process that ended by itself and may be started again."""
        self.on_members: Callable[[], None] = lambda: None
        """Told when a node has become a member, or has learned that it is none any more."""
        self.leaving: set[NodeId] = set()
        """Whom the operator has told to leave: they may do so at any moment from then on."""
        self.coming: set[NodeId] = set()
        """Whom it has told to become voters, likewise."""
        self._configurations: dict[tuple[int, GroupId], Configuration] = {}
        """What each node takes for the members of a group, as far as we have seen."""
        self._compared: dict[tuple[int, GroupId], tuple[int, int]] = {}
        self._generator = random.Random(f"{seed} cluster")
        self.nodes: list[Node] = []
        self.clients: list[Asker] = []
        self.network: Network[Frame] = Network(
            scheduler,
            random.Random(f"{seed} network"),
            lambda source, target, frame: self.connections.deliver(source, target, frame),
            delay_min=options.delay_min,
            delay_mean=options.delay_mean,
            loss=options.loss,
            duplication=options.duplication,
            reordering=options.reordering,
            corruption=options.corruption,
            damaged=lambda source, target, frame: self.connections.damaged(source, target, frame),
        )
        self.connections = Connections(
            options,
            scheduler,
            self.network,
            trace,
            random.Random(f"{seed} connections"),
            self.nodes,
            self.clients,
            self.count,
        )
        identities = [self._generator.getrandbits(63) | 1 for _ in range(options.nodes)]
        self.bootstrap = _bootstrap(identities, options.config)
        self._world = World(
            options, scheduler, self.network, trace, self, self.bootstrap, seed, count=self.count
        )
        for member in self.bootstrap.members:
            self.add_node(member.name, member.identity)
        self.clients += self._make_clients(seed)

    def links_changed(self) -> None:
        """A link or a machine changed: all concerned will notice, some of them late."""
        self.connections.links_changed()

    def count(self, fault: str) -> None:
        """A fault has struck."""
        self.faults[fault] += 1

    # --- Nodes come and go ---

    def add_node(self, name: str, identity: int, *, is_copy: bool = False) -> Node:
        """A machine of this name with an empty disk; nothing runs yet."""
        node = Node(len(self.nodes) + 1, name, identity, self._world)
        node.is_copy = is_copy
        self.nodes.append(node)
        if not is_copy:
            self._world.numbers[identity] = node.number
            self._world.endpoints[node.address] = node.number
        return node

    def end_copies(self) -> None:
        """The operator has noticed: no process runs on an old copy of a disk any more."""
        for node in self.machines:
            if node.is_copy:
                if node.alive:
                    node.crash(power_loss=False)
                node.lost = "an old copy of a disk"

    def new_identity(self) -> int:
        """What an empty disk begins with."""
        return self._generator.getrandbits(63) | 1

    def point_addresses_at(self, nodes: Sequence[Node], others: Sequence[Node]) -> None:
        """Lets every address lead to its own node if it is among these, else to one of the others.

        A client may have been told the address of a single machine. If that one is gone, nothing
        that it does helps, and somebody has to give the name to another machine.
        """
        spare = itertools.cycle(others)
        own = {node.address: node for node in nodes}
        for address, number in list(self._world.endpoints.items()):
            present = self.nodes[number - 1]
            node = own.get(address) or (present if present in others else next(spare))
            if node is not present:
                self._world.endpoints[address] = node.number
                if present.serving is not None:
                    present.serving.hang_up()

    def node_of(self, identity: NodeId) -> Node:
        """The node that an identity is or was."""
        return self.nodes[self._world.numbers[identity] - 1]

    @property
    def machines(self) -> list[Node]:
        """All nodes but those that will never run again."""
        return [node for node in self.nodes if not node.lost]

    @property
    def members(self) -> list[Node]:
        """The nodes that the groups consist of, lost ones not counted."""
        machines = (node for node in self.machines if not node.is_copy)
        return [
            node
            for node in machines
            if (node.has_joined or node.is_initial) and not node.was_removed
        ]

    def suffices(self, nodes: Iterable[Node]) -> bool:
        """Whether these nodes are a quorum in every configuration that a member goes by."""
        identities = {node.identity for node in nodes}
        configurations = {
            (group, configuration)
            for (number, group), configuration in self._configurations.items()
            if configuration.voters and not self.nodes[number - 1].lost
        }
        groups = {group for group, _ in configurations}
        return (
            len(groups) == GROUPS
            and all(
                has_quorum(
                    configuration,
                    {one.replica for one in configuration.members if one.identity in identities},
                )
                for _, configuration in configurations
            )
            and all(
                2 * len(voters & identities) > len(voters)
                for voters in self._wanted({one for _, one in configurations})
                if voters
            )
        )

    def _wanted(self, configurations: Iterable[Configuration]) -> Iterator[set[NodeId]]:
        """Who may vote at any moment: as the catalog wants it, and when they have come and left
        whom the operator has told to.
        """
        coming = {identity for identity in self.coming if not self.node_of(identity).lost}
        roster = self.roster()
        placements = {} if roster is None else roster.placements
        for placement in placements.values():
            voters = {seat.identity for seat in placement.seats if seat.voter}
            yield voters
            yield voters - self.leaving
            yield voters | coming
        for configuration in configurations:
            voters = {
                one.identity for one in configuration.members if one.replica in configuration.voters
            }
            yield voters - self.leaving

    def roster(self) -> Roster | None:
        """The tables of the catalog as its most advanced replica has them."""
        catalogs = [
            node.host.directory.catalog
            for node in self.members
            if node.host is not None and node.host.directory.catalog is not None
        ]
        newest = max(catalogs, key=lambda one: one.status().applied_index, default=None)
        return None if newest is None else newest.roster

    def bears_the_loss_of(self, victim: Node) -> bool:
        """Whether the sound members could do without one of them."""
        return self.suffices(
            node for node in self.members if node is not victim and not node.is_spoiled
        )

    def may_leave(self, identity: NodeId) -> bool:
        """Notes that a member is told to leave, if the sound ones are a quorum without it."""
        return self._may(self.leaving, identity)

    def may_vote(self, identity: NodeId) -> bool:
        """Notes that a learner is told to vote, if the sound ones are a quorum with it."""
        return self._may(self.coming, identity)

    def _may(self, told: set[NodeId], identity: NodeId) -> bool:
        if identity in told:
            return True
        told.add(identity)
        stands = self.suffices(node for node in self.members if not node.is_spoiled)
        if not stands:
            told.discard(identity)
        return stands

    def _make_clients(self, seed: int) -> list[Asker]:
        """At least half of them are the product's own library."""
        workload = Workload(self.options, random.Random(f"{seed} workload"))
        around = Surroundings(
            options=self.options,
            scheduler=self.scheduler,
            network=self.network,
            nodes=self._world.endpoints,
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
        self.connections.links_changed()
        for client in self.clients:
            client.start()

    # --- What the nodes report ---

    def started(self, node: Node) -> None:
        """See ``Observer``."""
        assert node.recovered is not None
        assert node.host is not None
        self._compared = {at: place for at, place in self._compared.items() if at[0] != node.number}
        for group, replica in node.host.replicas.items():
            # What it had not synced is lost, and may have been a configuration.
            self._configurations[node.number, group] = replica.consensus.configuration
        if not node.is_copy:
            self.checkers.started(node.name, node.recovered)

    def turned(self, node: Node, effects: Effects) -> None:
        """See ``Observer``."""
        self.turns += 1
        if node.is_copy:
            return
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
        if node.host.is_certified and not node.has_joined:
            node.has_joined = True
            self.on_members()
        for group, replica in node.host.replicas.items():
            if self.turns % LIMITS_EVERY == 0:
                check_limits(node.name, replica, node.host.config)
            status = replica.consensus.status()
            self._configurations[node.number, group] = status.configuration
            if replica.consensus.rebuilding:
                self.rotten.discard((node.number, group))
                # Another state takes its place, one that may be older than what was applied.
                self.checkers.nodes[node.identity].seen.pop(group, None)
                continue
            machine = replica.machine.status()
            self.checkers.looked(node.identity, group, status, machine)
            place = (replica.space, machine.applied_index)
            is_due = machine.applied_index and machine.applied_index % ROWS_EVERY == 0
            if is_due and self._compared.get((node.number, group)) != place:
                self._compared[node.number, group] = place
                self.compare_rows(node, group)

    def compare_rows(self, node: Node, group: GroupId) -> None:
        """Compares the rows that replicas share with those of others at the same applied index."""
        replica = None if node.host is None else node.host.replicas.get(group)
        if replica is None or replica.consensus.rebuilding or node.engine.is_rotten:
            return
        if (node.number, group) in self.rotten:
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
        if not node.is_copy:
            self.checkers.synced(node.identity, writes)

    def knocked(self, node: Node) -> None:
        """See ``Observer``."""
        self.connections.dial(node)

    def told(self, node: Node, log_end: Position) -> None:
        """See ``Observer``."""
        self.connections.tell(node, log_end)

    def removed(self, node: Node) -> None:
        """See ``Observer``: the process ends; somebody may well start it again, once."""
        self.count("removed node ends")
        node.crash(power_loss=False)
        self.connections.links_changed()
        if node.was_removed:
            node.lost = "removed from the cluster"
        else:
            node.was_removed = True
            self.on_members()
            self.on_end(node)

    def ended(self, node: Node, error: StorageError | None) -> None:
        """See ``Observer``: a damaged log ends a node for good, all else its process only."""
        if error is not None and not isinstance(error, DiskFailure | NoRoom | EngineDamage):
            require(node.is_spoiled, f"{node.name} finds damage that nobody has done: {error}")
            self.count(f"{type(error).__name__} ends a node")
            node.lost = str(error)
        self.connections.links_changed()
        if not node.lost:
            self.on_end(node)

    # --- Rest ---

    def converged(self, nodes: Sequence[Node] | None = None) -> str:
        """Empty when all of these nodes (None: all members) that a group names have applied the
        same; else what is missing.
        """
        nodes = self.members if nodes is None else nodes
        for group in range(GROUPS):
            configuration = self.newest_configuration(group, nodes)
            if configuration is None:
                return f"nobody has a replica of group {group}"
            if configuration.is_joint:
                return f"group {group} is on its way from one configuration to another"
            applied = set()
            for node in nodes:
                if not configuration.replica_of(node.identity):
                    continue
                replica = None if node.host is None else node.host.replicas.get(group)
                if replica is None or replica.consensus.rebuilding:
                    return f"{node.name} has no whole replica of group {group}"
                applied.add(replica.machine.status().applied_index)
            if len(applied) > 1:
                return f"group {group} is applied up to {sorted(applied)}"
        return ""

    def newest_configuration(self, group: GroupId, nodes: Iterable[Node]) -> Configuration | None:
        """The members of a group, as the replica of these nodes has them that applied most."""
        replicas = [node.host.replicas[group] for node in nodes if node.holds(group) and node.host]
        newest = max(replicas, key=lambda one: one.applied_configuration_index, default=None)
        return None if newest is None else newest.applied_configuration

    def holders(self, group: GroupId) -> list[Node]:
        """The nodes with a replica of a group that the group knows of."""
        configuration = self.newest_configuration(group, self.members)
        return [
            node
            for node in self.members
            if node.holds(group) and configuration and configuration.replica_of(node.identity)
        ]


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
