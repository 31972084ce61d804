"""Hosts without a shell of their own: the test is the shell, and decides what happens when.

A :class:`Machine` has a simulated disk and engine and does nothing by itself: writes wait until
``sync``, flushes until ``flush``, messages until somebody delivers them. :class:`Trio` is three of
them in one cluster, with a network that the test holds in its hands.
"""

from collections.abc import Callable, Sequence
from random import Random

from kvorum_proto import command_pb2 as wire
from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.config import Config
from kvorum_server.events import (
    Appended,
    Asked,
    Bootstrapped,
    Effects,
    Event,
    Flushed,
    PeerConnected,
    Proposed,
    Received,
    Ticked,
    Transition,
    Write,
)
from kvorum_server.host import Host
from kvorum_server.lost_state import without_states
from kvorum_server.placement.bootstrap import make_bootstrap
from kvorum_server.replica import Replica
from kvorum_server.storage.record import Record
from kvorum_server.storage.wal import WriteAheadLog
from kvorum_server.types import Envelope, GroupId, NodeId
from tests.simulator.disk import SimulatedDisk
from tests.simulator.engine import SimulatedEngine

GROUP = 1
CLIENT = 7
PLENTY = 1 << 40
CONFIG = Config(segment_bytes=64 * 1024, checkpoint_entries=1 << 30)


def certificate(identities: Sequence[NodeId], config: Config = CONFIG) -> Bootstrap:
    """A cluster of nodes n1, n2... with these identities; one partition, a replica on each."""
    names = [f"n{number}" for number, _ in enumerate(identities, 1)]
    return make_bootstrap(
        cluster_id=b"c" * 16,
        members=tuple((name, f"{name}:7400") for name in names),
        identities=dict(zip(names, identities, strict=True)),
        partitions=1,
        replicas=len(identities),
        protocol="raft",
        initial_cluster_hash=b"h" * 16,
        settings=config,
    )


def put(key: bytes, value: bytes = b"v") -> wire.Submission:
    return wire.Submission(put=wire.Put(key=key, value=value))


def delete(key: bytes) -> wire.Submission:
    return wire.Submission(delete=wire.Delete(key=key))


def get(key: bytes, *, stale: bool = False, staleness_ms_max: int = 0) -> wire.Query:
    return wire.Query(
        get=wire.Get(key=key),
        consistency=wire.Query.STALE if stale else wire.Query.LINEARIZABLE,
        staleness_ms_max=staleness_ms_max,
    )


def encoded(*submissions: wire.Submission) -> bytes:
    return wire.CommandBatch(submissions=submissions).SerializeToString()


class Machine:
    """One node. ``free_bytes`` is what its next tick reports."""

    def __init__(self, identity: NodeId, config: Config = CONFIG) -> None:
        self.identity = identity
        self.config = config
        self.disk = SimulatedDisk(Random(1))
        self.engine = SimulatedEngine(Random(1))
        self.now = 1000
        self.free_bytes = PLENTY
        self.last_request = 0
        self.state_lost = False
        self.start()

    def start_without_state(self) -> None:
        """A process starts on what the disk holds; the rows are known to be lost."""
        self.state_lost = True
        self.start()
        self.state_lost = False

    def start(self) -> None:
        """A process starts on what the disk and the engine hold."""
        self.wal, self.recovered = WriteAheadLog.open(
            self.disk, segment_bytes=self.config.segment_bytes, new_identity=lambda: self.identity
        )
        self.host = Host(
            config=self.config,
            engine=self.engine,
            recovered=without_states(self.recovered) if self.state_lost else self.recovered,
            randomness=Random(self.identity),
        )
        self.writes: list[Write] = []
        self.flushes: list[tuple[int, int]] = []
        self.sent: list[tuple[NodeId, Envelope]] = []
        self.answers: dict[int, wire.Result] = {}
        self.transitions: list[Transition] = []
        self.log_records: list[Record] = []

    def crash(self) -> None:
        """The power fails; what was not synced and flushed may be gone."""
        self.disk.crash()
        self.engine.crash()

    # --- Turns ---

    def turn(self, *events: Event) -> Effects:
        """One turn; its effects wait for the test."""
        effects = self.turn_host(events)
        for target, envelopes in effects.messages.items():
            self.sent.extend((target, envelope) for envelope in envelopes)
        if effects.append is not None:
            self.writes.append(effects.append)
        if effects.flush is not None:
            self.flushes.append((effects.flush, self.engine.start_flush()))
        for reply in effects.replies:
            results = map(wire.Result.FromString, reply.results)
            self.answers.update(zip(reply.ids, results, strict=True))
        self.transitions += effects.transitions
        self.host.check_invariants()
        return effects

    def turn_host(self, events: Sequence[Event]) -> Effects:
        """The turn itself, and nothing around it."""
        return self.host.turn(self.now, events)

    def sync(self) -> Effects:
        """The writes that wait become durable, in one sync."""
        assert self.writes
        writes, self.writes = self.writes, []
        for write in writes:
            self.log_records += write.records
            self.wal.append(write.records)
        self.wal.sync()
        return self.turn(Appended(writes[-1].number))

    def flush(self) -> Effects:
        """The oldest flush under way is done."""
        number, reach = self.flushes.pop(0)
        self.engine.finish_flush(reach)
        return self.turn(Flushed(number))

    def settle(self) -> None:
        """Syncs, flushes and takes turns until this node has nothing left to do by itself."""
        again = False
        while self.writes or self.flushes or again:
            if self.writes:
                again = self.sync().again
            elif self.flushes:
                again = self.flush().again
            else:
                again = self.turn().again

    def tick(self, count: int = 1) -> None:
        """So many ticks, a turn each; everything local is done in between."""
        for _ in range(count):
            self.now += self.config.tick_ms
            again = self.turn(Ticked(self.free_bytes)).again
            if again:
                self.turn()
            self.settle()

    # --- Requests ---

    def request(self, count: int = 1) -> tuple[int, ...]:
        """Fresh ids of so many requests."""
        first = self.last_request + 1
        self.last_request += count
        return tuple(range(first, self.last_request + 1))

    def propose(self, *submissions: wire.Submission, connection: int = CLIENT) -> tuple[int, ...]:
        """Commands of a client in a turn of their own; their ids."""
        ids = self.request(len(submissions))
        self.turn(Proposed(connection, GROUP, ids, encoded(*submissions)))
        return ids

    def ask(self, *queries: wire.Query, connection: int = CLIENT) -> tuple[int, ...]:
        """Queries of a client in a turn of their own; their ids."""
        ids = self.request(len(queries))
        self.turn(Asked(connection, GROUP, ids, queries))
        return ids

    def error(self, request: int) -> wire.Error:
        """Why a request was refused."""
        result = self.answers[request]
        assert result.HasField("error"), result
        return result.error

    # --- Looking ---

    @property
    def replica(self) -> Replica:
        """The replica of the partition."""
        return self.host.replicas[GROUP]

    def is_leader(self, group: GroupId = GROUP) -> bool:
        """Whether it leads a group."""
        return self.host.replicas[group].is_leader

    def value(self, key: bytes) -> bytes | None:
        """What a stale read finds here; None when there is no such key."""
        (request,) = self.ask(get(key, stale=True))
        item = self.answers[request].get
        return item.item.value if item.HasField("item") else None


