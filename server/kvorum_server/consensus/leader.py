"""The leader of a Raft group: replicates, counts, confirms reads, hands over. Lives for one term.

*Replication* is pipelined: what a turn appended goes out once a turn, in as few requests as
``append_bytes_max`` allows, to every follower whose window has room (see ``progress.py``), before
our own fsync is done. Lost requests are found by the heartbeat: its answer makes the leader repeat
a probe, or ask with an empty append whether all that is under way has arrived; a follower that
says no is probed. A replica that waits for a snapshot is asked the same at the start of the log,
so that it comes back by itself however the news of its installation was lost.

*Counting* (5.4.2): an index is committed when a quorum holds it durably and it is of our own term.

*Doubt*: a leader that has not heard a quorum for the longest election timeout steps down, so that
its clients look elsewhere. Reads do not trust that: each is confirmed by a round of its own
(``reads.py``). A leader whose own writes stand still doubts itself as well: heartbeats need no
disk, so a stuck one would otherwise keep in office a leader that applies and answers nothing.
(A disk that is *full* is another matter: then reads go on, see ``Replica.leave_full_disk``.)

What is kept of a follower is bound to this term and thrown away with the object; an answer of an
older term never gets here. Section numbers are those of the Raft paper.
"""

from typing import TYPE_CHECKING

from kvorum_server.consensus.core import ProposeRefusal
from kvorum_server.consensus.log import entry_bytes
from kvorum_server.consensus.progress import Progress, ProgressState
from kvorum_server.consensus.quorum import has_quorum, quorum_index
from kvorum_server.types import (
    NO_ROUND,
    AppendRequest,
    AppendResponse,
    Configuration,
    ConsensusMessage,
    Entry,
    EntryKind,
    HeartbeatRequest,
    HeartbeatResponse,
    ReplicaId,
    TimeoutNow,
)

if TYPE_CHECKING:
    from kvorum_server.consensus.raft import Raft

STUCK_TIMEOUTS = 3
"""Longest election timeouts without any write of our own becoming durable, before we give up."""

NO_OP_LEVEL = 1
"""A no-op means the same at every feature level: it never stops a replica of an older program."""


