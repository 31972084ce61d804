"""What must hold in a cluster after every turn of every node, whatever has gone wrong.

The checkers look at the cluster from outside: at the records that each node hands to its
write-ahead log, and at the status that it reports. From the records they keep a *shadow* of each
replica's log, in which an entry stands for its whole past (a chain of hashes), so that comparing
two entries compares two logs. The properties are those of the Raft paper (figure 3) and of the
store on top:

*   election safety: one leader a term;
*   log matching: the same (index, term) means the same log up to there;
*   leader completeness: a new leader has every entry that was committed in an earlier term;
*   state machine safety: what is committed at an index never differs and never changes, and equal
    applied indexes mean equal figures and equal rows;
*   term, vote, commit and applied index only move as the paper lets them, restarts included;
*   a restarted node finds all writes that were synced, then some of those that were not, in order;
*   no promise leaves before what it promises is durable: votes, acknowledgements, commits.

A violation raises :class:`Violation`; the simulation reports it with its seed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

from kvorum_server.consensus.core import Role
from kvorum_server.consensus.core import Status as ConsensusStatus
from kvorum_server.state_machine import MachineStatus
from kvorum_server.storage.record import (
    EntriesAppended,
    HardStateChanged,
    LogCut,
    Record,
    ReplicaCreated,
    SnapshotInstalled,
)
from kvorum_server.storage.recovery import Recovered
from kvorum_server.types import (
    AppendResponse,
    Entry,
    Envelope,
    GroupId,
    HardState,
    VoteRequest,
    VoteResponse,
)

Chain = bytes
"""Hash of an entry and of all entries before it."""

EMPTY_CHAIN: Chain = b""


class Violation(AssertionError):
    """The cluster broke a promise."""


def require(holds: bool, message: str) -> None:
    """Raises Violation unless the promise holds."""
    if not holds:
        raise Violation(message)


def extend(chain: Chain, entry: Entry) -> Chain:
    """The chain after one more entry."""
    head = b"%d %d %d %d " % (entry.term, entry.kind, entry.stamp, entry.level)
    return blake2b(chain + head + entry.payload, digest_size=12).digest()


@dataclass(slots=True)
class ShadowLog:
    """What one replica's log must hold, as its records tell. Entries are ``start`` + 1 and on."""

    start: int = 0
    base: Chain = EMPTY_CHAIN
    entries: list[tuple[int, Chain]] = field(default_factory=list)
    hard_state: HardState = field(default_factory=HardState)

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.start + len(self.entries)

    def chain(self, index: int) -> Chain:
        """The chain up to an index that is not below the start."""
        return self.base if index == self.start else self.entries[index - self.start - 1][1]

    def copy(self) -> "ShadowLog":
        """An independent copy."""
        return ShadowLog(self.start, self.base, list(self.entries), self.hard_state)

    def fingerprint(self) -> tuple[int, Chain, HardState]:
        """Where the log ends, what it is, and the hard state: enough to tell two logs apart."""
        return self.last, self.chain(self.last), self.hard_state


@dataclass(slots=True)
class ShadowNode:
    """The logs of one node: with everything it appended, and with what was synced only."""

    current: dict[GroupId, ShadowLog] = field(default_factory=dict)
    durable: dict[GroupId, ShadowLog] = field(default_factory=dict)
    unsynced: list[tuple[Record, ...]] = field(default_factory=list)
    leads: set[tuple[GroupId, int]] = field(default_factory=set)
    seen: dict[GroupId, tuple[int, int, int]] = field(default_factory=dict)
    """Term, commit and applied index at the last look of this life."""


