"""Raft, as a deterministic object that is fed and drained (see ``core.py`` for the contract).

The protocol is that of the paper ("In Search of an Understandable Consensus Algorithm", extended
version); section numbers below refer to it, "thesis" to Ongaro's. A replica is one of three things:

                 timeout: pre-vote          quorum of votes, all durable
    Follower ------------------> Candidate -----------------------------> Leader
       ^   ^                        |   | ^                                 |
       |   +--- lost, or a leader --+   +-+ pre-vote won: term + 1          |
       +------------ a later term, a quorum not heard of, removed ----------+

``Raft`` holds what every role needs (term, vote, log, commit index) and judges what does not
depend on the role: terms and votes. The role objects ``Follower``, ``Candidate`` and ``Leader``
hold what dies with the role. A *learner* is a follower that is no voter.

What keeps it safe:

-   *Durability is in the type.* A vote and an acceptance are promises: ``promise`` puts them
    behind the write of the same Ready, ``send`` is for what promises nothing. A candidate
    promises its own vote to itself and its requests wait for that write, so no election is won,
    not even by a group of one, with a vote that a crash could undo. The leader sends entries
    before its own fsync; its log counts for commit only as far as it is durable.
-   *Commit by counting is for entries of the own term* (5.4.2, figure 8); those before come along.
    A new leader therefore starts with a no-op entry.
-   *Acceptances are bound to a term*, and term, commit and matched index never go back: asserted
    here.

What keeps it calm:

-   *Pre-vote* (thesis 9.6): who cannot win does not raise the term. Nothing is changed by asking
    or granting.
-   *Stickiness* (thesis 4.2.3): who has heard a living leader within the shortest election timeout
    helps nobody else to power, except by the leader's own order (transfer), after its farewell, or
    when both the candidate and the voter have lost their own connection to it.
-   *Check-quorum*: a leader that has not heard a quorum for the longest election timeout steps
    down.
-   *Commit indexes travel* with the next append or, when nothing follows, with a heartbeat at the
    next tick.

*A lost state* (``rebuilding``) costs neither log nor vote: entries are stored and acknowledged,
votes given, as by anybody. But who cannot serve must not lead, so it does not campaign, not even
when told to; and nothing is delivered until a snapshot says where apply goes on.

Left out: who becomes a voter when (``reconcile.py``, the caller's); quorums are right for any
configuration. Lease reads. The caller limits its ticks after a stall, so that it does not campaign
at once.
"""

from collections.abc import Sequence
from typing import assert_never

from kvorum_server.config import Config
from kvorum_server.consensus.core import (
    ProposeRefusal,
    Randomness,
    Ready,
    Role,
    Status,
    Transition,
)
from kvorum_server.consensus.leader import Leader
from kvorum_server.consensus.log import Log
from kvorum_server.consensus.quorum import Outcome, Tally
from kvorum_server.consensus.reads import ReadRounds
from kvorum_server.types import (
    AppendRequest,
    AppendResponse,
    Configuration,
    ConsensusMessage,
    Entry,
    EntryKind,
    Farewell,
    HardState,
    HeartbeatRequest,
    HeartbeatResponse,
    PreVoteRequest,
    PreVoteResponse,
    ReplicaId,
    SnapshotMeta,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)

LOG_OVERRUN = 2
"""An uncut log may grow to so many times the size at which a checkpoint becomes due."""

FAREWELL_TICKS_MAX = 3
"""After a farewell the followers campaign within so many ticks, spread to avoid collisions."""


