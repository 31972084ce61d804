"""A node without sockets, disk and clock: all its replicas, moved by turns.

``effects = host.turn(now, events)`` is everything a shell can do with it. A turn

1.  takes in the events that have arrived since the last one,
2.  lets every replica propose what was admitted, as one log entry,
3.  drains the consensus objects: messages that may leave, records for the write-ahead log,
4.  applies what is committed and durable, for all groups into one overlay; when messages or records
    of this turn wait to leave, the next turn does it, at once (see ``_apply``),
5.  writes the overlay to the engine, once,
6.  answers queries, moves snapshots a step, asks for a checkpoint when one is due.

*What must wait, waits here*, in ``_writes``: messages that promise what a write makes durable have
no way out before the shell says ``Appended``.
"""

from bisect import bisect_right
from collections.abc import Sequence

from kvorum_proto.command_pb2 import UNAVAILABLE, WRONG_GROUP
from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.admission import error_result
from kvorum_server.checkpoint import Checkpoints
from kvorum_server.config import Config
from kvorum_server.consensus.core import Randomness
from kvorum_server.directory import Directory
from kvorum_server.events import (
    Appended,
    Asked,
    Bootstrapped,
    CompareAsked,
    Congested,
    Disconnected,
    Effects,
    Event,
    Flushed,
    Introduced,
    PeerConnected,
    PeerDisconnected,
    Proposed,
    Received,
    Relieved,
    Stopping,
    Ticked,
    TransferAsked,
)
from kvorum_server.kv.backup import GroupView
from kvorum_server.membership import Membership
from kvorum_server.outbox import Allowance, Outbox
from kvorum_server.placement.bootstrap import initial_configurations
from kvorum_server.replica import Replica
from kvorum_server.replicas import Replicas
from kvorum_server.snapshot import SnapshotReceiver
from kvorum_server.state_machine import MachineStatus
from kvorum_server.storage.engine import Engine
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.record import BootstrapRecord, SnapshotInstalled, StateRebuilt
from kvorum_server.storage.recovery import Recovered
from kvorum_server.types import (
    CATALOG_GROUP,
    Envelope,
    GroupId,
    NodeId,
    ReplicaRemoved,
)
from kvorum_server.writes import Writes

NO_STATUS = MachineStatus(0, 0, 0, 0, 0, 0)


