"""A few consensus objects, their disks and the network between them, all moved by hand.

Nothing happens by itself here: a message lies in ``network`` until somebody delivers, drops or
repeats it, and a write lies in a node's ``writes`` until it is synced or a crash takes it. The
scripts and the randomised contract suite drive the same cluster. It speaks nothing but the
``Consensus`` protocol, and on every step it checks what must hold for any protocol: one leader per
term, one payload per committed index, a commit index that never falls, nothing delivered that is
not durable.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kvorum_server.config import Config
from kvorum_server.consensus import PROTOCOLS
from kvorum_server.consensus.core import Consensus, Randomness, ReadReady, Ready, Role
from kvorum_server.types import (
    Configuration,
    ConsensusMessage,
    Entry,
    HardState,
    ReplicaId,
    SnapshotMeta,
)

Sent = tuple[ReplicaId, ReplicaId, ConsensusMessage]


@dataclass(slots=True)
class Write:
    """What one Ready gave to the disk, and the promises that wait for it."""

    ready: Ready
    term: int
    installed: SnapshotMeta | None

    @property
    def is_empty(self) -> bool:
        """Nothing to write: its promises wait for the writes before it only."""
        return not (self.ready.entries or self.ready.hard_state or self.installed)


@dataclass(slots=True)
class Disk:
    """What a crash leaves of a replica."""

    start: SnapshotMeta
    hard_state: HardState = HardState()
    entries: list[Entry] = field(default_factory=list)

    def apply(self, write: Write) -> None:
        """Makes a write durable."""
        if write.installed is not None:
            self.start, self.entries = write.installed, []
        if write.ready.hard_state is not None:
            assert write.ready.hard_state.term >= self.hard_state.term, "a term went back on disk"
            self.hard_state = write.ready.hard_state
        if write.ready.entries:
            first = write.ready.entries[0].index
            assert first <= self.start.index + len(self.entries) + 1, "a gap on disk"
            self.entries[first - self.start.index - 1 :] = write.ready.entries

    def cut(self, start: SnapshotMeta) -> None:
        """Lets go of what is in the checkpoint."""
        self.entries = [entry for entry in self.entries if entry.index > start.index]
        self.start = start

    def holds(self, entry: Entry) -> bool:
        """Whether a committed entry is durable here, or in what was cut."""
        if entry.index <= self.start.index:
            return True
        place = entry.index - self.start.index - 1
        return place < len(self.entries) and self.entries[place] == entry

    @property
    def last(self) -> tuple[int, int]:
        """Index and term of the last durable entry."""
        if self.entries:
            return self.entries[-1].index, self.entries[-1].term
        return self.start.index, self.start.term


class Node:
    """One replica with its disk. ``consensus`` is None while it is down."""

    def __init__(self, replica: ReplicaId, disk: Disk) -> None:
        self.replica = replica
        self.disk = disk
        self.boot = 0
        self.consensus: Consensus | None = None
        self.writes: deque[Write] = deque()
        self.held = False
        """Writes wait for an explicit sync."""
        self.installed: SnapshotMeta | None = None
        self.applied: list[Entry] = []
        self.lost = False
        """What was applied is lost, and the disk knows it."""


class Cluster:
    """``tell`` receives a line for everything worth telling."""

    def __init__(
        self,
        *,
        config: Config,
        randomness: Callable[[ReplicaId], Randomness],
        protocol: str = "raft",
        tell: Callable[[str, str], None] = lambda kind, line: None,
    ) -> None:
        self.config = config
        self.protocol = protocol
        self.nodes: dict[ReplicaId, Node] = {}
        self.network: list[Sent] = []
        self.blocked: set[tuple[ReplicaId, ReplicaId]] = set()
        self.committed: dict[int, Entry] = {}
        self.leaders: dict[int, ReplicaId] = {}
        self.snapshot_targets: list[tuple[ReplicaId, ReplicaId]] = []
        self.reads: list[ReadReady] = []
        self._randomness = randomness
        self._tell = tell

    def add(self, replica: ReplicaId, disk: Disk) -> None:
        """Adds a replica with what is on its disk, and starts it."""
        self.nodes[replica] = Node(replica, disk)
        self.start(replica)

    def running(self) -> list[Node]:
        """The nodes that are up, in ascending order."""
        return [node for node in self.nodes.values() if node.consensus is not None]

    def consensus(self, replica: ReplicaId) -> Consensus:
        """The consensus object of a node that is up."""
        consensus = self.nodes[replica].consensus
        assert consensus is not None, f"n{replica} is down"
        return consensus

    # --- Crash and restart ---

    def start(self, replica: ReplicaId) -> None:
        """Starts a node from its disk; what was applied is applied again from the log's start."""
        node = self.nodes[replica]
        assert node.consensus is None, f"n{replica} is up"
        node.boot += 1
        start = node.disk.start
        node.applied = [entry for entry in node.applied if entry.index <= start.index]
        node.consensus = PROTOCOLS[self.protocol](
            replica=replica,
            boot=node.boot,
            config=self.config,
            randomness=self._randomness(replica),
            configuration=start.configuration,
            hard_state=node.disk.hard_state,
            log_start=(start.index, start.term),
            log_start_stamp=start.stamp,
            entries=node.disk.entries,
            applied=start.index,
            rebuilding=node.lost,
        )

    def crash(self, replica: ReplicaId) -> None:
        """Takes a node down; what was not synced is gone, messages on the way are not."""
        node = self.nodes[replica]
        node.consensus = None
        node.installed = None
        lost = sum(not write.is_empty for write in node.writes)
        node.writes.clear()
        self._tell("crash", f"n{replica} crashed, {lost} unsynced writes lost")

    # --- Turns ---

    def drain(self, replica: ReplicaId) -> None:
        """Takes everything out of a node: sends what may leave, queues what must be written."""
        node = self.nodes[replica]
        while node.consensus is not None and node.consensus.has_ready():
            ready = node.consensus.ready()
            assert ready != Ready(), "has_ready promised something"
            for change in ready.transitions:
                self._transition(node, change.role, change.term, change.leader, change.reason)
            for target, message in ready.messages:
                self.send(replica, target, message)
            node.writes.append(Write(ready, node.consensus.term, node.installed))
            node.installed = None
            self._deliver_committed(node, ready.committed)
            self.reads += ready.reads
            for read in ready.reads:
                outcome = "refused" if read.index is None else f"at {read.index}"
                self._tell("read", f"n{replica} read {read.token} {outcome}")
            for target in ready.snapshot_targets:
                self.snapshot_targets.append((replica, target))
                self._tell("snapshot", f"n{replica} wants a snapshot sent to n{target}")
            if not node.held:
                self.sync(replica)
            while node.writes and node.writes[0].is_empty:
                self.sync(replica, 1)
        if node.consensus is not None:
            node.consensus.check_invariants()

    def sync(self, replica: ReplicaId, count: int | None = None) -> None:
        """Makes the oldest writes (all without ``count``) durable, sends what waited for them."""
        node = self.nodes[replica]
        assert node.consensus is not None
        for _ in range(len(node.writes) if count is None else count):
            write = node.writes.popleft()
            node.disk.apply(write)
            if write.ready.entries:
                node.consensus.appended(write.ready.entries[-1].index, write.ready.entries[-1].term)
            if write.term != node.consensus.term:
                continue
            for target, message in write.ready.messages_after_append:
                if target == replica:
                    node.consensus.step(replica, message)
                else:
                    self.send(replica, target, message)

    def _deliver_committed(self, node: Node, entries: list[Entry]) -> None:
        assert node.consensus is not None
        for entry in entries:
            assert entry.index <= node.disk.last[0], "delivered an entry that is not durable"
            known = self.committed.setdefault(entry.index, entry)
            assert known == entry, f"two entries were committed at index {entry.index}"
            assert not node.applied or entry.index == node.applied[-1].index + 1
            assert not node.lost, "applied to a state that is lost"
            node.applied.append(entry)
            self._tell("commit", f"n{node.replica} applies {entry.index}@{entry.term}")
            node.consensus.applied(entry.index)

    def _transition(
        self, node: Node, role: Role, term: int, leader: ReplicaId | None, reason: str
    ) -> None:
        if role is Role.LEADER:
            known = self.leaders.setdefault(term, node.replica)
            assert known == node.replica, f"two leaders in term {term}"
            for entry in self.committed.values():
                assert node.disk.holds(entry), f"the leader of term {term} lacks {entry}"
        following = f" of n{leader}" if leader not in (None, node.replica) else ""
        self._tell("role", f"n{node.replica}@{term} {role.value}{following}: {reason}")

    # --- The network ---

    def send(self, source: ReplicaId, target: ReplicaId, message: ConsensusMessage) -> None:
        """Puts a message on the way, unless the two are cut off from each other."""
        if (source, target) in self.blocked:
            self._tell("lost", f"n{source} ✗ n{target} {describe(message)}")
            return
        self.network.append((source, target, message))
        self._tell("send", f"n{source} → n{target} {describe(message)}")

    def deliver(self, sent: Sent) -> None:
        """Hands a message over; a node that is down or does not exist never gets it."""
        source, target, message = sent
        node = self.nodes.get(target)
        if node is not None and node.consensus is not None:
            before = node.consensus.status()
            node.consensus.step(source, message)
            after = node.consensus.status()
            assert after.term >= before.term, "the term fell"
            assert after.commit >= before.commit, "the commit index fell"
            self.drain(target)

    def holders(self, entry: Entry) -> set[ReplicaId]:
        """The replicas, up or down, on whose disks a committed entry is safe."""
        return {node.replica for node in self.nodes.values() if node.disk.holds(entry)}

    def partition(self, *sides: set[ReplicaId]) -> None:
        """Only replicas on the same side reach each other."""
        everybody = set(self.nodes)
        self.blocked = {
            (source, target)
            for source in everybody
            for target in everybody
            if not any(source in side and target in side for side in sides)
        }

    def install(self, source: ReplicaId, target: ReplicaId) -> bool:
        """Gives ``target`` a snapshot of what ``source`` has applied."""
        sender, receiver = self.nodes[source], self.nodes[target]
        index = self.consensus(source).status().applied
        term = self.committed[index].term
        stamp = self.committed[index].stamp
        configuration = self.consensus(source).configuration_at(index)
        meta = SnapshotMeta(index, term, stamp, configuration)
        if not self.consensus(target).install(meta):
            return False
        receiver.installed = meta
        receiver.applied = [entry for entry in sender.applied if entry.index <= index]
        receiver.lost = False
        self.drain(target)
        return True

    def rebuild(self, source: ReplicaId, target: ReplicaId) -> bool:
        """Gives ``target``, whose state is lost, what ``source`` has applied; its log stays."""
        index = self.consensus(source).status().applied
        term, stamp = self.committed[index].term, self.committed[index].stamp
        configuration = self.consensus(source).configuration_at(index)
        meta = SnapshotMeta(index, term, stamp, configuration)
        if not self.consensus(target).rebuild(meta):
            return False
        receiver = self.nodes[target]
        receiver.lost = False
        receiver.applied = [e for e in self.nodes[source].applied if e.index <= index]
        self.drain(target)
        return True

    def compact(self, replica: ReplicaId, index: int) -> None:
        """Cuts the log of a node, in memory and on disk."""
        self.nodes[replica].disk.cut(self.consensus(replica).compact(index))


