"""Mistakes to plant in the protocol: votes, logs, counting, reads.

Each function breaks the product in one place for as long as its patch lasts; its docstring says
the mistake in one sentence. ``canaries.py`` has the table of all of them, with the systems that
have shipped them and the weather in which they show.
"""

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from kvorum_server.consensus import raft
from kvorum_server.consensus.core import ReadReady
from kvorum_server.consensus.leader import Leader
from kvorum_server.consensus.log import Log, entry_bytes
from kvorum_server.consensus.progress import Progress, ProgressState
from kvorum_server.consensus.quorum import quorum_index
from kvorum_server.consensus.raft import Candidate, Follower, Raft
from kvorum_server.consensus.reads import ReadRounds
from kvorum_server.types import (
    AppendRequest,
    AppendResponse,
    ConsensusMessage,
    Entry,
    HeartbeatRequest,
    PreVoteResponse,
    ReadRound,
    ReplicaId,
    SnapshotMeta,
)

# --- Votes ---


def forget_the_vote(patch: pytest.MonkeyPatch) -> None:
    """A restarted node does not know whom it has voted for."""
    original = Raft.__init__

    def init(self: Raft, **arguments: Any) -> None:
        arguments["hard_state"] = replace(arguments["hard_state"], vote=0)
        original(self, **arguments)

    patch.setattr(Raft, "__init__", init)


def grant_votes_to_anybody(patch: pytest.MonkeyPatch) -> None:
    """A vote does not ask whether the candidate's log is as new as one's own."""
    patch.setattr(Log, "is_up_to_date", lambda self, last_index, last_term: True)


def compare_logs_by_length(patch: pytest.MonkeyPatch) -> None:
    """The longer log wins, whatever the term of its last entry."""

    def is_up_to_date(self: Log, last_index: int, last_term: int) -> bool:
        return (last_index, last_term) >= (self.last_index, self.last_term)

    patch.setattr(Log, "is_up_to_date", is_up_to_date)


def keep_the_votes_of_the_last_candidacy(patch: pytest.MonkeyPatch) -> None:
    """Votes that were not enough in one term are counted again in the next."""
    stand, count = Raft.stand_for_election, Candidate.count
    votes: WeakKeyDictionary[Raft, set[ReplicaId]] = WeakKeyDictionary()

    def stand_for_election(self: Raft, *, transfer: bool, connection_lost: bool) -> None:
        stand(self, transfer=transfer, connection_lost=connection_lost)
        assert isinstance(self.state, Candidate)
        for replica in votes.get(self, ()):
            self.state.tally.record(replica, True)

    def count_for_ever(self: Candidate, replica: ReplicaId, granted: bool) -> None:
        if granted and not self.is_pre_vote:
            votes.setdefault(self.raft, set()).add(replica)
        count(self, replica, granted)

    patch.setattr(Raft, "stand_for_election", stand_for_election)
    patch.setattr(Candidate, "count", count_for_ever)


def count_pre_votes_as_votes(patch: pytest.MonkeyPatch) -> None:
    """Who would vote for a candidate is taken for somebody who did."""
    original = Candidate.step

    def step(self: Candidate, source: ReplicaId, message: ConsensusMessage) -> None:
        if isinstance(message, PreVoteResponse) and message.granted and not self.is_pre_vote:
            self.count(source, True)
        else:
            original(self, source, message)

    patch.setattr(Candidate, "step", step)


# --- Logs ---


def accept_after_another_term(patch: pytest.MonkeyPatch) -> None:
    """A follower appends behind an entry of the right index, whatever its term."""
    original = Follower._append

    def append(self: Follower, source: ReplicaId, request: AppendRequest) -> None:
        term = self.raft.log.term_of(request.previous_index)
        if term is not None:
            request = replace(request, previous_term=term)
        original(self, source, request)

    patch.setattr(Follower, "_append", append)


def acknowledge_across_a_gap(patch: pytest.MonkeyPatch) -> None:
    """A follower accepts entries whose predecessors it does not have."""
    original = Follower._append

    def append(self: Follower, source: ReplicaId, request: AppendRequest) -> None:
        if request.previous_index <= self.raft.log.last_index:
            original(self, source, request)
        else:
            matched = request.previous_index + len(request.entries)
            response = AppendResponse(self.raft.term, True, matched_index=matched)
            self.raft.promise(source, response)

    patch.setattr(Follower, "_append", append)


def truncate_without_conflict(patch: pytest.MonkeyPatch) -> None:
    """An old append that arrives late cuts off what came after it."""
    original = Log.merge

    def merge(self: Log, entries: tuple[Entry, ...], commit: int) -> None:
        last = entries[-1].index if entries else 0
        original(self, entries, commit)
        if commit <= last < self.last_index:
            self._truncate(last)

    patch.setattr(Log, "merge", merge)


