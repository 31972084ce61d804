"""What a node does about members: it lets leaders change them, reports them, and leaves when told.

Everything is decided elsewhere, who shall be a member in the catalog, who is one in the log of each
group; here a node does its part, at every tick and on three occasions:

*   A node that is **expected** has said hello: the leader of the catalog is told (``introduced``).
*   A **leader** takes the next step towards the placement of its group, and reports the members
    that it has when the catalog knows older ones.
*   The message of a leader names a replica on this node that there is not: it **begins**, empty, as
    a learner (PROTOCOLS: bootstrap, or a leader's word, and nothing else).
*   A replica **ends** when committed entries say that it is no member any more: its own, those of a
    peer that answers its messages with ``ReplicaRemoved``, or a report in the catalog.

*Calls.* A command for the leader of another group travels as :class:`GroupCall`. It is idempotent
and asked again, once in a while, until its effect is seen, so nothing keeps track of it.
"""

from collections.abc import Collection

from kvorum_proto.command_pb2 import GroupReport, JoinMember, ReportGroup, Submission
from kvorum_server.config import Config
from kvorum_server.consensus.quorum import has_quorum
from kvorum_server.directory import Directory
from kvorum_server.events import Introduced
from kvorum_server.outbox import Outbox
from kvorum_server.reconcile import next_step
from kvorum_server.replica import CALLS_MAX, Replica
from kvorum_server.replicas import Replicas
from kvorum_server.types import (
    CATALOG_GROUP,
    AppendRequest,
    Configuration,
    Entry,
    Envelope,
    GroupCall,
    GroupId,
    HeartbeatRequest,
    Member,
    NodeId,
    ReplicaId,
    ReplicaRemoved,
    SnapshotChunk,
)

REPORT_TICKS = 8
"""A report that the catalog does not show yet is repeated after so many ticks."""