class Checkers:
    """One for a whole cluster; nodes are told apart by number."""

    def __init__(self, voters: int) -> None:
        self.voters = voters
        self.nodes: dict[int, ShadowNode] = {}
        self.leaders: dict[tuple[GroupId, int], int] = {}
        self.matching: dict[tuple[GroupId, int, int], Chain] = {}
        self.agreed: dict[GroupId, list[tuple[Chain, int]]] = {}
        """What is committed at 1 and on, and the term of who said so first."""
        self.states: dict[tuple[GroupId, int], tuple[MachineStatus, int]] = {}
        self.rows: dict[tuple[GroupId, int], tuple[bytes, int]] = {}

    # --- Records ---

    def appended(self, node: int, records: tuple[Record, ...]) -> None:
        """A node handed a write to its log."""
        shadow = self.nodes[node]
        for record in records:
            self._apply(node, shadow.current, record, live=True)
        shadow.unsynced.append(records)

    def synced(self, node: int, writes: int) -> None:
        """The oldest ``writes`` unsynced writes of a node are durable."""
        shadow = self.nodes[node]
        for records in shadow.unsynced[:writes]:
            for record in records:
                self._apply(node, shadow.durable, record, live=False)
        del shadow.unsynced[:writes]

    def _apply(
        self, node: int, logs: dict[GroupId, ShadowLog], record: Record, *, live: bool
    ) -> None:
        match record:
            case ReplicaCreated(group):
                logs[group] = ShadowLog()
            case EntriesAppended(group, _, entries):
                self._append(node, group, logs[group], entries)
            case HardStateChanged(group, _, hard_state):
                if live:
                    self._check_hard_state(node, group, logs[group].hard_state, hard_state)
                logs[group].hard_state = hard_state
            case SnapshotInstalled(group, _, _, meta):
                old = logs[group]
                hard = old.hard_state
                hard = HardState(hard.term, hard.vote, max(hard.commit, meta.index))
                logs[group] = ShadowLog(meta.index, self._agreed_chain(group, meta.index), [], hard)
            case LogCut(group, index=index):
                log = logs[group]
                if index > log.start:
                    log.base = log.chain(index)
                    del log.entries[: index - log.start]
                    log.start = index
            case _:
                return

    def _append(self, node: int, group: GroupId, log: ShadowLog, entries: Iterable[Entry]) -> None:
        for entry in entries:
            where = f"node {node}, group {group}, entry {entry.index}"
            require(entry.index > log.start, f"{where}: replaces an entry that was cut")
            require(entry.index <= log.last + 1, f"{where}: leaves a gap after {log.last}")
            del log.entries[entry.index - log.start - 1 :]
            chain = extend(log.chain(log.last), entry)
            log.entries.append((entry.term, chain))
            known = self.matching.setdefault((group, entry.index, entry.term), chain)
            require(known == chain, f"log matching: {where} of term {entry.term} exists twice")

    def _check_hard_state(self, node: int, group: GroupId, old: HardState, new: HardState) -> None:
        where = f"node {node}, group {group}: {old} became {new}"
        require(new.term >= old.term, f"the term fell: {where}")
        require(new.commit >= old.commit, f"the commit index fell: {where}")
        if new.term == old.term:
            require(old.vote in (0, new.vote), f"a second vote in one term: {where}")

    def _agreed_chain(self, group: GroupId, index: int) -> Chain:
        if index == 0:
            return EMPTY_CHAIN
        chains = self.agreed.get(group, [])
        require(index <= len(chains), f"group {group}: {index} was kept before it was committed")
        return chains[index - 1][0]

    def promised(self, node: int, envelope: Envelope) -> None:
        """A message leaves a node: is what it promises durable there?"""
        log = self.nodes[node].durable.get(envelope.group, ShadowLog())
        hard = log.hard_state
        match envelope.message:
            case AppendResponse(accepted=True, matched_index=index):
                kept = self._holds(node, envelope.group, index)
                require(kept, f"node {node} acknowledged entry {index} before it was durable")
            case VoteResponse(term, granted=True):
                require(
                    (hard.term, hard.vote) == (term, envelope.target_replica) or hard.term > term,
                    f"node {node} gave a vote in term {term} before it was durable",
                )
            case VoteRequest(term):
                require(
                    (hard.term, hard.vote) == (term, envelope.source_replica) or hard.term > term,
                    f"node {node} asked for votes in term {term} before its own was durable",
                )
            case _:
                return

    def _holds(self, node: int, group: GroupId, index: int) -> bool:
        """Whether what the node has at an index now is durable there."""
        shadow = self.nodes[node]
        durable, current = shadow.durable.get(group), shadow.current.get(group)
        if durable is None or current is None or index > min(durable.last, current.last):
            return False
        if index < max(durable.start, current.start):
            return True
        return durable.chain(index) == current.chain(index)

    # --- Restarts ---

    def started(self, node: int, recovered: Recovered) -> None:
        """A node starts: what it recovered is all that was synced and some of what was not."""
        shadow = self.nodes.get(node)
        logs = {group: self._log_of(node, recovered, group) for group in recovered.replicas}
        if shadow is not None:
            self._check_recovery(node, shadow, logs)
        durable = {group: log.copy() for group, log in logs.items()}
        self.nodes[node] = ShadowNode(logs, durable)

    def _log_of(self, node: int, recovered: Recovered, group: GroupId) -> ShadowLog:
        replica = recovered.replicas[group]
        start, _ = replica.log_start
        log = ShadowLog(start, self._agreed_chain(group, start), [], replica.hard_state)
        self._append(node, group, log, replica.entries)
        return log

    def _check_recovery(
        self, node: int, shadow: ShadowNode, found: dict[GroupId, ShadowLog]
    ) -> None:
        actual = {group: log.fingerprint() for group, log in found.items()}
        possible = shadow.durable
        histories = [{group: log.fingerprint() for group, log in possible.items()}]
        for records in shadow.unsynced:
            for record in records:
                self._apply(node, possible, record, live=False)
            histories.append({group: log.fingerprint() for group, log in possible.items()})
        require(
            actual in histories,
            f"node {node} recovered {actual}; synced was {histories[0]}, "
            f"then {len(shadow.unsynced)} writes up to {histories[-1]}",
        )

    # --- Status ---

    def looked(
        self, node: int, group: GroupId, status: ConsensusStatus, machine: MachineStatus
    ) -> None:
        """A node has taken a turn."""
        shadow = self.nodes[node]
        term, commit, applied = shadow.seen.get(group, (0, 0, 0))
        now = f"node {node}, group {group}"
        require(status.term >= term, f"{now}: the term fell from {term} to {status.term}")
        require(status.commit >= commit, f"{now}: commit fell from {commit} to {status.commit}")
        require(status.applied >= applied, f"{now}: applied fell from {applied}")
        require(status.applied <= status.commit, f"{now}: applied more than is committed")
        shadow.seen[group] = (status.term, status.commit, status.applied)
        if status.role is Role.LEADER:
            self._check_leader(node, group, status)
        if status.commit > commit:
            self._check_committed(node, group, commit, status)
        if machine.applied_index > applied or not applied:
            self._check_figures(node, group, machine)

    def _check_leader(self, node: int, group: GroupId, status: ConsensusStatus) -> None:
        other = self.leaders.setdefault((group, status.term), node)
        require(
            other == node,
            f"election safety: nodes {other} and {node} lead group {group} in term {status.term}",
        )
        shadow = self.nodes[node]
        if (group, status.term) in shadow.leads:
            return
        shadow.leads.add((group, status.term))
        log = shadow.current[group]
        for index, (chain, term) in enumerate(self.agreed.get(group, ()), 1):
            if index > log.start and status.term > term:
                require(
                    index <= log.last and log.chain(index) == chain,
                    f"leader completeness: node {node} leads group {group} in term {status.term} "
                    f"without the committed entry {index}",
                )

    def _check_committed(
        self, node: int, group: GroupId, before: int, status: ConsensusStatus
    ) -> None:
        commit = status.commit
        log = self.nodes[node].current[group]
        agreed = self.agreed.setdefault(group, [])
        require(commit <= log.last, f"node {node} committed {commit}, its log ends at {log.last}")
        for index in range(max(log.start, before), commit):
            chain = log.chain(index + 1)
            if index < len(agreed):
                require(
                    agreed[index][0] == chain,
                    f"state machine safety: node {node} committed another entry {index + 1} of "
                    f"group {group} than was committed before",
                )
            else:
                require(index == len(agreed), f"entry {index + 1} was committed before {index}")
                self._check_quorum(node, group, index + 1, chain)
                agreed.append((chain, status.term))

    def _check_quorum(self, node: int, group: GroupId, index: int, chain: Chain) -> None:
        """The first to call an entry committed must be right: a quorum holds it durably."""
        logs = [shadow.durable.get(group, ShadowLog()) for shadow in self.nodes.values()]
        holders = sum(log.start <= index <= log.last and log.chain(index) == chain for log in logs)
        require(
            holders * 2 > self.voters,
            f"node {node} committed entry {index} of group {group}, which {holders} of "
            f"{self.voters} nodes hold durably",
        )

    def _check_figures(self, node: int, group: GroupId, machine: MachineStatus) -> None:
        known, other = self.states.setdefault((group, machine.applied_index), (machine, node))
        require(
            known == machine,
            f"group {group}: nodes {other} and {node} differ after the same entries: "
            f"{known} and {machine}",
        )

    def check_rows(self, node: int, group: GroupId, applied: int, digest: bytes) -> None:
        """The rows that replicas must share, at an applied index."""
        known, other = self.rows.setdefault((group, applied), (digest, node))
        require(
            known == digest,
            f"group {group}: the rows of nodes {other} and {node} differ after entry {applied}",
        )
