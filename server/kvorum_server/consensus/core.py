"""The contract between a replica and its consensus protocol.

A consensus object is fed (``tick``, ``step``, ``propose``, ``read``, ``appended``...) and drained
(``ready``). It does no I/O, reads no clock and draws no random number of its own. The caller obeys
one rule: *what a Ready says must be durable is durable before what that Ready says must wait is
sent.*

1.  ``Ready.messages`` may leave at once (a leader replicates in parallel with its own fsync).
2.  ``Ready.hard_state`` and ``Ready.entries`` are given to the write-ahead log, in the order of the
    Readys, as one write.
3.  When that write is durable, the caller calls ``appended(index, term)`` with its last entry (if
    it had entries) and then sends ``Ready.messages_after_append``, unless the term has changed
    since. A Ready with neither hard state nor entries makes no write: its
    ``messages_after_append`` wait for the last write given before it, and leave at once when that
    one is durable already. **A message there that is addressed to the replica itself is stepped
    back into it**: a candidate's vote for itself is a promise like any other and counts only once
    it is durable.
4.  ``Ready.committed`` holds entries that are committed *and* durable here, each once, in order.
    After applying them the caller calls ``applied(index)``.

The log that consensus objects agree on is contiguous: Multi-Paxos accepts in order as well, so log,
write-ahead log, snapshots and reads are the same for both.
"""

import enum
from dataclasses import dataclass, field
from typing import Protocol

from kvorum_server.types import (
    Configuration,
    ConsensusMessage,
    Entry,
    EntryKind,
    HardState,
    ReplicaId,
    SnapshotMeta,
)


class Role(enum.Enum):
    """What a replica is at present. Learners replicate and never vote or campaign."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"
    LEARNER = "learner"


class Randomness(Protocol):
    """Where election timeouts come from: a ``random.Random``, seeded in the simulator."""

    def randrange(self, start: int, stop: int, /) -> int:
        """An integer in [start, stop)."""
        ...


@dataclass(frozen=True, slots=True)
class ReadReady:
    """The reads of ``token`` may be served once ``index`` is applied; None: leadership is lost."""

    token: int
    index: int | None


@dataclass(frozen=True, slots=True)
class Transition:
    """A change worth a log line: who became what, in which term, led by whom, and why."""

    role: Role
    term: int
    leader: ReplicaId | None
    reason: str


@dataclass(slots=True)
class Ready:
    """One turn's output of a consensus object; see the rules at the top of this module."""

    hard_state: HardState | None = None
    entries: list[Entry] = field(default_factory=list)
    messages: list[tuple[ReplicaId, ConsensusMessage]] = field(default_factory=list)
    messages_after_append: list[tuple[ReplicaId, ConsensusMessage]] = field(default_factory=list)
    committed: list[Entry] = field(default_factory=list)
    reads: list[ReadReady] = field(default_factory=list)
    snapshot_targets: list[ReplicaId] = field(default_factory=list)
    """Replicas that need entries which the log no longer holds: send them a snapshot.

    It has arrived when ``matched`` of the replica reaches its index; a transfer that does not get
    there in time is reported with ``snapshot_failed``."""
    transitions: list[Transition] = field(default_factory=list)


class ProposeRefusal(enum.Enum):
    """Why a proposal was not appended. Nothing was logged: the client may try elsewhere."""

    NOT_LEADER = "not leader"
    TRANSFERRING = "leadership is being handed over"
    LOG_FULL = "too many bytes are not committed yet"
    RECONFIGURING = "the configuration in force, or the leader's first entry, is not committed yet"


@dataclass(frozen=True, slots=True)
class Status:
    """A view of a consensus object for status pages, leader hints and tests."""

    replica: ReplicaId
    role: Role
    term: int
    vote: ReplicaId
    leader: ReplicaId | None
    commit: int
    applied: int
    durable: int
    first_index: int
    last_index: int
    configuration: Configuration
    matched: dict[ReplicaId, int]
    """On the leader: the highest index known durable on each replica; else empty."""
    log_bytes: int
    fresh_at: int = 0
    """On a follower: its own time (see ``Consensus.at``) at which it sent the newest heartbeat
    answer that the leader of this term has vouched for: a read round that began after the answer
    arrived was confirmed, and all that was committed then is applied here. So the state has
    everything that was committed before that time, by whatever leader. 0 = none yet."""
    full_replicas: frozenset[ReplicaId] = frozenset()
    """On the leader: the replicas (itself included) that reported a full disk."""
    roomy_replicas: frozenset[ReplicaId] = frozenset()
    """On the leader: the others that reported, in this term, a disk that is not full."""
    quorum_has_room: bool = True
    """On the leader: whether the replicas with room on their disks, of those that were heard of
    lately, are a quorum."""