class Raft:
    """One replica of a group: what outlives its roles, and the judgement of terms and votes."""

    def __init__(
        self,
        *,
        replica: ReplicaId,
        boot: int,
        config: Config,
        randomness: Randomness,
        configuration: Configuration,
        hard_state: HardState,
        log_start: tuple[int, int],
        log_start_stamp: int = 0,
        entries: Sequence[Entry] = (),
        applied: int = 0,
        rebuilding: bool = False,
    ) -> None:
        """Starts as a follower from what is durable.

        ``log_start`` is (index, term) of the last entry that was cut, (0, 0) at birth, and
        ``configuration`` the one in force there. ``applied`` may be ahead of the commit index that
        was saved: only committed entries are ever applied.
        """
        self.replica = replica
        self.config = config
        self.randomness = randomness
        self.log = Log(
            start=log_start,
            start_stamp=log_start_stamp,
            configuration=configuration,
            entries=entries,
        )
        # Should entries of a term have survived without its hard state, then nothing was promised
        # in that term yet.
        self.term = max(hard_state.term, self.log.last_term)
        self.vote = hard_state.vote if self.term == hard_state.term else 0
        self.commit = max(hard_state.commit, applied, self.log.start_index)
        self.leader: ReplicaId | None = None
        self.reads = ReadRounds(boot)
        self.disk_full = False
        self.rebuilding = rebuilding
        self.now_ms = 0
        self.disconnected: set[ReplicaId] = set()
        self.output = Ready()
        self._saved = hard_state
        self._installed = False
        self._applied = max(applied, self.log.start_index)
        self._delivered = self._applied
        assert self.commit <= self.log.last_index, "what is committed here was durable here"
        self._restart_timeout()
        self.state: Follower | Candidate | Leader = Follower(self)

    # --- Input ---

    def at(self, now: int) -> None:
        """The caller's monotonic time, milliseconds."""
        assert now >= self.now_ms, "the caller's clock is monotonic"
        self.now_ms = now

    def tick(self) -> None:
        """One unit of time has passed."""
        self.elapsed += 1
        self.state.tick()

    def step(self, source: ReplicaId, message: ConsensusMessage) -> None:
        """Takes in a message: terms and votes are judged here, the rest by the role."""
        if isinstance(message, PreVoteRequest):
            self._judge_pre_vote(source, message)
            return
        if isinstance(message, VoteRequest) and self._disregards(message):
            return
        if message.term > self.term and not _is_granted_pre_vote(message):
            from_leader = isinstance(message, AppendRequest | HeartbeatRequest)
            self.become_follower(
                message.term, source if from_leader else None, f"later term from {source}"
            )
        if message.term < self.term:
            self._answer_stale(source, message)
        elif isinstance(message, VoteRequest):
            self._judge_vote(source, message)
        else:
            self.state.step(source, message)

    def propose(
        self, kind: EntryKind, stamp: int, level: int, payload: bytes
    ) -> Entry | ProposeRefusal:
        """Appends an entry on the leader, or says why not."""
        assert kind is not EntryKind.CONFIGURATION, "configurations go through reconfigure"
        if not isinstance(self.state, Leader):
            return ProposeRefusal.NOT_LEADER
        return self.state.propose(kind, stamp, level, payload)

    def reconfigure(
        self, configuration: Configuration, stamp: int, level: int
    ) -> Entry | ProposeRefusal:
        """Appends a configuration entry, in force at once.

        Refused until the one before and an entry of the leader's own term are committed: without
        the latter two leaders could change the same configuration differently (raft-dev, July
        2015).
        """
        if not isinstance(self.state, Leader):
            return ProposeRefusal.NOT_LEADER
        return self.state.reconfigure(configuration, stamp, level)

    def read(self, token: int) -> bool:
        """Queues a linearizable read for the next read-index round."""
        if not isinstance(self.state, Leader):
            return False
        self.reads.queue(token)
        return True

    def appended(self, index: int, term: int) -> None:
        """The write that ended with (index, term) is durable."""
        if self.log.confirm(index, term) and isinstance(self.state, Leader):
            self.state.advance_commit()

    def applied(self, index: int) -> None:
        """All entries up to ``index`` have been applied."""
        assert index <= self._delivered, "only what was delivered is applied"
        self._applied = max(self._applied, index)

    @property
    def applied_index(self) -> int:
        """Everything up to here has been applied."""
        return self._applied

    def transfer(self, target: ReplicaId) -> bool:
        """Starts to hand leadership to a voter that is up and not waiting for a snapshot."""
        return isinstance(self.state, Leader) and self.state.transfer(target)

    def farewell(self, reason: str = "farewell") -> None:
        """Sends the followers a farewell and steps down."""
        if isinstance(self.state, Leader):
            for replica in self.state.followers:
                self.send(replica, Farewell(self.term))
            self.become_follower(self.term, None, reason)

    def connection_lost(self, replica: ReplicaId) -> None:
        """A follower whose leader this is starts a pre-vote at once."""
        self.disconnected.add(replica)
        if isinstance(self.state, Follower) and self.leader == replica and self.may_campaign():
            self.campaign(connection_lost=True)

    def connection_restored(self, replica: ReplicaId) -> None:
        """The connection stands again."""
        self.disconnected.discard(replica)

    def compact(self, index: int) -> SnapshotMeta:
        """Entries up to ``index`` leave memory; returns where the log starts now."""
        assert index <= self._applied, "what is not applied is needed"
        self.log.cut(index)
        return self.log.start()

    def install(self, meta: SnapshotMeta) -> bool:
        """Replaces the log up to ``meta.index`` by a snapshot (section 7)."""
        if meta.index <= self.commit:
            return False
        assert not isinstance(self.state, Leader), "a leader holds everything that is committed"
        self.log.install(meta)
        self.commit = self._applied = self._delivered = meta.index
        self._installed = True
        self.rebuilding = False
        if self.leader is not None:
            self.promise(self.leader, AppendResponse(self.term, True, matched_index=meta.index))
        return True

    def lose_state(self) -> None:
        """From now on nothing is delivered, and this replica does not lead."""
        self.rebuilding = True
        self.farewell()
        if isinstance(self.state, Candidate):
            self.become_follower(self.term, None, "the state is lost")

    def rebuild(self, meta: SnapshotMeta) -> bool:
        """The log goes from ``meta.index`` on unbroken: apply begins there again."""
        assert self.rebuilding, "a state that was not lost is not rebuilt"
        if not self.log.start_index <= meta.index <= min(self.commit, self.log.durable):
            return False
        assert self.log.term_of(meta.index) == meta.term, "what is committed is the same everywhere"
        self._applied = self._delivered = meta.index
        self.rebuilding = False
        return True

    def snapshot_failed(self, target: ReplicaId) -> None:
        """Probes the replica again."""
        if isinstance(self.state, Leader):
            self.state.snapshot_failed(target)

    # --- Output ---

    def has_ready(self) -> bool:
        """Whether ``ready()`` would return anything."""
        output = self.output
        return bool(
            output.messages
            or output.messages_after_append
            or output.reads
            or output.snapshot_targets
            or output.transitions
            or self.log.written < self.log.last_index
            or self._delivered < self._deliverable()
            or self.term != self._saved.term
            or self.vote != self._saved.vote
            or self._installed
            or (isinstance(self.state, Leader) and self.state.has_work())
        )

    def ready(self) -> Ready:
        """Drains what has to be done.

        The commit index alone is not worth a write: it travels with the entries and term changes
        that need one. What is saved of it never runs ahead of the durable log, which a crash could
        shorten.
        """
        if isinstance(self.state, Leader):
            self.state.flush()
        output, self.output = self.output, Ready()
        output.entries = self.log.take_unwritten()
        committed = min(self.commit, self.log.durable)
        if self._deliverable() > self._delivered:
            output.committed = self.log.entries(self._delivered + 1, committed)
            self._delivered = committed
        hard_state = HardState(self.term, self.vote, max(committed, self._saved.commit))
        changed = (self.term, self.vote) != (self._saved.term, self._saved.vote)
        behind = hard_state.commit > self._saved.commit
        if changed or (output.entries and behind) or self._installed:
            self._installed = False
            assert hard_state.term >= self._saved.term, "terms never go back on disk"
            output.hard_state = self._saved = hard_state
        return output

    @property
    def role(self) -> Role:
        """What this replica is at present."""
        match self.state:
            case Leader():
                return Role.LEADER
            case Candidate():
                return Role.CANDIDATE
            case Follower():
                return Role.FOLLOWER if self._is_voter() else Role.LEARNER
            case _:
                assert_never(self.state)

    @property
    def configuration(self) -> Configuration:
        """The configuration in force."""
        return self.log.configuration

    @property
    def last(self) -> tuple[int, int]:
        """Index and term of the last entry."""
        return self.log.last_index, self.log.last_term

    @property
    def log_bytes(self) -> int:
        """Size of the uncut log in memory."""
        return self.log.bytes

    @property
    def log_is_overlong(self) -> bool:
        """Whether no more should be added to the uncut log before some of it is applied, made
        durable as state, and cut.
        """
        return self.log.bytes > LOG_OVERRUN * self.config.log_bytes_max

    def status(self) -> Status:
        """A consistent view of this object."""
        leader = self.state if isinstance(self.state, Leader) else None
        return Status(
            replica=self.replica,
            role=self.role,
            term=self.term,
            vote=self.vote,
            leader=self.leader,
            commit=self.commit,
            applied=self._applied,
            durable=self.log.durable,
            first_index=self.log.first_index,
            last_index=self.log.last_index,
            configuration=self.log.configuration,
            matched=leader.matched() if leader else {},
            log_bytes=self.log.bytes,
            fresh_at=(
                self.state.fresh_at(self._applied) if isinstance(self.state, Follower) else 0
            ),
            full_replicas=leader.full_replicas() if leader else frozenset(),
            roomy_replicas=leader.roomy_replicas() if leader else frozenset(),
            quorum_has_room=leader.quorum_has_room() if leader else True,
        )

    def configuration_at(self, index: int) -> Configuration:
        """The configuration in force at ``index``."""
        return self.log.configuration_at(index)

    def check_invariants(self) -> None:
        """Raises AssertionError when the object contradicts itself."""
        self.log.check_invariants()
        assert self.log.start_index <= self._applied <= self._delivered <= self.commit
        assert self._delivered <= self.log.durable, "only durable entries are delivered"
        assert self.commit <= self.log.last_index
        assert self.term >= self.log.last_term
        assert self.term >= self._saved.term
        assert isinstance(self.state, Leader) == (self.leader == self.replica)
        assert not (self.rebuilding and self.leader == self.replica), "who lost its state leads"
        if isinstance(self.state, Leader):
            self.state.check_invariants()
        else:
            assert self.reads.round.counter == 0, "rounds die with the leadership"

    # --- What the roles share ---

    def send(self, target: ReplicaId, message: ConsensusMessage) -> None:
        """Sends what promises nothing: it may leave at once."""
        self.output.messages.append((target, message))

    def promise(
        self, target: ReplicaId, message: VoteResponse | AppendResponse | VoteRequest
    ) -> None:
        """Sends what is true only once everything written so far is durable."""
        self.output.messages_after_append.append((target, message))

    def commit_to(self, index: int) -> None:
        """Raises the commit index."""
        assert index <= self.log.last_index, "what is committed is in the log"
        assert index >= self.commit, "the commit index never falls"
        self.commit = index

    def may_campaign(self) -> bool:
        """Only voters campaign, those of the outgoing half included, and only with a state.

        So does one whose removal is not known to be committed: if no other log has that entry yet,
        nobody else can win (thesis 4.2.2). It wins by the votes of the others alone.
        """
        return (self._is_voter() or self._was_voter()) and not self.rebuilding

    def campaign(self, *, connection_lost: bool) -> None:
        """Asks for pre-votes; the term stays as it is."""
        assert self.may_campaign(), "learners and strangers never campaign"
        assert not isinstance(self.state, Leader), "a leader has nothing to campaign for"
        self.leader = None
        self._restart_timeout()
        candidate = Candidate(self, is_pre_vote=True, connection_lost=connection_lost)
        self.state = candidate
        self._transition("lost its connection to the leader" if connection_lost else "timeout")
        request = PreVoteRequest(
            self.term + 1, self.log.last_index, self.log.last_term, connection_lost
        )
        for replica in self._other_voters():
            self.send(replica, request)
        candidate.count(self.replica, True)

    def stand_for_election(self, *, transfer: bool, connection_lost: bool) -> None:
        """Starts the next term as a candidate (5.2). The own vote is a promise like any other."""
        assert self.may_campaign(), "learners and strangers never campaign"
        self._enter_term(self.term + 1)
        self.vote = self.replica
        self.leader = None
        self._restart_timeout()
        self.state = Candidate(self, is_pre_vote=False, connection_lost=connection_lost)
        self._transition("transfer" if transfer else "pre-vote won")
        self.promise(self.replica, VoteResponse(self.term, True))
        request = VoteRequest(
            self.term, self.log.last_index, self.log.last_term, transfer, connection_lost
        )
        for replica in self._other_voters():
            self.promise(replica, request)

    def become_follower(self, term: int, leader: ReplicaId | None, reason: str) -> None:
        """Follows ``leader``, or nobody yet, in ``term``."""
        assert term >= self.term, "terms never fall"
        assert leader != self.replica, "nobody follows itself"
        if term > self.term:
            self._enter_term(term)
        self.output.reads += self.reads.refuse_all()
        self.leader = leader
        self._restart_timeout()
        self.state = Follower(self)
        self._transition(reason)

    def _enter_term(self, term: int) -> None:
        """What was promised in the term before and has not left yet never will: what it spoke of
        may be replaced before it is durable.
        """
        self.term = term
        self.vote = 0
        self.output.messages_after_append.clear()

    def become_leader(self) -> None:
        """Leads the term it was elected for, beginning with a no-op of that term (5.4.2, 8)."""
        assert self.vote == self.replica, "a leader has voted for itself"
        assert isinstance(self.state, Candidate), "leaders are elected"
        assert not self.state.is_pre_vote, "a pre-vote elects nobody"
        assert self.log.last_term < self.term, "one leader per term: it makes the first entry"
        self.leader = self.replica
        self._restart_timeout()
        self.state = Leader(self)
        self._transition("elected")

    def follow(self, leader: ReplicaId) -> None:
        """Has heard the leader of the present term."""
        assert self.leader in (None, leader), "two leaders in one term"
        assert not isinstance(self.state, Leader), "two leaders in one term"
        self.elapsed = 0
        if self.leader is None or not isinstance(self.state, Follower):
            self.become_follower(self.term, leader, "heard the leader")

    def _is_voter(self) -> bool:
        return self.replica in self.log.configuration.all_voters()

    def _was_voter(self) -> bool:
        """Whether this replica votes in the newest configuration that it knows to be committed."""
        committed = self.log.configuration_at(self.commit)
        return self.replica in committed.all_voters()

    def _deliverable(self) -> int:
        return self._delivered if self.rebuilding else min(self.commit, self.log.durable)

    def _other_voters(self) -> list[ReplicaId]:
        return sorted(self.log.configuration.all_voters() - {self.replica})

    def _restart_timeout(self) -> None:
        self.elapsed = 0
        self.timeout = self.randomness.randrange(
            self.config.election_ticks_min, self.config.election_ticks_max
        )

    def _transition(self, reason: str) -> None:
        self.output.transitions.append(Transition(self.role, self.term, self.leader, reason))

    # --- Terms and votes ---

    def _judge_pre_vote(self, source: ReplicaId, request: PreVoteRequest) -> None:
        """Would we vote for ``source`` in a later term? Saying so changes neither term nor vote."""
        granted = (
            request.term > self.term
            and not self._is_loyal(request.connection_lost)
            and not self._is_empty()
            and self.log.is_up_to_date(request.last_index, request.last_term)
        )
        self.send(source, PreVoteResponse(request.term if granted else self.term, granted))
        if granted and self._yields_to(source, request):
            self.become_follower(self.term, None, f"yields to {source}")
        elif not granted and self._can_win_over(request):
            self.campaign(connection_lost=True)

    def _yields_to(self, source: ReplicaId, request: PreVoteRequest) -> bool:
        """Of two that ask for pre-votes at the same time one stands back: no split votes.

        A broken connection makes all followers of a dead leader campaign at nearly the same moment.
        """
        if not isinstance(self.state, Candidate) or not self.state.is_pre_vote:
            return False
        theirs = (request.last_term, request.last_index, source)
        return theirs > (self.log.last_term, self.log.last_index, self.replica)

    def _can_win_over(self, request: PreVoteRequest) -> bool:
        """Whether one who lost the leader later than we did, and whose log is behind, may help us.

        It was loyal when we asked and cannot win itself: if we did not begin anew both would wait
        for an election timeout. It does not ask back, since our log is not behind.
        """
        return (
            isinstance(self.state, Candidate)
            and self.state.is_pre_vote
            and self.state.connection_lost
            and request.connection_lost
            and not self.log.is_up_to_date(request.last_index, request.last_term)
        )

    def _judge_vote(self, source: ReplicaId, request: VoteRequest) -> None:
        """One vote per term, for a log at least as complete as ours (5.2, 5.4.1)."""
        assert request.term == self.term, "older requests are answered, later ones adopted before"
        granted = (
            self.vote in (0, source)
            and self.leader is None
            and not self._is_empty()
            and self.log.is_up_to_date(request.last_index, request.last_term)
        )
        if not granted:
            self.send(source, VoteResponse(self.term, False))
            return
        assert not isinstance(self.state, Leader), "a leader has given its vote to itself"
        self.vote = source
        self.elapsed = 0
        self.promise(source, VoteResponse(self.term, True))

    def _disregards(self, request: VoteRequest) -> bool:
        """A voter with a living leader ignores a later term, unless the leader wants it."""
        return (
            request.term > self.term
            and not request.transfer
            and self._is_loyal(request.connection_lost)
        )

    def _is_loyal(self, connection_lost: bool) -> bool:
        """Stickiness: has a living leader been heard of within the shortest election timeout?

        ``connection_lost`` is the candidate's word that it has lost its connection to the leader;
        it counts only where our own connection to that leader is down as well.
        """
        if isinstance(self.state, Leader):
            return True
        if self.leader is None or self.elapsed >= self.config.election_ticks_min:
            return False
        return not (connection_lost and self.leader in self.disconnected)

    def _is_empty(self) -> bool:
        """A replica that was never told anything: it may be the ghost of one that forgot, so no
        vote.

        Initial members know the first configuration from the bootstrap record and are not empty.
        """
        return self.log.last_index == 0 and not self._is_voter()

    def _answer_stale(self, source: ReplicaId, message: ConsensusMessage) -> None:
        """Tells an old leader or candidate the present term, so that it steps down."""
        assert message.term < self.term, "this is for messages of older terms"
        match message:
            case AppendRequest():
                refused = message.previous_index
                self.send(source, AppendResponse(self.term, False, refused_index=refused))
            case HeartbeatRequest():
                self.send(source, HeartbeatResponse(self.term, sent_at=self.now_ms))
            case VoteRequest():
                self.send(source, VoteResponse(self.term, False))
            case _:
                return


