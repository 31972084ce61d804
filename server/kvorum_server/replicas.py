"""The replicas of one node: how they come to be, from a log, from a certificate, or by a leader's
word.

A replica is three things that must agree, and only here are they put together: a consensus object
with what the write-ahead log holds, a state machine on the rows of a *space*, and the bookkeeping
between them. Spaces are numbered by the node and never used twice while it runs; one that no record
names holds garbage and is deleted at start.

A replica is created by the bootstrap record, or by the message of a leader whose configuration
names a replica of a larger id on this node: then it begins empty, as a learner, and grants no vote.
An id that was removed once never comes back (``retired``), however late a message is.
"""

from collections.abc import Callable

from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.config import Config
from kvorum_server.consensus import PROTOCOLS
from kvorum_server.consensus.core import Randomness
from kvorum_server.kv.machine import KvMachine
from kvorum_server.lost_state import start_over
from kvorum_server.outbox import Outbox
from kvorum_server.placement.bootstrap import with_cluster_settings
from kvorum_server.placement.catalog import CatalogMachine
from kvorum_server.replica import Replica
from kvorum_server.state_machine import StateMachine
from kvorum_server.storage.errors import StateDamaged
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.record import Record, ReplicaCreated, ReplicaRetired
from kvorum_server.storage.recovery import Recovered, RecoveredReplica
from kvorum_server.transfer import Transfers
from kvorum_server.types import (
    CATALOG_GROUP,
    Configuration,
    EntryKind,
    GroupId,
    HardState,
    NodeId,
    ReplicaId,
)


class Replicas:
    """All replicas of a node, ``by_group``; a node holds at most one of each group."""

    def __init__(
        self,
        *,
        config: Config,
        overlay: Overlay,
        recovered: Recovered,
        randomness: Randomness,
        leader_address: Callable[[GroupId], str],
        quorum_without: Callable[[NodeId], str],
    ) -> None:
        self.by_group: dict[GroupId, Replica] = {}
        self.retired: dict[GroupId, ReplicaId] = dict(recovered.retired)
        self.config = config
        self.bootstrap: Bootstrap | None = None
        self._overlay = overlay
        self._boot = recovered.boot
        self._randomness = randomness
        self._leader_address = leader_address
        self._quorum_without = quorum_without
        self._last_transfer = recovered.boot << 32
        self._unwritten: list[Record] = []
        """What a start has found out and the write-ahead log does not say yet."""
        found = recovered.replicas.values()
        named = {replica.space for replica in found if not replica.state_lost}
        spaces = overlay.engine.spaces()
        for space in spaces:
            if space not in named:
                overlay.engine.drop(space)
        # A crash may bring back what was dropped just now: no new replica may begin there.
        self._last_space = max([0, *spaces, *(replica.space for replica in found)])

    # --- How they come and go ---

    def begin(self, bootstrap: Bootstrap) -> None:
        """The certificate of the cluster is known: from now on there may be replicas."""
        self.bootstrap = bootstrap
        self.config = with_cluster_settings(self.config, bootstrap)

    def add(self, recovered: RecoveredReplica) -> Replica:
        """A replica as the write-ahead log has it. Raises StateDamaged when its rows are older
        than they must be.
        """
        assert self.bootstrap is not None
        group = recovered.group
        if recovered.state_lost:
            recovered, records = start_over(recovered, self._new_space())
            self._unwritten += records
        machine = self.make_machine(group, recovered.space)
        applied = machine.status().applied_index
        promised = max(recovered.checkpoint_index, recovered.log_start[0])
        if applied < promised and not recovered.state_lost:
            raise StateDamaged(group, applied, recovered.checkpoint_index)
        consensus = PROTOCOLS[self.bootstrap.protocol](
            replica=recovered.replica,
            boot=self._boot,
            config=self.config,
            randomness=self._randomness,
            configuration=recovered.configuration,
            hard_state=recovered.hard_state,
            log_start=recovered.log_start,
            log_start_stamp=recovered.log_start_stamp,
            entries=recovered.entries,
            applied=applied,
            rebuilding=recovered.state_lost,
        )
        last_stamp = recovered.log_start_stamp
        applied_configuration = (recovered.log_start[0], recovered.configuration)
        for entry in recovered.entries:
            last_stamp = entry.stamp
            if entry.kind is EntryKind.CONFIGURATION and entry.index <= applied:
                applied_configuration = (entry.index, Configuration.decode(entry.payload))
        replica = Replica(
            group=group,
            replica=recovered.replica,
            space=recovered.space,
            consensus=consensus,
            machine=machine,
            applied_configuration=applied_configuration,
            log_start=recovered.log_start[0],
            last_stamp=last_stamp,
            transfers=Transfers(
                overlay=self._overlay,
                config=self.config,
                new_transfer=self._new_transfer,
                new_space=self._new_space,
            ),
            leader_address=lambda: self._leader_address(group),
            config=self.config,
            skipped=recovered.skipped,
        )
        self.by_group[group] = replica
        return replica

    def create(
        self, group: GroupId, replica: ReplicaId, configuration: Configuration, outbox: Outbox
    ) -> Replica:
        """An empty replica; ``configuration`` is in force before its first entry."""
        assert group not in self.by_group, "a node holds one replica of a group"
        assert replica > self.retired.get(group, 0), "a removed replica never comes back"
        space = self._new_space()
        outbox.records.append(ReplicaCreated(group, replica, space, configuration))
        return self.add(
            RecoveredReplica(
                group=group,
                replica=replica,
                space=space,
                hard_state=HardState(),
                log_start=(0, 0),
                log_start_stamp=0,
                configuration=configuration,
                entries=[],
                checkpoint_index=0,
            )
        )

    def retire(self, replica: Replica, outbox: Outbox) -> None:
        """A replica is gone for good; its rows go when that is durable."""
        assert self.by_group[replica.group] is replica
        del self.by_group[replica.group]
        self.retired[replica.group] = replica.replica
        outbox.records.append(ReplicaRetired(replica.group, replica.replica))
        replica.close(outbox)
        for space in (replica.space, *replica.transfers.take_abandoned()):
            outbox.when_durable.append(lambda space=space: self._overlay.engine.drop(space))  # type: ignore[misc]

    def make_machine(self, group: GroupId, space: int) -> StateMachine:
        """The state machine of a group, on the rows of a space."""
        assert self.bootstrap is not None
        if group == CATALOG_GROUP:
            return CatalogMachine(
                space=space,
                overlay=self._overlay,
                config=self.config,
                bootstrap=self.bootstrap,
                quorum_without=self._quorum_without,
            )
        return KvMachine(space=space, overlay=self._overlay, config=self.config, group=group)

    def take_unwritten(self) -> list[Record]:
        """The records that the next write begins with."""
        records, self._unwritten = self._unwritten, []
        return records

    def _new_transfer(self) -> int:
        self._last_transfer += 1
        return self._last_transfer

    def _new_space(self) -> int:
        self._last_space += 1
        return self._last_space