class Consensus(Protocol):
    """A replicated log under one leader; nothing above knows which protocol keeps it."""

    disk_full: bool
    """Set by the caller: this node's disk is full. Travels with heartbeats and their answers."""

    rebuilding: bool
    """Whether the state that the log drives is lost here. The replica keeps its log and its vote
    and does its part for commit; it does not campaign and is given nothing to apply."""

    @property
    def role(self) -> Role:
        """What this replica is at present."""
        ...

    @property
    def term(self) -> int:
        """The newest term that this replica knows."""
        ...

    @property
    def leader(self) -> ReplicaId | None:
        """Who leads the term, as far as this replica knows."""
        ...

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the newest in the log, committed or not."""
        ...

    @property
    def last(self) -> tuple[int, int]:
        """Index and term of the last entry of the log; of its start when it is empty."""
        ...

    @property
    def log_bytes(self) -> int:
        """Size of the uncut log in memory."""
        ...

    def at(self, now: int) -> None:
        """The node's monotonic time in milliseconds; serves bounded staleness only."""
        ...

    def tick(self) -> None:
        """One unit of time has passed (``tick_ms`` of Config)."""
        ...

    def step(self, source: ReplicaId, message: ConsensusMessage) -> None:
        """Takes in a message of another replica of the group. Stale messages are dropped."""
        ...

    def propose(
        self, kind: EntryKind, stamp: int, level: int, payload: bytes
    ) -> Entry | ProposeRefusal:
        """Appends an entry on the leader (not durable yet, not committed) or says why not."""
        ...

    def read(self, token: int) -> bool:
        """Queues a linearizable read, answered in ``Ready.reads``; False on who does not lead."""
        ...

    def appended(self, index: int, term: int) -> None:
        """The write that ended with entry (index, term) is durable.

        Called in the order of the writes. What the log has replaced since then is not confirmed.
        """
        ...

    def applied(self, index: int) -> None:
        """All entries up to ``index`` have been applied."""
        ...

    def reconfigure(
        self, configuration: Configuration, stamp: int, level: int
    ) -> Entry | ProposeRefusal:
        """Appends a configuration entry; the configuration is in force from its append on."""
        ...

    def transfer(self, target: ReplicaId) -> bool:
        """Starts to hand leadership to a voter; False when that is impossible now.

        Proposals are refused from now on, for one shortest election timeout at most.
        """
        ...

    def farewell(self) -> None:
        """Tells the followers that this leader stops, so that they need not wait for a timeout.

        The leader steps down at once; on other roles nothing happens.
        """
        ...

    def connection_lost(self, replica: ReplicaId) -> None:
        """Local hint: this node's own connection to the node of ``replica`` is broken.

        A voter that follows ``replica`` starts a pre-vote at once, so the caller first waits its
        random moment and tries to reconnect.
        """
        ...

    def connection_restored(self, replica: ReplicaId) -> None:
        """Local hint: the connection stands again."""
        ...

    def compact(self, index: int) -> SnapshotMeta:
        """Entries up to ``index`` (applied, in a durable checkpoint) leave memory.

        Returns where the log starts now: index, term, stamp and the configuration in force there.
        """
        ...

    def install(self, meta: SnapshotMeta) -> bool:
        """Replaces the log by a snapshot of a later commit; False when it is not later than our
        commit.

        Entries after it stay if the log holds the snapshot's last entry; otherwise nothing stays.
        The caller writes the Installed record in the same write as the next Ready, whose
        ``messages_after_append`` acknowledges the snapshot to the leader.
        """
        ...

    def lose_state(self) -> None:
        """The state is lost or wrong: ``rebuilding`` from now on, until ``rebuild`` or ``install``.

        A leader steps down with a farewell.
        """
        ...

    def rebuild(self, meta: SnapshotMeta) -> bool:
        """The lost state is back as of ``meta.index``; what the log holds after it is delivered
        again.

        False, and nothing has changed, when the log does not reach from there to here: ``meta``
        is older than the log's start, or newer than what is committed and durable (then
        ``install`` may be right). The caller writes the StateRebuilt record.
        """
        ...

    def snapshot_failed(self, target: ReplicaId) -> None:
        """A snapshot transfer to ``target`` ended without success: probe the replica again."""
        ...

    def configuration_at(self, index: int) -> Configuration:
        """The configuration in force at ``index`` (not cut), which a snapshot of it carries."""
        ...

    def ready(self) -> Ready:
        """Drains what has to be done; empty when nothing is."""
        ...

    def has_ready(self) -> bool:
        """Whether ``ready()`` would return anything."""
        ...

    def status(self) -> Status:
        """A consistent view of this object."""
        ...

    def check_invariants(self) -> None:
        """Raises AssertionError when the object contradicts itself."""
        ...