def _is_granted_pre_vote(message: ConsensusMessage) -> bool:
    """Granted pre-votes carry the term that was asked for, which nobody is in yet."""
    return isinstance(message, PreVoteResponse) and message.granted


class Follower:
    """Takes in what the leader sends; campaigns when it hears none."""

    __slots__ = ("_answered_at", "_fresh_at", "_vouched", "raft")

    def __init__(self, raft: Raft) -> None:
        self.raft = raft
        self._fresh_at = 0
        self._vouched: tuple[int, int] | None = None
        """(commit index, time): when that much is applied, the state is as fresh as that."""
        self._answered_at: int | None = None

    def fresh_at(self, applied: int) -> int:
        """See ``Status.fresh_at``."""
        if self._vouched is not None and self._vouched[0] <= applied:
            self._fresh_at = max(self._fresh_at, self._vouched[1])
            self._vouched = None
        return self._fresh_at

    def tick(self) -> None:
        """Campaigns when the election timeout has passed without a leader."""
        raft = self.raft
        if raft.elapsed >= raft.timeout and raft.may_campaign():
            raft.campaign(connection_lost=raft.leader in raft.disconnected)

    def step(self, source: ReplicaId, message: ConsensusMessage) -> None:
        """Messages of the present term."""
        raft = self.raft
        match message:
            case AppendRequest():
                raft.follow(source)
                self._append(source, message)
            case HeartbeatRequest():
                raft.follow(source)
                assert isinstance(raft.state, Follower), "who follows is a follower"
                raft.state.answer_heartbeat(source, message)
            case TimeoutNow() if source == raft.leader and raft.may_campaign():
                # The leader itself asks: nobody needs to be asked whether it is gone (thesis 3.10).
                raft.stand_for_election(transfer=True, connection_lost=False)
            case Farewell() if source == raft.leader:
                raft.become_follower(raft.term, None, "the leader said farewell")
                raft.timeout = raft.randomness.randrange(1, FAREWELL_TICKS_MAX + 1)
            case _:
                # Answers to a role that we no longer have, or orders of somebody who does not lead.
                return

    def _append(self, source: ReplicaId, request: AppendRequest) -> None:
        """The receiver's part of AppendEntries (figure 2)."""
        raft = self.raft
        log = raft.log
        if request.previous_index < raft.commit:
            # An old request, or a probe that went back too far: up to our commit all logs agree.
            raft.promise(source, AppendResponse(raft.term, True, matched_index=raft.commit))
            return
        if log.term_of(request.previous_index) != request.previous_term:
            hint_index, hint_term = log.agreement(request.previous_index, request.previous_term)
            refusal = AppendResponse(
                raft.term,
                False,
                refused_index=request.previous_index,
                hint_index=hint_index,
                hint_term=hint_term,
            )
            raft.send(source, refusal)
            return
        if request.entries and raft.log_is_overlong:
            return  # like a lost message: the leader repeats it, later
        log.merge(request.entries, raft.commit)
        matched = request.previous_index + len(request.entries)
        assert log.term_of(matched) is not None, "what is acknowledged is in the log"
        raft.commit_to(max(raft.commit, min(request.commit, matched)))
        raft.promise(source, AppendResponse(raft.term, True, matched_index=matched))

    def answer_heartbeat(self, source: ReplicaId, request: HeartbeatRequest) -> None:
        """Confirms the leader. The commit index in a heartbeat is capped at what we have
        acknowledged.

        An echo counts as news only between our first answer to this leader and now: one from
        before a restart belongs to another clock.
        """
        raft = self.raft
        assert request.commit <= raft.log.last_index, "what we acknowledged is in our log"
        raft.commit_to(max(raft.commit, request.commit))
        if self._answered_at is None:
            self._answered_at = raft.now_ms
        elif self._answered_at <= request.echo <= raft.now_ms:
            self.fresh_at(raft.applied_index)
            self._vouched = self._vouched or (request.commit, request.echo)
        raft.send(source, HeartbeatResponse(raft.term, request.round, raft.now_ms, raft.disk_full))


