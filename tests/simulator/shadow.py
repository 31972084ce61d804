"""What the logs of all nodes must hold, as their records tell: shadows of what the product keeps.

A shadow log has an entry for each entry of the log it stands for, and with it a hash of everything
up to there (a *chain*), so that comparing two entries compares two logs. A node has two shadows of
each replica: one with everything that it handed to its disk, one with what is durable there. The
judgement is in ``checkers.py``; here is only what it compares.
"""

from dataclasses import dataclass, field
from hashlib import blake2b

from kvorum_server.storage.record import Record
from kvorum_server.types import Configuration, Entry, GroupId, HardState, ReplicaId

Chain = bytes
"""Hash of an entry and of all entries before it."""

EMPTY_CHAIN: Chain = b""


def extend(chain: Chain, entry: Entry) -> Chain:
    """The chain after one more entry."""
    head = b"%d %d %d %d " % (entry.term, entry.kind, entry.stamp, entry.level)
    return blake2b(chain + head + entry.payload, digest_size=12).digest()


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of a log and the chain up to it."""

    entry: Entry
    chain: Chain


@dataclass(slots=True)
class ShadowLog:
    """What one replica's log must hold, as its records tell. Entries are ``start`` + 1 and on."""

    replica: ReplicaId = 0
    start: int = 0
    base: Chain = EMPTY_CHAIN
    entries: list[Link] = field(default_factory=list)
    hard_state: HardState = field(default_factory=HardState)

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.start + len(self.entries)

    def chain(self, index: int) -> Chain:
        """The chain up to an index that is not below the start."""
        return self.base if index == self.start else self.entries[index - self.start - 1].chain

    def entry(self, index: int) -> Entry:
        """An entry that has not been cut."""
        return self.entries[index - self.start - 1].entry

    def holds(self, index: int, chain: Chain) -> bool:
        """Whether the log has this very entry and has not cut it."""
        return self.start <= index <= self.last and self.chain(index) == chain

    def copy(self) -> "ShadowLog":
        """An independent copy."""
        return ShadowLog(self.replica, self.start, self.base, list(self.entries), self.hard_state)

    def fingerprint(self) -> tuple[ReplicaId, int, Chain, HardState]:
        """Whose log it is, where it ends, what it is, and the hard state: enough to tell two
        logs apart."""
        return self.replica, self.last, self.chain(self.last), self.hard_state


@dataclass(frozen=True, slots=True)
class Look:
    """What a replica said of itself after a turn."""

    replica: ReplicaId = 0
    term: int = 0
    commit: int = 0
    applied: int = 0
    revision: int = 0
    compacted_revision: int = 0
    matched: dict[ReplicaId, int] = field(default_factory=dict)
    configuration: Configuration | None = None


@dataclass(slots=True)
class ShadowNode:
    """The logs of one node: with everything it appended, and with what was synced only."""

    name: str = ""
    current: dict[GroupId, ShadowLog] = field(default_factory=dict)
    durable: dict[GroupId, ShadowLog] = field(default_factory=dict)
    unsynced: list[tuple[Record, ...]] = field(default_factory=list)
    leads: set[tuple[GroupId, int]] = field(default_factory=set)
    seen: dict[GroupId, Look] = field(default_factory=dict)
    """The last look of this life."""
    changes: dict[GroupId, list[int]] = field(default_factory=dict)
    """Indexes of configurations appended since the last look."""
    compared: dict[GroupId, int] = field(default_factory=dict)
    """The applied index at which the rows were compared last."""
