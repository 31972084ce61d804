"""One replica of one group: binds a consensus object, a state machine and the clients that wait.

A replica lives inside a turn of its Host and never outside. In the course of a turn it is stepped
with messages, ticks and confirmations; then it proposes what was admitted (one entry a turn,
however many commands), drains its consensus object into the turn's :class:`Outbox`, applies what
is committed and durable, and answers.

*Who waits.* A leader remembers, per entry it appended, whose commands are in it (``_pending``).
When the entry is applied in the term it was appended in, the results go to them. When leadership
is lost first, each of them is told ``UNCERTAIN``: the entry may yet be committed by the next
leader.

*Log time.* The stamp of an entry is the log time of its group in milliseconds. Only a leader
advances it, by the time its own node measured since its last turn, at most one election timeout a
turn: a stall stretches leases and never shortens them. A new leader goes on from the last stamp
in its log.

*Snapshots.* A receiver collects rows in a new space; when all have arrived and are flushed, one
record in the write-ahead log switches the replica over (see ``install``). The old space is
deleted when that record is durable.
"""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from kvorum_proto.command_pb2 import (
    INVALID_REQUEST,
    NOT_LEADER,
    TOO_STALE,
    UNAVAILABLE,
    UNCERTAIN,
    CommandBatch,
    Query,
    Submission,
)
from kvorum_server.admission import (
    Admitted,
    Batch,
    Batcher,
    admit,
    busy_result,
    error_result,
)
from kvorum_server.config import Config
from kvorum_server.consensus.core import Consensus, ProposeRefusal, Ready
from kvorum_server.events import Transition
from kvorum_server.outbox import Held, Outbox
from kvorum_server.reading import Readers
from kvorum_server.state_machine import StateMachine, UnknownLevel
from kvorum_server.storage.record import EntriesAppended, HardStateChanged, LogCut, Record
from kvorum_server.transfer import Transfers
from kvorum_server.types import (
    FEATURE_LEVEL,
    Configuration,
    ConsensusMessage,
    Entry,
    EntryKind,
    Envelope,
    GroupId,
    Message,
    NodeId,
    ReplicaId,
    SnapshotChunk,
    SnapshotMeta,
    SnapshotResponse,
)

BUSY_RETRY_MS = 20

BACKLOG_TURNS_MAX = 3
"""How many turns in a row may put off applying: to append, to acknowledge, one in between."""

NOBODY = 0
"""The connection of commands that the node itself proposes; real ones count from 1."""