class Candidate:
    """Counts answers, first to the pre-vote and then, in the next term, to the vote (5.2)."""

    __slots__ = ("connection_lost", "is_pre_vote", "raft", "tally")

    def __init__(self, raft: Raft, *, is_pre_vote: bool, connection_lost: bool) -> None:
        self.raft = raft
        self.is_pre_vote = is_pre_vote
        self.connection_lost = connection_lost
        self.tally = Tally()

    def tick(self) -> None:
        """Starts again with a pre-vote when no election result came within the timeout."""
        raft = self.raft
        if raft.elapsed < raft.timeout:
            return
        if raft.may_campaign():
            raft.campaign(connection_lost=self.connection_lost)
        else:
            raft.become_follower(raft.term, None, "no voter any more")

    def step(self, source: ReplicaId, message: ConsensusMessage) -> None:
        """Messages of the present term, and pre-votes granted for the next one."""
        raft = self.raft
        match message:
            case PreVoteResponse() if self.is_pre_vote:
                if not message.granted or message.term == raft.term + 1:
                    self.count(source, message.granted)
            case VoteResponse() if not self.is_pre_vote:
                self.count(source, message.granted)
            case AppendRequest() | HeartbeatRequest():
                raft.follow(source)
                raft.state.step(source, message)
            case _:
                return

    def count(self, replica: ReplicaId, granted: bool) -> None:
        """Takes in an answer and acts on the result when there is one."""
        raft = self.raft
        assert raft.state is self, "only the present candidacy counts"
        self.tally.record(replica, granted)
        match self.tally.outcome(raft.log.configuration):
            case Outcome.OPEN:
                return
            case Outcome.LOST:
                raft.become_follower(raft.term, None, "refused by a quorum")
            case Outcome.WON if self.is_pre_vote:
                raft.stand_for_election(transfer=False, connection_lost=self.connection_lost)
            case Outcome.WON:
                raft.become_leader()
