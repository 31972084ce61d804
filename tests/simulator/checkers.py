"""What must hold in a cluster after every turn of every node, whatever has gone wrong.

The checkers look at the cluster from outside: at the records that each node hands to its
write-ahead log, and at the status that it reports. From the records they keep a *shadow* of each
replica's log, in which an entry stands for its whole past (a chain of hashes), so that comparing
two entries compares two logs. The properties are those of the Raft paper (figure 3) and of the
store on top:

*   election safety: one leader a term;
*   log matching: the same (index, term) means the same log up to there;
*   leader completeness: a new leader has every entry that was committed in an earlier term;
*   a leader believes of each replica only what that replica holds durably, and never less again;
*   who first calls an entry committed is right: a quorum of the configuration holds it durably, of
    both halves when it is joint;
*   a leader changes the configuration only when the last change is committed, and only to one
    whose majorities all meet those of the one before (section 6);
*   state machine safety: what is committed at an index never differs and never changes, and equal
    applied indexes mean equal figures and equal rows;
*   term, vote, commit and applied index only move as the paper lets them, restarts included, and
    revisions never fall;
*   a restarted node finds all writes that were synced, then some of those that were not, in order;
*   no promise leaves before what it promises is durable: votes, acknowledgements, commits.

Nodes are told apart by identity and replicas by (group, replica id), never by a place in a list:
nodes come and go, and a machine that lost its disk is another node. The committed entries are kept
(``log``), for those who judge the run at its end.

A violation raises :class:`Violation`; the simulation reports it with its seed.
"""

from collections.abc import Iterable

from kvorum_server.consensus.core import Role
from kvorum_server.consensus.core import Status as ConsensusStatus
from kvorum_server.state_machine import MachineStatus
from kvorum_server.storage.record import (
    EntriesAppended,
    HardStateChanged,
    LogCut,
    Record,
    ReplicaCreated,
    ReplicaRetired,
    SnapshotInstalled,
)
from kvorum_server.storage.recovery import Recovered
from kvorum_server.types import (
    AppendResponse,
    Configuration,
    Entry,
    EntryKind,
    Envelope,
    GroupId,
    HardState,
    NodeId,
    ReplicaId,
    VoteRequest,
    VoteResponse,
)
from tests.simulator.shadow import (
    EMPTY_CHAIN,
    Chain,
    Link,
    Look,
    ShadowLog,
    ShadowNode,
    extend,
)


class Violation(AssertionError):
    """The cluster broke a promise."""


def require(holds: bool, message: str) -> None:
    """Raises Violation unless the promise holds."""
    if not holds:
        raise Violation(message)