class Leader:
    """Replicates, counts, and confirms reads, for one term."""

    def __init__(self, raft: "Raft") -> None:
        self.raft = raft
        self.followers: dict[ReplicaId, Progress] = {}
        self.ticks = 0
        self.uncommitted_bytes = 0
        self.transferee: ReplicaId | None = None
        self._transfer_ends_at = 0
        self._replication_due = False
        self._vouched_index = 0
        self._durable = 0
        self._durable_at = 0
        log = raft.log
        if raft.commit < log.last_index:
            rest = log.entries(raft.commit + 1, log.last_index)
            self.uncommitted_bytes = sum(map(entry_bytes, rest))
        self._track_followers()
        no_op = self._append(EntryKind.NO_OP, log.last_stamp, NO_OP_LEVEL, b"")
        self.first_index = no_op.index

    # --- Input ---

    def tick(self) -> None:
        """Heartbeats, and the leader's doubts about itself."""
        raft = self.raft
        self.ticks += 1
        if not self._hears_quorum():
            raft.become_follower(raft.term, None, "heard no quorum for an election timeout")
            return
        if self._is_stuck():
            raft.farewell("its own writes do not become durable")
            return
        if self.transferee is not None and self.ticks >= self._transfer_ends_at:
            self.transferee = None
        everybody = self.ticks % raft.config.heartbeat_ticks == 0
        if everybody:
            self._ask_for_freshness()
        for replica, progress in self.followers.items():
            if everybody or progress.told_commit < min(raft.commit, progress.matched):
                self._send_heartbeat(replica, progress)

    def step(self, source: ReplicaId, message: ConsensusMessage) -> None:
        """Messages of the own term; strangers and replicas that were removed are not heard."""
        assert not isinstance(message, AppendRequest | HeartbeatRequest), "two leaders in one term"
        progress = self.followers.get(source)
        if progress is None:
            return
        match message:
            case AppendResponse():
                progress.heard_at = self.ticks
                self._append_answered(source, progress, message)
            case HeartbeatResponse():
                progress.heard_at = self.ticks
                self._heartbeat_answered(source, progress, message)
            case _:
                # Votes that came after the election was won.
                return

    def propose(
        self, kind: EntryKind, stamp: int, level: int, payload: bytes
    ) -> Entry | ProposeRefusal:
        """Appends an entry unless a transfer is under way or too much waits to be committed."""
        if self.transferee is not None:
            return ProposeRefusal.TRANSFERRING
        config = self.raft.config
        # What is not committed cannot be cut: if it made a log overlong, that log would stay so.
        too_much = self.uncommitted_bytes > min(config.log_inflight_bytes_max, config.log_bytes_max)
        if too_much or self.raft.log_is_overlong:
            return ProposeRefusal.LOG_FULL
        return self._append(kind, stamp, level, payload)

    def reconfigure(
        self, configuration: Configuration, stamp: int, level: int
    ) -> Entry | ProposeRefusal:
        """Appends a configuration entry once the one before and an own entry are committed."""
        raft = self.raft
        if self.transferee is not None:
            return ProposeRefusal.TRANSFERRING
        if raft.commit < max(self.first_index, raft.log.configuration_index):
            return ProposeRefusal.RECONFIGURING
        entry = self._append(EntryKind.CONFIGURATION, stamp, level, configuration.encode())
        assert raft.log.configuration == configuration, "in force from its append on"
        self._track_followers()
        # Those who have not answered a read round yet may be no voters any more.
        self._confirm_round()
        return entry

    def transfer(self, target: ReplicaId) -> bool:
        """Hands over to ``target`` as soon as it has the whole log (thesis 3.10)."""
        raft = self.raft
        progress = self.followers.get(target)
        if progress is None or target not in raft.log.configuration.voters:
            return False
        silent = self.ticks - progress.heard_at >= raft.config.election_ticks_min
        if self.transferee is not None or silent or progress.state is ProgressState.SNAPSHOT:
            return False
        self.transferee = target
        self._transfer_ends_at = self.ticks + raft.config.election_ticks_min
        self._hand_over(progress)
        return True

    def snapshot_failed(self, target: ReplicaId) -> None:
        """Looks for the replica at the end of the log: its refusal tells where it really is."""
        progress = self.followers.get(target)
        if progress is not None and progress.state is ProgressState.SNAPSHOT:
            progress.become_probe(self.raft.log.last_index + 1)
            self._replication_due = True

    # --- Output ---

    def has_work(self) -> bool:
        """Whether ``flush`` would send anything."""
        if self._may_serve_reads() and self.raft.reads.can_start():
            return True
        return self._replication_due and any(map(self._can_send, self.followers.values()))

    def flush(self) -> None:
        """Once a turn: sends what it appended, and one read round for all of its reads."""
        raft = self.raft
        if self._replication_due:
            self._replication_due = False
            requests: dict[int, AppendRequest] = {}
            for replica, progress in self.followers.items():
                self._replicate(replica, progress, requests)
        if self._may_serve_reads() and raft.reads.can_start():
            self._start_round()
            for replica, progress in self.followers.items():
                self._send_heartbeat(replica, progress)
            self._confirm_round()

    def matched(self) -> dict[ReplicaId, int]:
        """What is durable where: for ourselves as far as our own writes have been confirmed."""
        matched = {replica: progress.matched for replica, progress in self.followers.items()}
        matched[self.raft.replica] = self.raft.log.durable
        return matched

    def full_replicas(self) -> frozenset[ReplicaId]:
        """Who reported a full disk."""
        full = {replica for replica, progress in self.followers.items() if progress.disk_full}
        return frozenset(full | {self.raft.replica} if self.raft.disk_full else full)

    def roomy_replicas(self) -> frozenset[ReplicaId]:
        """Who has reported to this leader that its disk is not full."""
        return frozenset(
            replica
            for replica, progress in self.followers.items()
            if progress.sent_at and not progress.disk_full
        )

    def quorum_has_room(self) -> bool:
        """Whether those who have room on their disks, and were heard of lately, are a quorum."""
        with_room = self._heard() - self.full_replicas()
        return has_quorum(self.raft.log.configuration, with_room)

    def check_invariants(self) -> None:
        """Raises AssertionError when the leader contradicts itself."""
        raft = self.raft
        assert self.raft.state is self
        assert list(self.followers) == sorted(self.followers), "sends in ascending order"
        assert raft.log.term_of(self.first_index) in (raft.term, None), "the term began here"
        for progress in self.followers.values():
            progress.check_invariants()
            assert progress.matched <= raft.log.last_index
        if raft.commit < raft.log.last_index:
            rest = raft.log.entries(raft.commit + 1, raft.log.last_index)
            assert self.uncommitted_bytes == sum(map(entry_bytes, rest))
        else:
            assert self.uncommitted_bytes == 0

    # --- Replication ---

    def _append(self, kind: EntryKind, stamp: int, level: int, payload: bytes) -> Entry:
        raft = self.raft
        assert stamp >= raft.log.last_stamp, "log time never falls"
        entry = Entry(raft.log.last_index + 1, raft.term, kind, stamp, level, payload)
        raft.log.append(entry)
        self.uncommitted_bytes += entry_bytes(entry)
        self._replication_due = True
        return entry

    def _track_followers(self) -> None:
        """Keeps a Progress, in ascending order, for every other replica in the configuration."""
        raft = self.raft
        fresh_start = raft.log.last_index + 1
        self.followers = {
            replica: self.followers.get(replica) or Progress(fresh_start, self.ticks)
            for replica in raft.log.configuration.replicas()
            if replica != raft.replica
        }
        self._replication_due = True

    def _can_send(self, progress: Progress) -> bool:
        """Whether there is something to send, a first probe at least, and room for it.

        A replica whose disk is full gets nothing while the others can do without it: what is left
        of its disk is for what frees space.
        """
        if progress.disk_full and self.quorum_has_room():
            return False
        news = progress.next_index <= self.raft.log.last_index
        return progress.may_send(self.raft.config.append_inflight_max) and (
            news or progress.state is ProgressState.PROBE
        )

    def _replicate(
        self, replica: ReplicaId, progress: Progress, requests: dict[int, AppendRequest]
    ) -> None:
        """Sends what the window allows. Followers at the same place get the very same request."""
        raft = self.raft
        log = raft.log
        while self._can_send(progress):
            previous = progress.next_index - 1
            if previous < log.start_index:
                progress.become_snapshot()
                raft.output.snapshot_targets.append(replica)
                return
            request = requests.get(previous)
            if request is None:
                request = requests[previous] = self._request_after(previous)
            raft.send(replica, request)
            last = previous + len(request.entries)
            progress.sent(last)
            progress.told_commit = max(progress.told_commit, min(raft.commit, last))

    def _request_after(self, previous: int) -> AppendRequest:
        log = self.raft.log
        term = log.term_of(previous)
        assert term is not None, "the entry before is cut or missing"
        entries = log.slice(previous + 1, self.raft.config.append_bytes_max)
        return AppendRequest(self.raft.term, previous, term, entries, self.raft.commit)

    def _send_probe(self, replica: ReplicaId, previous: int) -> None:
        """An append without entries: does the follower hold everything up to ``previous``?"""
        term = self.raft.log.term_of(previous)
        assert term is not None, "the entry before is cut or missing"
        probe = AppendRequest(self.raft.term, previous, term, (), self.raft.commit)
        self.raft.send(replica, probe)

    def _send_heartbeat(self, replica: ReplicaId, progress: Progress) -> None:
        raft = self.raft
        commit = min(raft.commit, progress.matched)
        progress.told_commit = max(progress.told_commit, commit)
        # Only who holds all that was committed when the round began is as fresh as that.
        vouched_at = progress.vouched_at if commit >= self._vouched_index else 0
        heartbeat = HeartbeatRequest(
            raft.term, commit, raft.reads.round, vouched_at, raft.disk_full
        )
        raft.send(replica, heartbeat)

    def _append_answered(
        self, source: ReplicaId, progress: Progress, response: AppendResponse
    ) -> None:
        raft = self.raft
        if not response.accepted:
            agreement, _ = raft.log.agreement(response.hint_index, response.hint_term)
            progress.refused(response.refused_index, agreement)
            self._replication_due |= self._can_send(progress)
            return
        assert response.matched_index <= raft.log.last_index, "acknowledged more than was sent"
        news = progress.accepted(response.matched_index, raft.log.start_index)
        self._replication_due |= self._can_send(progress)
        if not news:
            return
        if progress.state is ProgressState.SNAPSHOT:
            # It has moved, and what follows is cut all the same: it needs a newer snapshot.
            raft.output.snapshot_targets.append(source)
        if source == self.transferee:
            self._hand_over(progress)
        self.advance_commit()

    def _heartbeat_answered(
        self, source: ReplicaId, progress: Progress, response: HeartbeatResponse
    ) -> None:
        """A sign of life: the moment to find out what was lost on the way, and to repeat it."""
        raft = self.raft
        progress.sent_at = response.sent_at
        self._replication_due |= progress.disk_full  # it may have room again, or be needed
        progress.disk_full = response.disk_full
        if progress.state is ProgressState.PROBE:
            progress.probing = False
            self._replication_due = True
        elif progress.state is ProgressState.SNAPSHOT:
            self._send_probe(source, raft.log.start_index)
        elif progress.inflight:
            self._send_probe(source, max(progress.next_index - 1, raft.log.start_index))
        if source == self.transferee:
            self._hand_over(progress)
        raft.reads.acknowledge(source, response.round)
        self._confirm_round()

    # --- Read rounds ---

    def _ask_for_freshness(self) -> None:
        """A round for nobody's read, when there are answers of followers to vouch for."""
        if self._may_serve_reads() and self.raft.reads.round is NO_ROUND:
            followers = self.followers.values()
            if any(progress.sent_at > progress.vouched_at for progress in followers):
                self._start_round()

    def _start_round(self) -> None:
        raft = self.raft
        raft.reads.start(raft.commit, raft.replica)
        for progress in self.followers.values():
            progress.asked_at = progress.sent_at

    def _confirm_round(self) -> None:
        """Serves the reads of a round that a quorum has answered. What followers had sent before it
        began they had sent while we led: whatever was committed by then, we had committed."""
        raft = self.raft
        was_under_way = raft.reads.round is not NO_ROUND
        raft.output.reads += raft.reads.confirmed(raft.log.configuration)
        if was_under_way and raft.reads.round is NO_ROUND:
            self._vouched_index = raft.reads.index
            for progress in self.followers.values():
                progress.vouched_at = progress.asked_at

    # --- Counting ---

    def advance_commit(self) -> None:
        """Commits what a quorum holds durably, if it is of the own term (5.4.2)."""
        raft = self.raft
        index = quorum_index(raft.log.configuration, self.matched())
        if index <= raft.commit or raft.log.term_of(index) != raft.term:
            return
        newly = raft.log.entries(raft.commit + 1, index)
        self.uncommitted_bytes -= sum(map(entry_bytes, newly))
        assert self.uncommitted_bytes >= 0, "no entry is committed twice"
        raft.commit_to(index)
        removed = raft.replica not in raft.log.configuration.all_voters()
        if removed and raft.log.configuration_index <= index:
            for replica, progress in self.followers.items():
                self._send_heartbeat(replica, progress)
            raft.farewell()

    def _may_serve_reads(self) -> bool:
        """Only once an own entry is committed does the commit index cover the terms before."""
        return self.raft.commit >= self.first_index

    def _heard(self) -> set[ReplicaId]:
        """Who was heard of within the longest election timeout, this replica included."""
        oldest = self.ticks - self.raft.config.election_ticks_max
        heard = {
            replica for replica, progress in self.followers.items() if progress.heard_at > oldest
        }
        return heard | {self.raft.replica}

    def _hears_quorum(self) -> bool:
        """Check-quorum."""
        return has_quorum(self.raft.log.configuration, self._heard())

    def _is_stuck(self) -> bool:
        """Whether others should lead, because what we append here has long not become durable."""
        log = self.raft.log
        idle = log.durable == log.last_index
        if idle or log.durable != self._durable or self.raft.disk_full or not self.followers:
            self._durable, self._durable_at = log.durable, self.ticks
        waited = self.ticks - self._durable_at
        return waited >= STUCK_TIMEOUTS * self.raft.config.election_ticks_max

    def _hand_over(self, progress: Progress) -> None:
        """Sends TimeoutNow to a transferee that has everything; again, because it may be lost."""
        assert self.transferee is not None, "nobody was asked to take over"
        if progress.matched == self.raft.log.last_index:
            self.raft.send(self.transferee, TimeoutNow(self.raft.term))