class Membership:
    """The part of one Host; ``peers`` is the Host's own set of connected nodes."""

    def __init__(
        self,
        *,
        identity: NodeId,
        config: Config,
        replicas: Replicas,
        directory: Directory,
        peers: Collection[NodeId],
    ) -> None:
        self._identity = identity
        self._config = config
        self._replicas = replicas
        self._directory = directory
        self._peers = peers
        self._ticks = 0
        self._seen: dict[GroupId, Configuration] = {}
        """The configuration that each replica had applied at the last tick."""

    # --- Every tick ---

    def tick(self, outbox: Outbox) -> None:
        """Takes the next step of every change that is this node's to make."""
        self._ticks += 1
        for replica in list(self._replicas.by_group.values()):
            before = self._seen.get(replica.group)
            self._seen[replica.group] = replica.applied_configuration
            if replica.is_leader:
                if before is not None and before is not replica.applied_configuration:
                    self._dismiss(replica, before, outbox)
                self._reconcile(replica, outbox)
                if self._ticks % REPORT_TICKS == 0:
                    self._report(replica, outbox)
            elif self._is_gone(replica):
                self.end(replica, outbox)

    def _reconcile(self, replica: Replica, outbox: Outbox) -> None:
        catalog = self._directory.catalog
        if catalog is None:
            # Who has no catalog cannot know what its group needs: somebody else should lead.
            replica.hand_over(self._peers, None)
            return
        step = next_step(
            replica.consensus.configuration,
            catalog.placement(replica.group),
            replica.caught_up(),
            self._reachable(replica.consensus.configuration),
            self._directory.name_of,
        )
        replica.waiting_for = step.waiting
        if step.configuration is None:
            return
        outcome = replica.reconfigure(step.configuration, self._directory.level)
        if isinstance(outcome, Entry):
            details = describe(step.configuration)
            outbox.transitions.append(replica.transition("members change", details))

    def _dismiss(self, replica: Replica, before: Configuration, outbox: Outbox) -> None:
        """Tells those whom committed entries have left out. A voter would ask for votes and learn
        it then; a learner asks nobody, and would wait for ever for a leader that has forgotten it.
        """
        for member in before.members:
            gone = member.replica
            if gone != replica.replica and replica.applied_configuration.has_lost(gone):
                outbox.send_message(
                    member.identity, replica.group, replica.replica, gone, ReplicaRemoved(gone)
                )

    def _reachable(self, configuration: Configuration) -> set[ReplicaId]:
        return {
            member.replica
            for member in configuration.members
            if member.identity == self._identity or member.identity in self._peers
        }

    def _report(self, replica: Replica, outbox: Outbox) -> None:
        """Tells the catalog what the members of a group are, unless it knows."""
        catalog = self._directory.catalog
        index, configuration = replica.applied_configuration_index, replica.applied_configuration
        if catalog is None or configuration.is_joint:
            return
        known = catalog.roster.reports.get(replica.group)
        if known is not None and known.index >= index:
            return
        report = GroupReport(
            group=replica.group,
            index=index,
            version=configuration.version,
            voters=[configuration.identity_of(voter) or 0 for voter in configuration.voters],
            learners=[configuration.identity_of(one) or 0 for one in configuration.learners],
            next_replica=configuration.next_replica,
        )
        self.call(Submission(report_group=ReportGroup(report=report)), outbox)

    def _is_gone(self, replica: Replica) -> bool:
        """Whether committed entries say that this replica is a member no more."""
        if replica.was_removed or replica.applied_configuration.has_lost(replica.replica):
            return True
        catalog = self._directory.catalog
        report = None if catalog is None else catalog.roster.reports.get(replica.group)
        return (
            report is not None
            and report.index > replica.applied[0]
            and report.next_replica > replica.replica
            and self._identity not in report.voters
            and self._identity not in report.learners
        )

    # --- Calls ---

    def introduced(self, event: Introduced, outbox: Outbox) -> None:
        """A node without a cluster has said hello; if it is expected, it becomes a member."""
        catalog = self._directory.catalog
        if catalog is None or event.name not in catalog.roster.expected:
            return
        join = JoinMember(
            identity=event.identity,
            name=event.name,
            address=event.address,
            supported_level=event.supported_level,
        )
        self.call(Submission(join_member=join), outbox)

    def call(self, submission: Submission, outbox: Outbox) -> None:
        """A command for the leader of the catalog, wherever that is."""
        replica = self._replicas.by_group.get(CATALOG_GROUP)
        if replica is None:
            return
        if replica.is_leader:
            replica.requests.submit_own(submission, CALLS_MAX)
        elif replica.consensus.leader is not None:
            replica.send(
                replica.consensus.leader, GroupCall(submission.SerializeToString()), outbox
            )

    # --- Beginning and ending ---

    def begin(self, peer: NodeId, envelope: Envelope, outbox: Outbox) -> Replica | None:
        """The replica that a leader's message is for, when it has to be made; None when it is not
        a leader's message, or for a replica that was removed.

        A smaller id on this node was removed before a larger one was given out.
        """
        if self._replicas.bootstrap is None:
            return None
        message = envelope.message
        group, target = envelope.group, envelope.target_replica
        if not isinstance(message, AppendRequest | HeartbeatRequest | SnapshotChunk):
            return None
        present = self._replicas.by_group.get(group)
        if present is not None:
            if present.replica > target:
                return None
            self.end(present, outbox)
        source = Member(envelope.source_replica, peer)
        # Who it is, and who spoke; it knows of no voters and takes nobody for removed.
        configuration = Configuration(
            voters=(),
            outgoing=(),
            learners=(target,),
            members=(source, Member(target, self._identity)),
            next_replica=0,
        )
        replica = self._replicas.create(group, target, configuration, outbox)
        outbox.transitions.append(replica.transition("replica begins", {"leader": source.replica}))
        return replica

    def end(self, replica: Replica, outbox: Outbox) -> None:
        """A replica that is a member no more goes, with its log and its rows."""
        outbox.transitions.append(replica.transition("replica removed", {}))
        self._replicas.retire(replica, outbox)

    # --- Looking ---

    def quorum_without(self, identity: NodeId) -> str:
        """Why the groups of this node could not do without a node now; empty when they could."""
        for group, replica in sorted(self._replicas.by_group.items()):
            configuration = replica.consensus.configuration
            rest = tuple(
                voter
                for voter in configuration.voters
                if configuration.identity_of(voter) != identity
            )
            if len(rest) == len(configuration.voters):
                continue
            without = Configuration(rest, (), (), configuration.members, 0)
            reachable = self._reachable(configuration)
            if not rest or not has_quorum(without, reachable):
                missing = [
                    self._directory.name_of(configuration.identity_of(voter))
                    for voter in rest
                    if voter not in reachable
                ]
                who = f"{' and '.join(missing)} not connected" if missing else "it votes alone"
                return f"group {group} would have no quorum, {who}"
        return ""


def describe(configuration: Configuration) -> dict[str, str | int]:
    """A configuration for a log line.

    >>> describe(Configuration.initial((11, 22, 33)))
    {'voters': '1 2 3', 'outgoing': '', 'learners': ''}
    """
    return {
        "voters": " ".join(map(str, configuration.voters)),
        "outgoing": " ".join(map(str, configuration.outgoing)),
        "learners": " ".join(map(str, configuration.learners)),
    }
