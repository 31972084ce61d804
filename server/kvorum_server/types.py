"""The values that travel between the parts of a node: entries, configurations, messages, envelopes.

Everything here is a frozen value without behaviour beyond its own consistency. Times are integers
of milliseconds, sizes are bytes. Names are those of the Raft paper (Ongaro and Ousterhout, 2014);
in Multi-Paxos code a ballot is a ``term`` and a slot is an ``index``.

A *group* is a number (0 is the catalog); a *replica* id is unique in its group for ever and bound
to one node *identity* (64 random bits). The same node that loses its disk comes back under
another identity and therefore under another replica id: it can never vote as its old self.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from kvorum_proto import peer_pb2

GroupId = int
ReplicaId = int
NodeId = int

CATALOG_GROUP: GroupId = 0

FEATURE_LEVEL = 1
"""The newest feature level that this program knows (see ``docs/glossary.md``)."""


class EntryKind(enum.IntEnum):
    """What the payload of an entry is. Values are on disk and on the wire: never renumber."""

    NO_OP = 0
    COMMANDS = 1
    CONFIGURATION = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One place of the log: a whole turn's commands of one group.

    ``stamp`` is log time in milliseconds, never lower than the stamp of the entry before.
    ``level`` is the feature level under which the payload must be applied.
    """

    index: int
    term: int
    kind: EntryKind
    stamp: int
    level: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class HardState:
    """What a replica must never forget: its term, its vote in that term (0 = none), its commit
    index.
    """

    term: int = 0
    vote: ReplicaId = 0
    commit: int = 0


@dataclass(frozen=True, slots=True)
class Contact:
    """A node that this one wants a stream with; before it has said who it is, ``name`` may be
    empty and ``identity`` 0.
    """

    address: str
    name: str = ""
    identity: NodeId = 0


@dataclass(frozen=True, slots=True)
class Member:
    """A replica of a group and the node that it is bound to."""

    replica: ReplicaId
    identity: NodeId


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who belongs to a group. Joint (Raft paper, section 6) while ``outgoing`` is not empty.

    >>> initial = Configuration.initial((11, 22, 33))
    >>> initial.voters, initial.is_joint, initial.next_replica
    ((1, 2, 3), False, 4)
    >>> Configuration.decode(initial.encode()) == initial
    True
    """

    voters: tuple[ReplicaId, ...]
    outgoing: tuple[ReplicaId, ...]
    learners: tuple[ReplicaId, ...]
    members: tuple[Member, ...]
    next_replica: ReplicaId
    version: int = 0
    """Version of the catalog's placement that it follows; a leader never goes back behind it."""

    @classmethod
    def initial(
        cls, voters: tuple[NodeId, ...], learners: tuple[NodeId, ...] = ()
    ) -> "Configuration":
        """The first configuration of a group: replicas 1..n on these nodes, voters first."""
        members = tuple(
            Member(number, identity) for number, identity in enumerate(voters + learners, 1)
        )
        replicas = tuple(member.replica for member in members)
        return cls(replicas[: len(voters)], (), replicas[len(voters) :], members, len(members) + 1)

    @property
    def is_joint(self) -> bool:
        """Whether decisions need a quorum of the incoming and of the outgoing voters."""
        return bool(self.outgoing)

    def all_voters(self) -> frozenset[ReplicaId]:
        """Voters of both halves."""
        return frozenset(self.voters) | frozenset(self.outgoing)

    def replicas(self) -> Iterator[ReplicaId]:
        """Every replica that receives the log, in ascending order (voters, outgoing, learners)."""
        return iter(sorted(self.all_voters() | frozenset(self.learners)))

    def identity_of(self, replica: ReplicaId) -> NodeId | None:
        """The node that a replica is bound to; None when the replica is not a member."""
        for member in self.members:
            if member.replica == replica:
                return member.identity
        return None

    def replica_of(self, identity: NodeId) -> ReplicaId | None:
        """The newest replica on a node; None when the node holds no member."""
        replicas = [member.replica for member in self.members if member.identity == identity]
        return max(replicas, default=None)

    def has_lost(self, replica: ReplicaId) -> bool:
        """Whether a replica was a member once and never will be again: ids are not used twice.

        >>> Configuration((1, 3), (), (), (Member(1, 11), Member(3, 33)), 4).has_lost(2)
        True
        """
        return replica < self.next_replica and self.identity_of(replica) is None

    def to_proto(self) -> peer_pb2.Configuration:
        """The wire form."""
        return peer_pb2.Configuration(
            voters=self.voters,
            outgoing=self.outgoing,
            learners=self.learners,
            members=[peer_pb2.Member(replica=m.replica, identity=m.identity) for m in self.members],
            next_replica=self.next_replica,
            version=self.version,
        )

    @classmethod
    def from_proto(cls, proto: peer_pb2.Configuration) -> "Configuration":
        """The value of a wire form."""
        return cls(
            tuple(proto.voters),
            tuple(proto.outgoing),
            tuple(proto.learners),
            tuple(Member(m.replica, m.identity) for m in proto.members),
            proto.next_replica,
            proto.version,
        )

    def encode(self) -> bytes:
        """The payload of a configuration entry."""
        return self.to_proto().SerializeToString(deterministic=True)

    @classmethod
    def decode(cls, payload: bytes) -> "Configuration":
        """The inverse of :meth:`encode`; raises ``google.protobuf.message.DecodeError`` on
        garbage.
        """
        return cls.from_proto(peer_pb2.Configuration.FromString(payload))


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """What a snapshot stands for: the state after entry ``index`` of ``term``, at log time
    ``stamp``.
    """

    index: int
    term: int
    stamp: int
    configuration: Configuration


