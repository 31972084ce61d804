"""One replica of one group: binds a consensus object, a state machine and the clients that wait.

A replica lives inside a turn of its Host and never outside. In the course of a turn it is stepped
with messages, ticks and confirmations; then it proposes what was admitted (one entry a turn,
however many commands), drains its consensus object into the turn's :class:`Outbox`, applies what
is committed and durable, and answers.

*Who waits* for what, and who is refused, is in ``requests.py``.

*Log time.* The stamp of an entry is the log time of its group in milliseconds. Only a leader
advances it, by the time its own node measured since its last turn, at most one election timeout a
turn: a stall stretches leases and never shortens them. A new leader goes on from the last stamp
in its log.

*Snapshots.* A receiver collects rows in a new space; when all have arrived and are flushed, one
record in the write-ahead log switches the replica over (see ``install``). The old space is
deleted when that record is durable.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from google.protobuf.message import DecodeError

from kvorum_proto.command_pb2 import Submission
from kvorum_server.comparison import Comparison
from kvorum_server.config import Config
from kvorum_server.consensus.core import Consensus, ProposeRefusal, Ready
from kvorum_server.events import Transition
from kvorum_server.outbox import Held, Outbox
from kvorum_server.requests import Requests
from kvorum_server.state_machine import StateMachine, UnknownLevel
from kvorum_server.storage.record import (
    EntriesAppended,
    HardStateChanged,
    LogCut,
    Record,
    StateLost,
    entry_checksum,
)
from kvorum_server.transfer import Transfers
from kvorum_server.types import (
    CATALOG_GROUP,
    FEATURE_LEVEL,
    AppendRequest,
    Configuration,
    ConsensusMessage,
    Entry,
    EntryKind,
    Envelope,
    GroupCall,
    GroupId,
    HeartbeatRequest,
    Message,
    NodeId,
    PreVoteRequest,
    ReplicaId,
    ReplicaRemoved,
    SnapshotChunk,
    SnapshotMeta,
    SnapshotResponse,
    SnapshotWanted,
    StateDamage,
    StateHash,
    VoteRequest,
)

STRANGERS_MAX = 16
CALLS_MAX = 8

REQUESTS = (PreVoteRequest, VoteRequest, AppendRequest, HeartbeatRequest)
"""What a replica that was removed may still send, because nobody has told it."""

BACKLOG_TURNS_MAX = 3
"""How many turns in a row may put off applying: to append, to acknowledge, one in between."""


class Replica:
    """See the module's text. ``machine`` rests on the rows of ``space``."""

    def __init__(
        self,
        *,
        group: GroupId,
        replica: ReplicaId,
        space: int,
        consensus: Consensus,
        machine: StateMachine,
        applied_configuration: tuple[int, Configuration],
        log_start: int,
        last_stamp: int,
        transfers: Transfers,
        leader_address: Callable[[], str],
        config: Config,
        skipped: Mapping[int, int],
    ) -> None:
        self.group = group
        self.replica = replica
        self.space = space
        self.consensus = consensus
        self.machine = machine
        self.log_start = log_start
        self.transfers = transfers
        self.leader_address = leader_address
        self.requests = Requests(config)
        self.comparison = Comparison(config)
        self.applied_configuration_index, self.applied_configuration = applied_configuration
        self.was_removed = False
        """Whether a peer has said that this replica is a member no more."""
        self.waiting_for = ""
        """What a change of members waits for, as its leader sees it."""
        status = machine.status()
        self.applied = (status.applied_index, status.applied_term)
        self.checkpoint_index = status.applied_index
        self._config = config
        self._skipped = skipped
        self._heard_from: dict[ReplicaId, NodeId] = {}
        self._committed: deque[Entry] = deque()
        self._turns_waited = 0
        # The log may hold entries that are not applied yet: log time goes on from the last of them.
        self._log_time = self._last_stamp = max(status.log_time, last_stamp)
        self._now: int | None = None
        self._was_leader = False
        self.disk_full = False

    # --- Time ---

    def at(self, now: int) -> None:
        """A turn begins at ``now`` (milliseconds of the node's monotonic clock)."""
        if self._now is not None:
            assert now >= self._now, "the node's monotonic clock went back"
            elapsed = min(now - self._now, self._config.election_timeout_ms)
            if self.is_leader:
                self._log_time += elapsed
        self._now = now
        self.consensus.at(now)

    def tick(self, disk_full: bool, outbox: Outbox) -> None:
        """A tick has passed; ``disk_full`` as this node sees its own disk."""
        self.disk_full = self.consensus.disk_full = disk_full
        self.consensus.tick()
        self.transfers.tick(self, outbox)
        if self.is_leader and not self.requests.stopping:
            due = self.machine.maintenance()
            if due is not None:
                self.requests.submit_own(due)

    @property
    def log_time(self) -> int:
        """What the next entry of this group would be stamped with here, milliseconds."""
        return max(self._log_time, self._last_stamp)

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads its group, as far as it knows."""
        return self.consensus.leader == self.replica

    def hand_over(self, connected: Collection[NodeId], target: NodeId | None) -> bool:
        """Starts to hand leadership to ``target``, or to the most caught-up connected voter."""
        if not self.is_leader:
            return False
        status = self.consensus.status()
        candidates = [
            (status.matched.get(member.replica, 0), member.replica)
            for member in status.configuration.members
            if member.replica in status.configuration.voters
            and member.replica != self.replica
            and member.replica not in self.transfers.rebuilding
            and member.identity in connected
            and target in (None, member.identity)
        ]
        return bool(candidates) and self.consensus.transfer(max(candidates)[1])

    def leave_full_disk(self, connected: Collection[NodeId]) -> None:
        """This node's disk is full: a voter that says it has room should lead."""
        status = self.consensus.status()
        roomy = map(status.configuration.identity_of, status.roomy_replicas)
        self.hand_over(set(connected).intersection(roomy), None)

    # --- Messages ---

    def step(self, peer: NodeId, envelope: Envelope, outbox: Outbox) -> None:
        """Takes in a message for this replica; one from a replica of another node than ``peer``
        is dropped.
        """
        source = envelope.source_replica
        identity = self.consensus.configuration.identity_of(source)
        if identity is not None and identity != peer:
            return
        if identity is None:
            self._hear_from(source, peer)
        message = envelope.message
        if isinstance(message, REQUESTS) and self.applied_configuration.has_lost(source):
            self.send(source, ReplicaRemoved(source), outbox)
            return
        match message:
            case SnapshotChunk():
                self.transfers.receive(self, peer, source, message, outbox)
            case SnapshotResponse():
                self.transfers.acknowledged(self, source, message)
            case SnapshotWanted():
                self.transfers.begin_rebuild(self, source, message)
            case StateHash():
                self.comparison.receive(self, source, message, outbox)
            case StateDamage():
                if self.comparison.is_damaged(self, source, message):
                    self.lose_state(outbox)
            case GroupCall():
                self._called(message)
            case ReplicaRemoved():
                self.was_removed |= message.replica == self.replica
            case _:
                self.step_consensus(source, message, outbox)

    def _hear_from(self, source: ReplicaId, peer: NodeId) -> None:
        """A replica that our log does not name: where to answer it."""
        if len(self._heard_from) >= STRANGERS_MAX:
            self._heard_from.clear()
        self._heard_from[source] = peer

    def _called(self, call: GroupCall) -> None:
        """A command that another node has for this group; who does not lead lets it go."""
        try:
            submission = Submission.FromString(call.submission)
        except DecodeError:
            return
        if self.is_leader and self.machine.admit(submission) is None:
            self.requests.submit_own(submission, CALLS_MAX)

    def step_consensus(self, source: ReplicaId, message: Message, outbox: Outbox) -> None:
        """A message of the protocol; being told that one was removed is worth a log line and no
        more.
        """
        if isinstance(message, ConsensusMessage):
            self.consensus.step(source, message)
        else:
            outbox.transitions.append(
                self.transition("removed", {"by": source, "replica": self.replica})
            )

    def identity_of(self, replica: ReplicaId) -> NodeId | None:
        """The node of a replica of this group: as the configuration has it, else as it was heard
        of. A leader may be a member that was added later than what this replica's log holds.
        """
        return self.consensus.configuration.identity_of(replica) or self._heard_from.get(replica)

    def send(self, target: ReplicaId, message: Message, outbox: Outbox) -> None:
        """Sends at once; to itself means stepping it in."""
        if target == self.replica:
            self.step_consensus(self.replica, message, outbox)
            return
        identity = self.identity_of(target)
        if identity is not None:
            outbox.send_message(identity, self.group, self.replica, target, message)

    # --- What the clients need ---

    def append(self, kind: EntryKind, level: int, payload: bytes) -> Entry | ProposeRefusal:
        """Appends an entry, stamped with the log time of the group, if this replica leads it."""
        stamp = max(self._log_time, self._last_stamp)
        outcome = self.consensus.propose(kind, stamp, level, payload)
        if isinstance(outcome, Entry):
            self._last_stamp = stamp
        return outcome

    def reconfigure(self, configuration: Configuration, level: int) -> Entry | ProposeRefusal:
        """Appends a configuration entry, if this replica leads and may do so now."""
        stamp = max(self._log_time, self._last_stamp)
        outcome = self.consensus.reconfigure(configuration, stamp, level)
        if isinstance(outcome, Entry):
            self._last_stamp = stamp
        return outcome

    def caught_up(self) -> set[ReplicaId]:
        """On the leader: the learners that hold all but the newest entries of the log."""
        status = self.consensus.status()
        enough = status.last_index - self._config.learner_lag_entries_max
        return {
            learner
            for learner in status.configuration.learners
            if status.matched.get(learner, 0) >= max(1, enough)
        }

    def is_fresh(self, staleness_ms_max: int) -> bool:
        """Whether what is applied here is at most so old, as far as this replica can tell."""
        assert self._now is not None
        fresh_at = self.consensus.status().fresh_at
        return bool(fresh_at) and self._now - fresh_at <= staleness_ms_max

    def quorum_is_full(self) -> bool:
        """Whether no quorum of nodes with disk space is left, or this node is without.

        The catalog is small, and what changes the members is what may end the shortage.
        """
        if self.group == CATALOG_GROUP:
            return False
        return self.disk_full or not self.consensus.status().quorum_has_room

    def answer(self, connection: int, ids: list[int], results: list[bytes], outbox: Outbox) -> None:
        """Answers of this turn for one client."""
        if ids:
            outbox.reply(
                connection, self.group, ids, results, self.consensus.term, self.machine.status()
            )

    # --- The turn ---

    def drain(self, outbox: Outbox) -> None:
        """Takes everything out of the consensus object; called until it has nothing left."""
        ready = self.consensus.ready()
        for change in ready.transitions:
            details: dict[str, str | int] = {
                "role": change.role.value,
                "term": change.term,
                "leader": change.leader or 0,
                "reason": change.reason,
            }
            outbox.transitions.append(self.transition("role", details))
        if self._was_leader and not self.is_leader:
            self.requests.lose_leadership(self, outbox)
            self.comparison.lose_leadership()
            self.transfers.stop_sending()
        elif self.is_leader and not self._was_leader:
            self._log_time = self._last_stamp
        self._was_leader = self.is_leader
        self._write(ready, outbox)
        for target, message in ready.messages:
            self.send(target, message, outbox)
        self._committed.extend(ready.committed)
        for read in ready.reads:
            if read.index is None:
                self.requests.refuse_reads(self, read.token, outbox)
            else:
                self.requests.readers.allow(read.token, read.index)
        for target in ready.snapshot_targets:
            self.transfers.begin(self, target)

    def _write(self, ready: Ready, outbox: Outbox) -> None:
        records: list[Record] = []
        if ready.entries:
            records.append(EntriesAppended(self.group, self.replica, tuple(ready.entries)))
            self._last_stamp = ready.entries[-1].stamp
        if ready.hard_state is not None:
            records.append(HardStateChanged(self.group, self.replica, ready.hard_state))
        outbox.records += records
        if records or ready.messages_after_append:
            last = (ready.entries[-1].index, ready.entries[-1].term) if ready.entries else (0, 0)
            held = Held(
                self.group,
                self.replica,
                self.consensus.term,
                last,
                ready.messages_after_append,
            )
            outbox.held.append(held)

    def durable(self, held: Held, outbox: Outbox) -> None:
        """A write of this replica is durable: confirm its entries, let go what waited for it."""
        index, term = held.last
        if index:
            self.consensus.appended(index, term)
        if held.term == self.consensus.term:
            for target, message in held.messages:
                self.send(target, message, outbox)

    def apply(self, outbox: Outbox) -> None:
        """Applies committed entries, as far as the turn's allowance goes; answers who waits."""
        self._turns_waited = 0
        allowance = outbox.allowance
        while self._committed and allowance.commands > 0 and not self.comparison.needs_view:
            effort = self.machine.effort
            commands = self._apply_entry(self._committed.popleft(), outbox)
            allowance.commands -= max(1, commands + self.machine.effort - effort)

    def _apply_entry(self, entry: Entry, outbox: Outbox) -> int:
        assert entry.index == self.applied[0] + 1, "entries are applied one after the other"
        if entry.level > FEATURE_LEVEL:
            raise UnknownLevel(self.group, entry)
        batch = self.requests.take(entry)
        if batch is None:
            results = self.machine.apply(self._unless_skipped(entry, outbox))
        else:
            results = self.machine.apply(entry, batch.submissions)
            self.requests.answer_batch(self, batch, results, outbox)
        if entry.kind is EntryKind.CONFIGURATION:
            self.applied_configuration = Configuration.decode(entry.payload)
            self.applied_configuration_index = entry.index
        self.applied = (entry.index, entry.term)
        self.comparison.applied(entry, hash_due=self.machine.hash_due)
        self.consensus.applied(entry.index)
        return len(results)

    def _unless_skipped(self, entry: Entry, outbox: Outbox) -> Entry:
        """The entry; or an empty one, where an operator has decided so on every node: it is an
        entry that stopped them all (``kvorum-server recover --skip-entry``).
        """
        checksum = self._skipped.get(entry.index)
        if checksum is None or checksum != entry_checksum(entry):
            return entry
        outbox.transitions.append(self.transition("entry skipped", {"index": entry.index}))
        return replace(entry, kind=EntryKind.NO_OP, payload=b"")

    @property
    def has_work(self) -> bool:
        """Whether a next turn would get on with queries or snapshots, even without events."""
        return self.requests.readers.has_work or self.transfers.has_work

    @property
    def has_backlog(self) -> bool:
        """Whether committed entries wait to be applied."""
        return bool(self._committed)

    def wait_with_backlog(self) -> bool:
        """Puts applying off for a turn; False when it was put off often enough."""
        self._turns_waited += 1
        return self._turns_waited <= BACKLOG_TURNS_MAX

    # --- Checkpoints and snapshots ---

    def meta(self) -> SnapshotMeta:
        """What a snapshot of the applied state stands for."""
        index, term = self.applied
        return SnapshotMeta(index, term, self.machine.status().log_time, self.applied_configuration)

    def cut(self, checkpoint_index: int, outbox: Outbox) -> None:
        """A checkpoint is durable: cuts the log below it, with a tail left for slow followers.

        What the checkpoint before covered goes in any case: the few entries of a quiet group would
        otherwise keep every later segment of the write-ahead log on disk.
        """
        tail = self._config.log_tail_entries
        if self.consensus.log_bytes > self._config.log_bytes_max // 2:
            tail = 0
        if any(self.log_start < skipped <= checkpoint_index for skipped in self._skipped):
            # Who gets the log and does not know what is skipped would apply it.
            tail = 0
        index = max(self.checkpoint_index, checkpoint_index - tail)
        self.checkpoint_index = max(self.checkpoint_index, checkpoint_index)
        if index <= self.log_start:
            return
        start = self.consensus.compact(index)
        self.log_start = start.index
        outbox.records.append(
            LogCut(
                self.group, self.replica, start.index, start.term, start.stamp, start.configuration
            )
        )

    def lose_state(self, outbox: Outbox) -> None:
        """The rows are lost or wrong: nobody is served from them until a snapshot has come."""
        if self.consensus.rebuilding:
            return
        self.consensus.lose_state()
        self.comparison.reset()
        self._committed.clear()
        self.requests.refuse_all_reads(self, outbox)
        outbox.records.append(StateLost(self.group, self.replica))
        outbox.transitions.append(self.transition("state lost", {"applied": self.applied[0]}))

    def install(
        self, space: int, machine: StateMachine, meta: SnapshotMeta, *, keeps_log: bool
    ) -> None:
        """Goes over to the rows of a snapshot that the consensus object has accepted."""
        self.comparison.reset()
        self.space = space
        self.machine = machine
        self.applied = (meta.index, meta.term)
        self.applied_configuration = meta.configuration
        self.applied_configuration_index = meta.index
        self.checkpoint_index = meta.index
        if not keeps_log:
            self.log_start = meta.index
        self._committed.clear()
        self._last_stamp = max(self._last_stamp, meta.stamp)
        status = machine.status()
        assert status.applied_index == meta.index, "the rows of a snapshot are those of its index"

    def close(self, outbox: Outbox) -> None:
        """The replica is gone for good: whoever waits for it is told to look elsewhere."""
        self.requests.close(self, outbox)
        self.comparison.reset()
        self.transfers.stop_sending()
        self.transfers.abandon()

    def transition(self, name: str, details: dict[str, str | int]) -> Transition:
        """Something worth a log line."""
        return Transition(name, self.group, self.replica, details)

    def check_invariants(self) -> None:
        """Raises AssertionError when the parts contradict each other."""
        self.consensus.check_invariants()
        if not self.consensus.rebuilding:
            self.machine.check_invariants()
        status = self.consensus.status()
        assert self.machine.status().applied_index == self.applied[0]
        assert status.applied == self.applied[0] or self.consensus.rebuilding
        assert self.applied[0] <= status.commit
        assert self.checkpoint_index <= self.applied[0]
        self.requests.check_invariants(is_leader=self.is_leader)