def truncate_below_commit(patch: pytest.MonkeyPatch) -> None:
    """An append replaces everything after its start, what is committed included."""
    original = Follower._append

    def append(self: Follower, source: ReplicaId, request: AppendRequest) -> None:
        raft = self.raft
        previous = request.previous_index
        fits = raft.log.term_of(previous) == request.previous_term
        if not fits or previous >= raft.commit or not request.entries:
            original(self, source, request)
            return
        raft.log._truncate(previous)
        raft.log.merge(request.entries, previous)
        matched = raft.log.last_index
        raft.promise(source, AppendResponse(raft.term, True, matched_index=matched))

    patch.setattr(Follower, "_append", append)


def keep_a_conflicting_log_behind_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    """A follower that installs a snapshot keeps what its own log has after that index."""
    original = Log.install

    def install(self: Log, meta: SnapshotMeta) -> None:
        held = self.term_of(meta.index)
        original(self, meta if held is None else replace(meta, term=held))
        self.start_term = meta.term

    patch.setattr(Log, "install", install)


# --- Counting ---


def leader_counts_itself_before_sync(patch: pytest.MonkeyPatch) -> None:
    """The leader's own entries count towards the quorum before they are durable."""
    original = Leader.matched

    def matched(self: Leader) -> dict[int, int]:
        return {**original(self), self.raft.replica: self.raft.log.last_index}

    patch.setattr(Leader, "matched", matched)


def commit_old_terms_by_counting(patch: pytest.MonkeyPatch) -> None:
    """A leader commits what a quorum holds, whoever appended it (Raft paper, figure 8)."""
    original = Leader.advance_commit

    def advance_commit(self: Leader) -> None:
        raft = self.raft
        index = quorum_index(raft.log.configuration, self.matched())
        if index > raft.commit and raft.log.term_of(index) != raft.term:
            newly = raft.log.entries(raft.commit + 1, index)
            self.uncommitted_bytes -= sum(map(entry_bytes, newly))
            raft.commit_to(index)
        original(self)

    patch.setattr(Leader, "advance_commit", advance_commit)


def count_what_was_sent(patch: pytest.MonkeyPatch) -> None:
    """What has been sent to a follower counts as accepted by it."""
    original = Leader.matched

    def matched(self: Leader) -> dict[ReplicaId, int]:
        sent = {
            replica: progress.next_index - 1
            for replica, progress in self.followers.items()
            if progress.state is ProgressState.REPLICATE
        }
        return {**original(self), **sent}

    patch.setattr(Leader, "matched", matched)


def commit_beyond_what_matches(patch: pytest.MonkeyPatch) -> None:
    """A heartbeat commits whatever a follower has at the leader's commit index."""
    send, answer = Leader._send_heartbeat, Follower.answer_heartbeat

    def send_heartbeat(self: Leader, replica: ReplicaId, progress: Progress) -> None:
        send(self, replica, progress)
        target, heartbeat = self.raft.output.messages.pop()
        assert isinstance(heartbeat, HeartbeatRequest)
        self.raft.send(target, replace(heartbeat, commit=self.raft.commit))

    def answer_heartbeat(self: Follower, source: ReplicaId, request: HeartbeatRequest) -> None:
        commit = min(request.commit, self.raft.log.last_index)
        answer(self, source, replace(request, commit=commit))

    patch.setattr(Leader, "_send_heartbeat", send_heartbeat)
    patch.setattr(Follower, "answer_heartbeat", answer_heartbeat)


# --- Reads ---


def read_without_a_round(patch: pytest.MonkeyPatch) -> None:
    """A leader answers reads from its own state and does not ask whether it still leads."""

    def flush(self: Leader) -> None:
        original(self)
        raft = self.raft
        if raft.reads.round.counter:
            for replica in raft.log.configuration.voters:
                raft.reads.acknowledge(replica, raft.reads.round)
            raft.output.reads += raft.reads.confirmed(raft.log.configuration)

    original = Leader.flush
    patch.setattr(Leader, "flush", flush)


def read_before_an_own_commit(patch: pytest.MonkeyPatch) -> None:
    """A new leader serves reads before it knows what its predecessors committed."""
    patch.setattr(Leader, "_may_serve_reads", lambda self: True)


class RecycledRounds(ReadRounds):
    """Numbers that begin again with every leadership, and a memory of the largest answered one."""

    answered: dict[ReplicaId, int]

    def __init__(self, boot: int) -> None:
        super().__init__(boot)
        self.answered = {}

    def start(self, commit: int, leader: ReplicaId) -> ReadRound:
        """Counts who has answered this number before."""
        begun = super().start(commit, leader)
        for replica, counter in self.answered.items():
            if counter >= begun.counter:
                super().acknowledge(replica, begun)
        return begun

    def acknowledge(self, replica: ReplicaId, round: ReadRound) -> None:
        """Remembers the number for good."""
        self.answered[replica] = max(self.answered.get(replica, 0), round.counter)
        super().acknowledge(replica, round)

    def refuse_all(self) -> list[ReadReady]:
        """The leadership is over: the next one begins with 1."""
        self.counter = 0
        return super().refuse_all()


def reuse_read_rounds(patch: pytest.MonkeyPatch) -> None:
    """Read rounds are numbered anew in each leadership, and an answer to an old one counts."""
    patch.setattr(raft, "ReadRounds", RecycledRounds)