class Host:
    """See the module's text. Every method but ``turn`` only looks."""

    def __init__(
        self, *, config: Config, engine: Engine, recovered: Recovered, randomness: Randomness
    ) -> None:
        self.config = config
        self.identity: NodeId = recovered.identity
        self.boot = recovered.boot
        self.bootstrap: Bootstrap | None = None
        self.is_certified = recovered.bootstrap is not None
        """Whether the certificate of the cluster is durable here: only then is it passed on."""
        self.disk_full = False
        self.stopping = False
        self.peers: set[NodeId] = set()
        self._now = 0
        self._cleared: GroupId = 0
        self._engine_is_behind = False
        self._active: dict[GroupId, Replica] = {}
        self._overlay = Overlay(engine)
        self._replicas = Replicas(
            config=config,
            overlay=self._overlay,
            recovered=recovered,
            randomness=randomness,
            leader_address=lambda group: self.directory.leader_address(group),
            quorum_without=lambda identity: self._membership.quorum_without(identity),
        )
        self.replicas = self._replicas.by_group
        self.directory = Directory(self.replicas)
        self._membership = Membership(
            identity=self.identity,
            config=config,
            replicas=self._replicas,
            directory=self.directory,
            peers=self.peers,
        )
        self._writes = Writes()
        self._checkpoints = Checkpoints(config, self.replicas)
        if recovered.bootstrap is not None:
            self._recover(recovered)

    # --- Start ---

    def _recover(self, recovered: Recovered) -> None:
        assert recovered.bootstrap is not None
        self._begin(Bootstrap.FromString(recovered.bootstrap))
        for recovered_replica in recovered.replicas.values():
            self._replicas.add(recovered_replica)

    def _begin(self, bootstrap: Bootstrap) -> None:
        self.bootstrap = bootstrap
        self._replicas.begin(bootstrap)
        self.config = self._replicas.config

    def _bootstrap(self, bootstrap: Bootstrap, outbox: Outbox) -> None:
        """Takes the certificate of the cluster and creates this node's replicas."""
        if self.bootstrap is not None:
            assert self.bootstrap == bootstrap, "the birth certificate is never replaced"
            return
        self._begin(bootstrap)
        outbox.records.append(BootstrapRecord(bootstrap.SerializeToString(deterministic=True)))
        outbox.when_durable.append(self._certify)
        for group, configuration in initial_configurations(bootstrap).items():
            replica = configuration.replica_of(self.identity)
            if replica is not None:
                self._replicas.create(group, replica, configuration, outbox)

    def _certify(self) -> None:
        self.is_certified = True

    # --- The turn ---

    def turn(self, now: int, events: Sequence[Event]) -> Effects:
        """Takes in what has happened up to ``now`` (monotonic milliseconds, sampled after the
        events).
        """
        outbox = Outbox(
            allowance=Allowance.of(self.config), records=self._replicas.take_unwritten()
        )
        self._now = now
        for replica in self._active.values():
            replica.at(now)
        for event in events:
            self._take(event, outbox)
        active = self._active.values()
        level = self.directory.level
        for replica in active:
            replica.requests.propose(replica, level, outbox)
        self._drain(outbox)
        self._apply(outbox)
        self._drain(outbox)
        self._overlay.flush()
        for replica in active:
            for space in replica.transfers.take_abandoned():
                self._overlay.engine.drop(space)
            replica.comparison.take_view(self._overlay.engine, replica.space)
            replica.requests.readers.serve(replica, outbox)
            replica.transfers.produce(replica, outbox)
            self._watch_transfer(replica)
        self._checkpoints.ask_when_due(now)
        effects = self._effects(outbox)
        busy = [
            replica
            for replica in active
            if replica.has_work or (replica.has_backlog and not self._is_held_up(replica))
        ]
        # Another one begins each turn, since what a turn may do is shared by all groups.
        self._active = {replica.group: replica for replica in busy[1:] + busy[:1]}
        effects.again = bool(self._active)
        return effects

    def _apply(self, outbox: Outbox) -> None:
        """Applies what is committed, after what others wait for has left.

        Applying a large entry takes milliseconds. Messages and records of this turn leave first:
        the next turn, which follows at once, applies. A follower also lets its write become durable
        and be acknowledged before: the leader waits for that, nobody for what a follower applies.
        It does not apply at all while its engine is behind; a leader's clients are refused instead.
        """
        leaving = bool(outbox.records or outbox.urgent or outbox.messages)
        for replica in self._active.values():
            if replica.has_backlog:
                held_up = leaving or self._is_held_up(replica)
                if self._engine_is_behind and not replica.is_leader:
                    continue
                if not held_up or not replica.wait_with_backlog():
                    replica.apply(outbox)

    def _is_held_up(self, replica: Replica) -> bool:
        return (bool(self._writes) or self._engine_is_behind) and not replica.is_leader

    def _activate(self, replica: Replica) -> Replica:
        """A replica that an event concerns takes part in the turn; the others cost nothing."""
        if replica.group not in self._active:
            replica.at(self._now)
            self._active[replica.group] = replica
        return replica

    def _activate_all(self) -> list[Replica]:
        return [self._activate(replica) for replica in self.replicas.values()]

    def _take(self, event: Event, outbox: Outbox) -> None:
        match event:
            case Received():
                for envelope in event.envelopes:
                    self._receive(event.peer, envelope, outbox)
            case Appended():
                self._confirm(event.write, outbox)
            case Proposed():
                replica = self._find(event.connection, event.group, event.ids, outbox)
                if replica is not None:
                    replica.requests.submit(
                        replica, event.connection, event.ids, event.commands, outbox
                    )
            case Asked():
                replica = self._find(event.connection, event.group, event.ids, outbox)
                if replica is not None:
                    replica.requests.ask(
                        replica, event.connection, event.ids, event.queries, outbox
                    )
            case Ticked():
                self._engine_is_behind = event.engine_is_behind
                self._tick(event.free_bytes, outbox)
            case PeerConnected():
                self.peers.add(event.peer)
                self._hint(event.peer, connected=True)
            case PeerDisconnected():
                self.peers.discard(event.peer)
                self._hint(event.peer, connected=False)
            case Disconnected():
                for replica in self.replicas.values():
                    replica.requests.forget(event.connection)
            case Congested():
                for replica in self.replicas.values():
                    replica.requests.readers.pause(event.connection)
            case Relieved():
                for replica in self._activate_all():
                    replica.requests.readers.resume(event.connection)
            case Flushed():
                self._activate_all()
                self._checkpoints.done(event.flush, outbox)
            case Bootstrapped():
                self._bootstrap(event.bootstrap, outbox)
                self._activate_all()
            case Introduced():
                self._activate_all()
                self._membership.introduced(event, outbox)
            case TransferAsked():
                self._transfer(event.group, event.target)
            case CompareAsked():
                for replica in self._activate_all():
                    replica.comparison.ask()
            case Stopping():
                self.stopping = True
                self._hand_over()

    def _find(
        self, connection: int, group: GroupId, ids: tuple[int, ...], outbox: Outbox
    ) -> Replica | None:
        """The replica that a request is meant for, or a refusal for each of its ids."""
        replica = self.replicas.get(group)
        if replica is None:
            if self.bootstrap is None:
                result = error_result(
                    UNAVAILABLE, "the cluster is not complete yet; start its other initial nodes"
                )
            else:
                result = error_result(
                    WRONG_GROUP, f"this node holds no replica of group {group}; refresh the table"
                )
            outbox.reply(connection, group, list(ids), [result] * len(ids), 0, NO_STATUS)
            return None
        return self._activate(replica)

    def _receive(self, peer: NodeId, envelope: Envelope, outbox: Outbox) -> None:
        replica = self.replicas.get(envelope.group)
        target = envelope.target_replica
        is_gone = target <= self._replicas.retired.get(envelope.group, 0)
        if not is_gone and (replica is None or replica.replica != target):
            replica = self._membership.begin(peer, envelope, outbox)
        if replica is not None and replica.replica == target:
            self._activate(replica).step(peer, envelope, outbox)
        elif is_gone and not isinstance(envelope.message, ReplicaRemoved):
            outbox.send_message(
                peer,
                envelope.group,
                envelope.target_replica,
                envelope.source_replica,
                ReplicaRemoved(envelope.target_replica),
            )

    def _hint(self, peer: NodeId, *, connected: bool) -> None:
        for replica in self._activate_all():
            other = replica.consensus.configuration.replica_of(peer)
            if other is None:
                continue
            if connected:
                replica.consensus.connection_restored(other)
            else:
                replica.consensus.connection_lost(other)

    def _drain(self, outbox: Outbox) -> None:
        """Empties the consensus objects; what waits for no write under way may go at once."""
        busy = True
        while busy:
            busy = False
            for replica in self._active.values():
                while replica.consensus.has_ready():
                    replica.drain(outbox)
                    busy = True
            if outbox.held and not outbox.records and not self._writes:
                held, outbox.held = outbox.held, []
                for waiting in held:
                    self._active[waiting.group].durable(waiting, outbox)
                busy = True

    def _confirm(self, write: int, outbox: Outbox) -> None:
        for done in self._writes.confirm(write):
            for held in done.held:
                replica = self.replicas.get(held.group)
                if replica is not None and replica.replica == held.replica:
                    self._activate(replica).durable(held, outbox)
            for action in done.then:
                action()
        for replica in self.replicas.values():
            if replica.has_backlog:
                self._activate(replica)

    def _effects(self, outbox: Outbox) -> Effects:
        effects = Effects(append=self._writes.begin(outbox))
        self._checkpoints.count(outbox.records)
        effects.flush = self._checkpoints.begin()
        outbox.into(effects)
        return effects

    # --- Ticks, disk space, leadership ---

    def _tick(self, free_bytes: int, outbox: Outbox) -> None:
        reserve = self.config.disk_reserve_bytes
        if free_bytes < max(1, reserve):
            self.disk_full = True
        elif free_bytes >= 2 * reserve:
            self.disk_full = False
        for replica in self._activate_all():
            replica.requests.stopping = self.stopping
            replica.tick(self.disk_full, outbox)
            replica.comparison.tick(replica, self.peers, outbox)
            if self.disk_full:
                replica.leave_full_disk(self.peers)
        self._clear_away()
        self._checkpoints.watch()
        if self.stopping:
            self._hand_over()
        else:
            self._membership.tick(outbox)
            for group, replica in list(self._active.items()):
                if self.replicas.get(group) is not replica:
                    del self._active[group]

    def _clear_away(self) -> None:
        """A slice of what compaction has forgotten, of one group a tick: the groups take turns."""
        groups = sorted(self.replicas)
        last = bisect_right(groups, self._cleared)
        for group in groups[last:] + groups[:last]:
            self._cleared = group
            replica = self.replicas[group]
            if not replica.consensus.rebuilding and replica.machine.clear_away():
                return

    def _transfer(self, group: GroupId, target: NodeId | None) -> None:
        replica = self.replicas.get(group)
        if replica is not None:
            self._activate(replica).hand_over(self.peers, target)

    def _hand_over(self) -> None:
        """The node is about to stop: other nodes should lead."""
        for replica in self._activate_all():
            if replica.is_leader and not replica.hand_over(self.peers, None):
                replica.consensus.farewell()

    # --- Snapshots that have arrived ---

    def _watch_transfer(self, replica: Replica) -> None:
        """A snapshot that has arrived in full is flushed before it is installed."""
        receiver = replica.transfers.arrived()
        if receiver is not None:
            self._checkpoints.after_flush(lambda outbox: self._install(replica, receiver, outbox))

    def _install(self, replica: Replica, receiver: SnapshotReceiver, outbox: Outbox) -> None:
        """The rows of a snapshot are durable in their space: switch over, if still worth it.

        Not if another transfer has taken its place meanwhile: its rows missed this flush.
        """
        if self.replicas.get(replica.group) is not replica:
            return
        if replica.transfers.receiver is not receiver:
            return
        consensus, meta = replica.consensus, receiver.meta
        keeps_log = consensus.rebuilding and consensus.rebuild(meta)
        if not keeps_log and not consensus.install(meta):
            replica.transfers.abandon()
            return
        replica.transfers.receiver = None
        place = replica.group, replica.replica, receiver.space
        outbox.records.append(
            StateRebuilt(*place, meta.index) if keeps_log else SnapshotInstalled(*place, meta)
        )
        old_space = replica.space
        machine = self._replicas.make_machine(replica.group, receiver.space)
        replica.install(receiver.space, machine, meta, keeps_log=keeps_log)
        outbox.when_durable.append(lambda: self._overlay.engine.drop(old_space))
        outbox.transitions.append(replica.transition("snapshot installed", {"index": meta.index}))

    # --- Looking ---

    def view(self, group: GroupId) -> GroupView | None:
        """The items of a group, between two turns; None where its state is not here or lost."""
        replica = self.replicas.get(group)
        if replica is None or group == CATALOG_GROUP or replica.consensus.rebuilding:
            return None
        return GroupView(group, replica.space, self._overlay.engine.snapshot())

    @property
    def was_removed(self) -> bool:
        """Whether this node was a member and is one no more: no group has a replica here."""
        return CATALOG_GROUP in self._replicas.retired and not self.replicas

    @property
    def leads(self) -> bool:
        """Whether any replica of this node is a leader."""
        return any(replica.is_leader for replica in self.replicas.values())

    def check_invariants(self) -> None:
        """Raises AssertionError when the node contradicts itself; between turns."""
        assert len(self._overlay) == 0, "a turn writes its rows"
        self._writes.check_invariants()
        spaces = [replica.space for replica in self.replicas.values()]
        assert len(set(spaces)) == len(spaces), "no two replicas share a space"
        for replica in self.replicas.values():
            replica.check_invariants()