def birth(configuration: Configuration) -> SnapshotMeta:
    """Where the log of an initial member starts."""
    return SnapshotMeta(0, 0, 0, configuration)


def describe(message: ConsensusMessage) -> str:
    """A message in one line; places of the log are written index@term."""
    words = [type(message).__name__]
    for name in message.__slots__:
        value = getattr(message, name)
        match name:
            case "last_index":
                words.append(f"last={value}@{getattr(message, 'last_term', 0)}")
            case "previous_index":
                words.append(f"previous={value}@{getattr(message, 'previous_term', 0)}")
            case "hint_index":
                if getattr(message, "accepted", True) is False:
                    words.append(f"hint={value}@{getattr(message, 'hint_term', 0)}")
            case "last_term" | "previous_term" | "hint_term":
                continue
            case "entries":
                words.append("entries=" + span(value))
            case "granted" | "accepted":
                words.append(name if value else "refused")
            case "matched_index" | "refused_index":
                if (name == "matched_index") == getattr(message, "accepted", False):
                    words.append(f"{name.removesuffix('_index')}={value}")
            case "round":
                words += [f"round={value.boot}.{value.counter}"] if value.counter else []
            case "term" | "commit":
                words.append(f"{name}={value}")
            case _:
                words += [name if value is True else f"{name}={value}"] if value else []
    return " ".join(words)


def span(entries: tuple[Entry, ...] | list[Entry]) -> str:
    """The places of some entries, index@term each.

    >>> span(())
    '-'
    """
    return ",".join(f"{entry.index}@{entry.term}" for entry in entries) or "-"