@dataclass(slots=True)
class Pending:
    """An entry that this leader appended, and who waits for it."""

    term: int
    batch: Batch


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
        applied_configuration: Configuration,
        log_start: int,
        last_stamp: int,
        transfers: Transfers,
        leader_address: Callable[[], str],
        config: Config,
    ) -> None:
        self.group = group
        self.replica = replica
        self.space = space
        self.consensus = consensus
        self.machine = machine
        self.log_start = log_start
        self.transfers = transfers
        self.leader_address = leader_address
        self.readers = Readers(config)
        self.applied_configuration = applied_configuration
        status = machine.status()
        self.applied = (status.applied_index, status.applied_term)
        self.checkpoint_index = status.applied_index
        self._config = config
        self._batcher = Batcher(config)
        self._pending: dict[int, Pending] = {}
        self._pending_commands = 0
        self._committed: deque[Entry] = deque()
        self._turns_waited = 0
        # The log may hold entries that are not applied yet: log time goes on from the last of them.
        self._log_time = self._last_stamp = max(status.log_time, last_stamp)
        self._now: int | None = None
        self._was_leader = False
        self.disk_full = False
        self.stopping = False

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
        if self.is_leader and not self.stopping:
            due = self.machine.maintenance()
            if due is not None:
                self._propose_own(due)

    def _propose_own(self, submission: Submission) -> None:
        """A command of the group itself: no session, nobody waits."""
        if not self._batcher.batches and not self._pending:
            encoded = CommandBatch(submissions=[submission]).SerializeToString()
            self._pending_commands += 1
            self._batcher.add(NOBODY, Admitted([submission], [0], encoded))

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
            and member.identity in connected
            and target in (None, member.identity)
        ]
        return bool(candidates) and self.consensus.transfer(max(candidates)[1])

    def leave_full_disk(self, connected: Collection[NodeId]) -> None:
        """This node's disk is full: a voter whose disk is not should lead."""
        status = self.consensus.status()
        full = map(status.configuration.identity_of, status.full_replicas)
        self.hand_over(set(connected).difference(full), None)

    # --- Messages ---

    def step(self, peer: NodeId, envelope: Envelope, outbox: Outbox) -> None:
        """Takes in a message for this replica; one from a replica of another node than ``peer``
        is dropped.
        """
        source = envelope.source_replica
        identity = self.consensus.configuration.identity_of(source)
        if identity is not None and identity != peer:
            return
        message = envelope.message
        match message:
            case SnapshotChunk():
                self.transfers.receive(self, peer, source, message, outbox)
            case SnapshotResponse():
                self.transfers.acknowledged(self, source, message)
            case _:
                self.step_consensus(source, message, outbox)

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

    def send(self, target: ReplicaId, message: Message, outbox: Outbox) -> None:
        """Sends at once; to itself means stepping it in."""
        if target == self.replica:
            self.step_consensus(self.replica, message, outbox)
            return
        identity = self.consensus.configuration.identity_of(target)
        if identity is not None:
            outbox.send_message(identity, self.group, self.replica, target, message)

    # --- Requests ---

    def submit(
        self, connection: int, ids: tuple[int, ...], commands: bytes, outbox: Outbox
    ) -> None:
        """Commands of a client: refused here, or part of this turn's entry."""
        refusal = self._refuse_request(self._pending_commands + len(ids))
        if refusal is not None:
            self.answer(connection, list(ids), [refusal] * len(ids), outbox)
            return
        admitted = admit(commands, ids, self.machine, self._quorum_is_full())
        if admitted.refused_ids:
            self.answer(connection, admitted.refused_ids, admitted.refusals, outbox)
        self._pending_commands += len(admitted.submissions)
        self._batcher.add(connection, admitted)

    def ask(
        self, connection: int, ids: tuple[int, ...], queries: tuple[Query, ...], outbox: Outbox
    ) -> None:
        """Queries of a client: linearizable ones wait for a read round, stale ones for this
        turn's end.
        """
        for request, query in zip(ids, queries, strict=True):
            if query.consistency == Query.STALE:
                refusal = self._refuse_stale(query.staleness_ms_max)
            else:
                refusal = self._refuse_request(self.readers.waiting + 1)
            if refusal is not None:
                self.answer(connection, [request], [refusal], outbox)
            elif query.consistency == Query.STALE:
                self.readers.add_stale(connection, request, query)
            elif query.consistency == Query.LINEARIZABLE:
                self.readers.add(connection, request, query)
            else:
                unknown = error_result(
                    INVALID_REQUEST, "unknown consistency; use LINEARIZABLE or STALE"
                )
                self.answer(connection, [request], [unknown], outbox)

    def _refuse_request(self, waiting: int) -> bytes | None:
        if self.stopping:
            return error_result(UNAVAILABLE, "the node is stopping; ask another one")
        if not self.is_leader:
            return self._not_leader()
        if waiting > self._config.pending_commands_max:
            return busy_result(BUSY_RETRY_MS)
        return None

    def _not_leader(self) -> bytes:
        address = self.leader_address()
        return error_result(NOT_LEADER, "this node does not lead the group", leader=address)

    def _refuse_stale(self, staleness_ms_max: int) -> bytes | None:
        if staleness_ms_max == 0 or self.is_leader:
            return None
        assert self._now is not None
        fresh_at = self.consensus.status().fresh_at
        if fresh_at and self._now - fresh_at <= staleness_ms_max:
            return None
        return error_result(
            TOO_STALE,
            f"this replica may be over {staleness_ms_max} ms behind its leader; ask another one",
        )

    def _quorum_is_full(self) -> bool:
        status = self.consensus.status()
        voters = status.configuration.voters
        with_room = sum(1 for voter in voters if voter not in status.full_replicas)
        return self.disk_full or with_room <= len(voters) // 2

    def answer(self, connection: int, ids: list[int], results: list[bytes], outbox: Outbox) -> None:
        """Answers of this turn for one client."""
        if ids:
            outbox.reply(
                connection, self.group, ids, results, self.consensus.term, self.machine.status()
            )

    def forget(self, connection: int) -> None:
        """The client is gone: nobody takes the answers of its queries."""
        self.readers.forget(connection)

    # --- The turn ---

    def propose(self, level: int, outbox: Outbox) -> None:
        """Appends what was admitted in this turn and starts a read round for what was asked."""
        for batch in self._batcher.take():
            stamp = max(self._log_time, self._last_stamp)
            outcome = self.consensus.propose(EntryKind.COMMANDS, stamp, level, batch.payload())
            if isinstance(outcome, Entry):
                self._last_stamp = stamp
                self._pending[outcome.index] = Pending(outcome.term, batch)
            else:
                self._refuse_batch(batch, outcome, outbox)
        if self.readers.has_new:
            token = self.readers.seal()
            if not self.consensus.read(token):
                self._refuse_reads(token, outbox)

    def _refuse_batch(self, batch: Batch, refusal: ProposeRefusal, outbox: Outbox) -> None:
        self._pending_commands -= len(batch.submissions)
        not_leader = refusal is ProposeRefusal.NOT_LEADER
        result = self._not_leader() if not_leader else busy_result(BUSY_RETRY_MS)
        for connection, ids in batch.takers:
            self.answer(connection, ids, [result] * len(ids), outbox)

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
            self._lose_leadership(outbox)
        elif self.is_leader and not self._was_leader:
            self._log_time = self._last_stamp
        self._was_leader = self.is_leader
        self._write(ready, outbox)
        for target, message in ready.messages:
            self.send(target, message, outbox)
        self._committed.extend(ready.committed)
        for read in ready.reads:
            if read.index is None:
                self._refuse_reads(read.token, outbox)
            else:
                self.readers.allow(read.token, read.index)
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
            held = Held(self.group, self.consensus.term, last, ready.messages_after_append)
            outbox.held.append(held)

    def durable(self, held: Held, outbox: Outbox) -> None:
        """A write of this replica is durable: confirm its entries, let go what waited for it."""
        index, term = held.last
        if index:
            self.consensus.appended(index, term)
        if held.term == self.consensus.term:
            for target, message in held.messages:
                self.send(target, message, outbox)

    def _lose_leadership(self, outbox: Outbox) -> None:
        result = error_result(
            UNCERTAIN, "leadership was lost before the command was committed; ask again"
        )
        for pending in self._pending.values():
            for connection, ids in pending.batch.takers:
                self.answer(connection, ids, [result] * len(ids), outbox)
        self._pending.clear()
        self._pending_commands = 0
        self.transfers.stop_sending()

    def _refuse_reads(self, token: int, outbox: Outbox) -> None:
        result = self._not_leader()
        for connection, request in self.readers.refuse(token):
            self.answer(connection, [request], [result], outbox)

    def apply(self, outbox: Outbox) -> None:
        """Applies committed entries, up to ``apply_commands_max`` commands; answers who waits."""
        self._turns_waited = 0
        budget = self._config.apply_commands_max
        while self._committed and budget > 0:
            entry = self._committed.popleft()
            budget -= max(1, self._apply_entry(entry, outbox))

    def _apply_entry(self, entry: Entry, outbox: Outbox) -> int:
        assert entry.index == self.applied[0] + 1, "entries are applied one after the other"
        if entry.level > FEATURE_LEVEL:
            raise UnknownLevel(self.group, entry)
        pending = self._pending.pop(entry.index, None)
        if pending is None:
            results = self.machine.apply(entry)
        else:
            assert pending.term == entry.term, "an entry of ours was replaced while we lead"
            self._pending_commands -= len(pending.batch.submissions)
            results = self.machine.apply(entry, pending.batch.submissions)
            self._answer_batch(pending.batch, results, outbox)
        if entry.kind is EntryKind.CONFIGURATION:
            self.applied_configuration = Configuration.decode(entry.payload)
        self.applied = (entry.index, entry.term)
        self.consensus.applied(entry.index)
        return len(results)

    def _answer_batch(self, batch: Batch, results: list[bytes], outbox: Outbox) -> None:
        position = 0
        for connection, ids in batch.takers:
            self.answer(connection, ids, results[position : position + len(ids)], outbox)
            position += len(ids)
        assert position == len(results), "one result for each command"

    @property
    def has_work(self) -> bool:
        """Whether a next turn would get on with queries or snapshots, even without events."""
        return self.readers.has_work or self.transfers.has_work

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

    def install(self, space: int, machine: StateMachine, meta: SnapshotMeta) -> None:
        """Goes over to the rows of a snapshot that the consensus object has accepted."""
        self.space = space
        self.machine = machine
        self.applied = (meta.index, meta.term)
        self.applied_configuration = meta.configuration
        self.checkpoint_index = meta.index
        self.log_start = meta.index
        self._committed.clear()
        self._last_stamp = max(self._last_stamp, meta.stamp)
        status = machine.status()
        assert status.applied_index == meta.index, "the rows of a snapshot are those of its index"

    def transition(self, name: str, details: dict[str, str | int]) -> Transition:
        """Something worth a log line."""
        return Transition(name, self.group, self.replica, details)

    def check_invariants(self) -> None:
        """Raises AssertionError when the parts contradict each other."""
        self.consensus.check_invariants()
        self.machine.check_invariants()
        status = self.consensus.status()
        assert self.machine.status().applied_index == self.applied[0]
        assert status.applied == self.applied[0]
        assert self.applied[0] <= status.commit
        assert self.checkpoint_index <= self.applied[0]
        assert self._pending_commands >= 0
        assert not self._pending or self.is_leader