def alone(config: Config = CONFIG) -> Machine:
    """A cluster of one node that leads its groups."""
    machine = Machine(11, config)
    machine.turn(Bootstrapped(certificate([11], config)))
    machine.settle()
    machine.tick(config.election_ticks_max + 1)
    assert machine.is_leader()
    return machine


Sent = tuple[Machine, NodeId, Envelope]
"""Who sends, to whom, what."""


class Trio:
    """Three nodes. ``fate`` says what becomes of the messages that are on their way at once."""

    def __init__(
        self,
        config: Config = CONFIG,
        count: int = 3,
        make: Callable[[NodeId, Config], Machine] = Machine,
    ) -> None:
        self.machines = [make(identity, config) for identity in (11, 22, 33, 44, 55)[:count]]
        self.cut_off: set[NodeId] = set()
        self.fate: Callable[[list[Sent]], list[Sent]] = lambda sent: sent
        bootstrap = certificate([machine.identity for machine in self.machines], config)
        for machine in self.machines:
            others = (PeerConnected(m.identity) for m in self.machines if m is not machine)
            machine.turn(Bootstrapped(bootstrap), *others)
            machine.settle()

    def named(self, identity: NodeId) -> Machine:
        return next(machine for machine in self.machines if machine.identity == identity)

    def add(self, identity: NodeId) -> Machine:
        """A machine more, connected to all others; it has no cluster yet."""
        machine = Machine(identity, self.machines[0].config)
        self.machines.append(machine)
        for other in self.machines:
            if other is not machine:
                other.turn(PeerConnected(identity))
                machine.turn(PeerConnected(other.identity))
        return machine

    def deliver(self) -> bool:
        """Everything that is on its way arrives, once; whether anything was."""
        sent: list[Sent] = [
            (machine, target, envelope)
            for machine in self.machines
            for target, envelope in machine.sent
        ]
        for machine in self.machines:
            machine.sent = []
        for machine, target, envelope in self.fate(sent):
            if not {machine.identity, target} & self.cut_off:
                self.named(target).turn(Received(machine.identity, (envelope,)))
        return bool(sent)

    def settle(self) -> None:
        """Until nobody has anything left to say or to write."""
        busy = True
        while busy:
            for machine in self.machines:
                machine.settle()
            busy = self.deliver() or any(machine.writes for machine in self.machines)

    def tick(self, count: int = 1) -> None:
        """So many ticks of all nodes that are not cut off."""
        for _ in range(count):
            for machine in self.machines:
                if machine.identity not in self.cut_off:
                    machine.tick()
            self.settle()

    def elect(self, leader: Machine) -> None:
        """The leases of other leaders run out first; then this one campaigns."""
        config = leader.config
        for machine in self.machines:
            if machine is not leader and machine.identity not in self.cut_off:
                for _ in range(config.election_ticks_min):
                    machine.now += config.tick_ms
                    machine.turn(Ticked(machine.free_bytes))
                machine.sent = []
        for _ in range(config.election_ticks_max + 1):
            if not (leader.is_leader() and leader.is_leader(0)):
                leader.tick()
                self.settle()
        assert leader.is_leader()


def trio(config: Config = CONFIG) -> Trio:
    """Three nodes; the first one leads."""
    cluster = Trio(config)
    cluster.elect(cluster.machines[0])
    cluster.tick(2)
    return cluster