# --- Messages between replicas of a group: one value each; answers are named ...Response. ---


@dataclass(frozen=True, slots=True)
class PreVoteRequest:
    """Would you vote for me in ``term``? Changes nothing at the receiver (Ongaro's thesis, 9.6)."""

    term: int
    last_index: int
    last_term: int
    connection_lost: bool = False


@dataclass(frozen=True, slots=True)
class PreVoteResponse:
    """Granted: carries the term that was asked for. Refused: the receiver's own term."""

    term: int
    granted: bool


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """RequestVote of the Raft paper. ``transfer``: ordered by the leader, stickiness does not
    apply.
    """

    term: int
    last_index: int
    last_term: int
    transfer: bool = False
    connection_lost: bool = False


@dataclass(frozen=True, slots=True)
class VoteResponse:
    term: int
    granted: bool


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """AppendEntries of the Raft paper; without entries it is a probe."""

    term: int
    previous_index: int
    previous_term: int
    entries: tuple[Entry, ...]
    commit: int


@dataclass(frozen=True, slots=True)
class AppendResponse:
    """Accepted: all up to ``matched_index`` is durable and equals the leader's log of ``term``.

    Refused: ``refused_index`` repeats the request's previous_index, (``hint_index``,
    ``hint_term``) is the best guess of the last place where both logs agree.
    """

    term: int
    accepted: bool
    matched_index: int = 0
    refused_index: int = 0
    hint_index: int = 0
    hint_term: int = 0


@dataclass(frozen=True, slots=True)
class ReadRound:
    """Identity of a read-index round of one leader: never the same again, not even after a
    restart.
    """

    boot: int = 0
    counter: int = 0


NO_ROUND = ReadRound()


@dataclass(frozen=True, slots=True)
class HeartbeatRequest:
    """I lead ``term``. ``echo``: the follower's own send time of its newest answer seen here."""

    term: int
    commit: int
    round: ReadRound = NO_ROUND
    echo: int = 0
    disk_full: bool = False


@dataclass(frozen=True, slots=True)
class HeartbeatResponse:
    term: int
    round: ReadRound = NO_ROUND
    sent_at: int = 0
    disk_full: bool = False


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """Campaign at once, I hand over to you (Ongaro's thesis, 3.10)."""

    term: int


@dataclass(frozen=True, slots=True)
class Farewell:
    """The leader stops: do not wait for your election timeout."""

    term: int


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """A slice of a snapshot: rows without their space prefix; the checksum chains over all
    chunks.
    """

    term: int
    transfer: int
    number: int
    meta: SnapshotMeta
    rows: tuple[tuple[bytes, bytes], ...]
    checksum: int
    last: bool


@dataclass(frozen=True, slots=True)
class SnapshotResponse:
    """The receiver wants chunk ``next_number`` of ``transfer``, or refuses the whole transfer."""

    term: int
    transfer: int
    next_number: int
    refused: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaRemoved:
    """The receiver of a message has removed the replica it was meant for, for good."""

    replica: ReplicaId


@dataclass(frozen=True, slots=True)
class StateHash:
    """The sender's state after entry ``index`` has this hash (see ``state_hash.py``)."""

    index: int
    hash: int


@dataclass(frozen=True, slots=True)
class StateDamage:
    """A quorum has this hash at ``index``: a receiver that has another one is damaged."""

    term: int
    index: int
    hash: int


@dataclass(frozen=True, slots=True)
class SnapshotWanted:
    """The sender has lost its state: it asks its leader for a snapshot although its log needs
    none.
    """

    term: int


@dataclass(frozen=True, slots=True)
class GroupCall:
    """A command that a node itself has for the leader of a group: an encoded Submission.

    Idempotent, without session and without an answer; whoever wants the effect asks again until it
    sees it.
    """

    submission: bytes


ConsensusMessage = (
    PreVoteRequest
    | PreVoteResponse
    | VoteRequest
    | VoteResponse
    | AppendRequest
    | AppendResponse
    | HeartbeatRequest
    | HeartbeatResponse
    | TimeoutNow
    | Farewell
)
"""What the consensus object sends and steps."""

Message = (
    ConsensusMessage
    | SnapshotChunk
    | SnapshotResponse
    | ReplicaRemoved
    | StateHash
    | StateDamage
    | SnapshotWanted
    | GroupCall
)
"""Everything an envelope may carry."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message on its way between two replicas of a group."""

    group: GroupId
    source_replica: ReplicaId
    target_replica: ReplicaId
    message: Message