class Checkers:
    """One for a whole cluster; nodes are told apart by identity."""

    def __init__(self) -> None:
        self.nodes: dict[NodeId, ShadowNode] = {}
        self.leaders: dict[tuple[GroupId, int], NodeId] = {}
        self.matching: dict[tuple[GroupId, int, int], Chain] = {}
        self.agreed: dict[GroupId, list[tuple[Link, int]]] = {}
        """What is committed at 1 and on, and the term of who said so first."""
        self.owners: dict[tuple[GroupId, ReplicaId], NodeId] = {}
        """Whose replica has which id, by what is committed."""
        self.states: dict[GroupId, dict[int, tuple[MachineStatus, str]]] = {}
        """Figures after an index, and which node had them first."""
        self.rows: dict[tuple[GroupId, int], tuple[bytes, str]] = {}

    def log(self, group: GroupId) -> list[Entry]:
        """The committed entries of a group, from the first one on."""
        return [link.entry for link, _ in self.agreed.get(group, ())]

    def _name(self, node: NodeId) -> str:
        return f"node {self.nodes[node].name}"

    # --- Records ---

    def appended(self, node: NodeId, records: tuple[Record, ...]) -> None:
        """A node handed a write to its log."""
        shadow = self.nodes[node]
        for record in records:
            self._apply(node, shadow.current, record, live=True)
        shadow.unsynced.append(records)

    def synced(self, node: NodeId, writes: int) -> None:
        """The oldest ``writes`` unsynced writes of a node are durable."""
        shadow = self.nodes[node]
        for records in shadow.unsynced[:writes]:
            for record in records:
                self._apply(node, shadow.durable, record, live=False)
        del shadow.unsynced[:writes]

    def _apply(
        self, node: NodeId, logs: dict[GroupId, ShadowLog], record: Record, *, live: bool
    ) -> None:
        match record:
            case ReplicaCreated(group, replica):
                logs[group] = ShadowLog(replica)
            case ReplicaRetired(group):
                del logs[group]
            case EntriesAppended(group, _, entries):
                self._append(node, group, logs[group], entries, live=live)
            case HardStateChanged(group, _, hard_state):
                if live:
                    self._check_hard_state(node, group, logs[group].hard_state, hard_state)
                logs[group].hard_state = hard_state
            case SnapshotInstalled(group, _, _, meta):
                old = logs[group]
                hard = old.hard_state
                hard = HardState(hard.term, hard.vote, max(hard.commit, meta.index))
                chain = self._agreed_chain(group, meta.index)
                logs[group] = ShadowLog(old.replica, meta.index, chain, [], hard)
            case LogCut(group, index=index):
                log = logs[group]
                if index > log.start:
                    log.base = log.chain(index)
                    del log.entries[: index - log.start]
                    log.start = index
            case _:
                return

    def _append(
        self,
        node: NodeId,
        group: GroupId,
        log: ShadowLog,
        entries: Iterable[Entry],
        *,
        live: bool,
    ) -> None:
        for entry in entries:
            where = f"{self._name(node)}, group {group}, entry {entry.index}"
            require(entry.index > log.start, f"{where}: replaces an entry that was cut")
            require(entry.index <= log.last + 1, f"{where}: leaves a gap after {log.last}")
            del log.entries[entry.index - log.start - 1 :]
            chain = extend(log.chain(log.last), entry)
            log.entries.append(Link(entry, chain))
            known = self.matching.setdefault((group, entry.index, entry.term), chain)
            require(known == chain, f"log matching: {where} of term {entry.term} exists twice")
            if live and entry.kind is EntryKind.CONFIGURATION:
                self.nodes[node].changes.setdefault(group, []).append(entry.index)

    def _check_hard_state(
        self, node: NodeId, group: GroupId, old: HardState, new: HardState
    ) -> None:
        where = f"{self._name(node)}, group {group}: {old} became {new}"
        require(new.term >= old.term, f"the term fell: {where}")
        require(new.commit >= old.commit, f"the commit index fell: {where}")
        if new.term == old.term:
            require(old.vote in (0, new.vote), f"a second vote in one term: {where}")

    def _agreed_chain(self, group: GroupId, index: int) -> Chain:
        if index == 0:
            return EMPTY_CHAIN
        chains = self.agreed.get(group, [])
        require(index <= len(chains), f"group {group}: {index} was kept before it was committed")
        return chains[index - 1][0].chain

    def promised(self, node: NodeId, envelope: Envelope) -> None:
        """A message leaves a node: is what it promises durable there?"""
        log = self.nodes[node].durable.get(envelope.group, ShadowLog())
        hard = log.hard_state
        match envelope.message:
            case AppendResponse(term, accepted=True, matched_index=index):
                kept = self._holds(node, envelope.group, term, index)
                require(
                    kept, f"{self._name(node)} acknowledged entry {index} before it was durable"
                )
            case VoteResponse(term, granted=True):
                require(
                    (hard.term, hard.vote) == (term, envelope.target_replica) or hard.term > term,
                    f"{self._name(node)} gave a vote in term {term} before it was durable",
                )
            case VoteRequest(term):
                require(
                    (hard.term, hard.vote) == (term, envelope.source_replica) or hard.term > term,
                    f"{self._name(node)} asked for votes in term {term} before its own was durable",
                )
            case _:
                return

    def _holds(self, node: NodeId, group: GroupId, term: int, index: int) -> bool:
        """Whether what the node has at an index is durable there.

        If this turn has ended the term of the promise, it may have replaced the entry as well, and
        it may have retired the whole replica: the promise speaks of the log before, which is the
        one that is durable still.
        """
        shadow = self.nodes[node]
        durable, current = shadow.durable.get(group), shadow.current.get(group)
        if durable is None or index > durable.last:
            return False
        if current is None:
            return index < durable.start or durable.entry(index).term <= term
        if index < max(durable.start, current.start):
            return True
        if index <= current.last and durable.chain(index) == current.chain(index):
            return True
        return term < current.hard_state.term and durable.entry(index).term <= term

    # --- Restarts ---

    def started(self, name: str, recovered: Recovered) -> None:
        """A node starts: what it recovered is all that was synced and some of what was not."""
        node = recovered.identity
        shadow = self.nodes.get(node)
        self.nodes[node] = ShadowNode(name)
        logs = {group: self._log_of(node, recovered, group) for group in recovered.replicas}
        if shadow is not None:
            self._check_recovery(node, shadow, logs)
        durable = {group: log.copy() for group, log in logs.items()}
        self.nodes[node] = ShadowNode(name, logs, durable)

    def lost(self, node: NodeId) -> None:
        """A node has lost its disk: what was durable there is not durable any more."""
        del self.nodes[node]

    def _log_of(self, node: NodeId, recovered: Recovered, group: GroupId) -> ShadowLog:
        replica = recovered.replicas[group]
        start, _ = replica.log_start
        chain = self._agreed_chain(group, start)
        log = ShadowLog(replica.replica, start, chain, [], replica.hard_state)
        self._append(node, group, log, replica.entries, live=False)
        return log

    def _check_recovery(
        self, node: NodeId, shadow: ShadowNode, found: dict[GroupId, ShadowLog]
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
            f"{self._name(node)} recovered {actual}; synced was {histories[0]}, "
            f"then {len(shadow.unsynced)} writes up to {histories[-1]}",
        )

    # --- Status ---

    def looked(
        self, node: NodeId, group: GroupId, status: ConsensusStatus, machine: MachineStatus
    ) -> None:
        """A node has taken a turn."""
        shadow = self.nodes[node]
        before = shadow.seen.get(group)
        if before is None or before.replica != status.replica:
            before = Look()
        now = Look(
            status.replica,
            status.term,
            status.commit,
            status.applied,
            machine.revision,
            machine.compacted_revision,
            status.matched,
            status.configuration,
        )
        where = f"{shadow.name}, group {group}"
        for name in ("term", "commit", "applied", "revision", "compacted_revision"):
            was, has = getattr(before, name), getattr(now, name)
            require(has >= was, f"{where}: {name} fell from {was} to {has}")
        require(status.applied <= status.commit, f"{where}: applied more than is committed")
        if status.role is Role.LEADER:
            self._check_leader(node, group, status)
            self._check_matched(node, group, before, status)
        if status.commit > before.commit:
            self._check_committed(node, group, before, status)
        changes = shadow.changes.pop(group, None)
        if changes and status.role is Role.LEADER:
            self._check_changes(node, group, changes, status)
            if len(changes) == 1 and before.term == status.term:
                self._check_step(node, group, before.configuration, status.configuration)
        if machine.applied_index > before.applied or not before.applied:
            self._check_figures(node, group, machine)
        shadow.seen[group] = now

    def _check_leader(self, node: NodeId, group: GroupId, status: ConsensusStatus) -> None:
        other = self.leaders.setdefault((group, status.term), node)
        shadow = self.nodes[node]
        require(
            other == node,
            f"election safety: {other} and {node} ({shadow.name}) lead group {group} in term "
            f"{status.term}",
        )
        if (group, status.term) in shadow.leads:
            return
        shadow.leads.add((group, status.term))
        log = shadow.current[group]
        for index, (link, term) in enumerate(self.agreed.get(group, ()), 1):
            if index > log.start and status.term > term:
                require(
                    log.holds(index, link.chain),
                    f"leader completeness: {self._name(node)} leads group {group} in term "
                    f"{status.term} without the committed entry {index}",
                )

    def _check_matched(
        self, node: NodeId, group: GroupId, before: Look, status: ConsensusStatus
    ) -> None:
        """What a leader believes to be durable elsewhere is, or was until its term ended there."""
        same_term = before.term == status.term
        log = self.nodes[node].current[group]
        for replica, index in status.matched.items():
            was = before.matched.get(replica, 0) if same_term else 0
            where = f"{self._name(node)}, group {group}: matched index of replica {replica}"
            require(index >= was, f"{where} fell from {was} to {index}")
            if index == was or index <= log.start:
                continue
            other = self._durable(group, replica)
            if other is None or index < other.start or other.hard_state.term > status.term:
                continue
            require(
                other.holds(index, log.chain(index)),
                f"{where} is {index}, which that replica does not hold durably",
            )

    def _durable(self, group: GroupId, replica: ReplicaId) -> ShadowLog | None:
        """What a replica holds durably, wherever it is; None when it is nowhere any more."""
        logs = (shadow.durable.get(group) for shadow in self.nodes.values())
        return next((log for log in logs if log is not None and log.replica == replica), None)

    def _check_committed(
        self, node: NodeId, group: GroupId, before: Look, status: ConsensusStatus
    ) -> None:
        commit = status.commit
        log = self.nodes[node].current[group]
        agreed = self.agreed.setdefault(group, [])
        name = self._name(node)
        require(commit <= log.last, f"{name} committed {commit}, its log ends at {log.last}")
        for index in range(max(log.start, before.commit), commit):
            chain = log.chain(index + 1)
            if index < len(agreed):
                require(
                    agreed[index][0].chain == chain,
                    f"state machine safety: {name} committed another entry {index + 1} of "
                    f"group {group} than was committed before",
                )
            else:
                require(index == len(agreed), f"entry {index + 1} was committed before {index}")
                configurations = (before.configuration, status.configuration)
                self._check_quorum(name, group, index + 1, chain, configurations)
                agreed.append((log.entries[index - log.start], status.term))
                self._check_owners(group, agreed[-1][0].entry)

    def _check_owners(self, group: GroupId, entry: Entry) -> None:
        """A replica id stands for one node, for ever, also when it has left."""
        if entry.kind is EntryKind.CONFIGURATION:
            for member in Configuration.decode(entry.payload).members:
                owner = self.owners.setdefault((group, member.replica), member.identity)
                require(
                    owner == member.identity,
                    f"entry {entry.index} of group {group} gives the id {member.replica} again",
                )

    def _check_quorum(
        self,
        name: str,
        group: GroupId,
        index: int,
        chain: Chain,
        configurations: tuple[Configuration | None, Configuration],
    ) -> None:
        """The first to call an entry committed must be right: a quorum holds it durably.

        A configuration that was appended in the same turn counts from the next decision on.
        """
        logs = (shadow.durable.get(group) for shadow in self.nodes.values())
        holders = {log.replica for log in logs if log is not None and log.holds(index, chain)}
        known = [configuration for configuration in configurations if configuration is not None]
        require(
            any(_is_quorum(configuration, holders) for configuration in known),
            f"{name} committed entry {index} of group {group}, which only the replicas "
            f"{sorted(holders)} hold durably, under {known}",
        )

    def _check_changes(
        self, node: NodeId, group: GroupId, changes: list[int], status: ConsensusStatus
    ) -> None:
        """One change at a time: a leader begins the next when the last one is committed."""
        log = self.nodes[node].current[group]
        for index in changes:
            if not log.start < index <= log.last or log.entry(index).term != status.term:
                continue
            open_changes = [
                link.entry.index
                for link in log.entries[: index - log.start - 1]
                if link.entry.kind is EntryKind.CONFIGURATION and link.entry.index > status.commit
            ]
            require(
                not open_changes,
                f"{self._name(node)} changed the configuration of group {group} in entry {index} "
                f"while {open_changes} were not committed",
            )

    def _check_step(
        self, node: NodeId, group: GroupId, before: Configuration | None, after: Configuration
    ) -> None:
        """Two majorities of neighbouring configurations that share nobody could both decide."""
        if before is not None:
            require(
                _majorities_meet(before, after),
                f"{self._name(node)} changed the configuration of group {group} from {before} to "
                f"{after}: a majority of each may have no voter in common",
            )

    def _check_figures(self, node: NodeId, group: GroupId, machine: MachineStatus) -> None:
        name = self._name(node)
        states = self.states.setdefault(group, {})
        known, other = states.setdefault(machine.applied_index, (machine, name))
        require(
            known == machine,
            f"group {group}: {other} and {name} differ after the same entries: "
            f"{known} and {machine}",
        )

    def moved(self, node: NodeId, group: GroupId, applied: int) -> bool:
        """Whether the rows were not compared in this life since this much was applied."""
        compared = self.nodes[node].compared
        before = compared.get(group, 0)
        compared[group] = applied
        return applied != before

    def check_rows(self, node: NodeId, group: GroupId, applied: int, digest: bytes) -> None:
        """The rows that replicas must share, at an applied index."""
        name = self._name(node)
        known, other = self.rows.setdefault((group, applied), (digest, name))
        require(
            known == digest,
            f"group {group}: the rows of {other} and {name} differ after entry {applied}",
        )


def _majorities_meet(before: Configuration, after: Configuration) -> bool:
    """Whether any quorum of one shares a voter with any quorum of the other.

    >>> three, four = Configuration.initial((1, 2, 3)), Configuration.initial((1, 2, 3, 4))
    >>> _majorities_meet(three, four)
    True
    >>> swapped = Configuration((1, 2, 4), (), (), (), next_replica=5)
    >>> joint = Configuration((1, 2, 4), (1, 2, 3), (), (), next_replica=5)
    >>> _majorities_meet(three, swapped), _majorities_meet(three, joint)
    (False, True)
    """
    return any(
        len(half) // 2 + len(other) // 2 + 2 > len({*half, *other})
        for half in (before.voters, before.outgoing)
        for other in (after.voters, after.outgoing)
        if half and other
    )


def _is_quorum(configuration: Configuration, holders: set[ReplicaId]) -> bool:
    """Whether so many replicas decide: a majority of the voters, of both halves when joint."""
    halves = (configuration.voters, configuration.outgoing)
    return all(2 * len(holders.intersection(half)) > len(half) for half in halves if half)
