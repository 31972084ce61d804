"""What the calls of this library return: frozen values, nothing else.

Keys and values come back as ``bytes`` whatever they were given as. Revisions are those of the group
that serves the key: 0 never names one; with one partition there is one group and one order.
"""

from dataclasses import dataclass
from typing import TypeAlias, Union

Bytes: TypeAlias = str | bytes
"""What is accepted where the cluster stores bytes: ``str`` is encoded as UTF-8."""


@dataclass(frozen=True, slots=True)
class Item:
    """A key with its value.

    ``create_revision`` and ``mod_revision`` are the revisions of its first and its last write,
    ``version`` counts its writes since creation, ``lease`` is 0 when it has none.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class PutResult:
    """``revision`` is the one that this write made; ``previous`` only when asked for."""

    revision: int
    previous: Item | None = None


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """``deleted`` says whether there was anything to delete."""

    revision: int
    deleted: bool
    previous: Item | None = None


@dataclass(frozen=True, slots=True)
class DeleteRangeResult:
    """How many keys are gone; ``previous`` holds them when asked for."""

    revision: int
    deleted: int
    previous: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The answer to a Scan inside a txn. ``more``: the range goes on at ``next_key``."""

    revision: int
    items: tuple[Item, ...]
    count: int
    next_key: bytes = b""

    @property
    def more(self) -> bool:
        """Whether the answer stopped before the end of the range."""
        return bool(self.next_key)


OperationResult: TypeAlias = Union[
    PutResult, DeleteResult, DeleteRangeResult, ScanResult, Item, int, "TxnResult", None
]
"""One operation's answer in a txn: Get gives an Item or None, Increment an int."""


@dataclass(frozen=True, slots=True)
class TxnResult:
    """``succeeded`` says which branch ran; ``results`` has one answer for each of its
    operations."""

    succeeded: bool
    revision: int
    results: tuple[OperationResult, ...]


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """What a backup holds. ``revisions`` has (group, revision) for every group.

    ``checksum`` is that of the whole file, 16 bytes; two backups with the same one are the same.
    """

    cluster_id: bytes
    items: int
    size_bytes: int
    revisions: tuple[tuple[int, int], ...]
    checksum: bytes


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster, as the catalog knows it."""

    identity: int
    name: str
    address: str
    supported_level: int = 0
    learner: bool = False
    """It receives everything and does not vote until it is promoted."""
    leaving: bool = False
    """It was removed or replaced; its groups are letting it go."""


@dataclass(frozen=True, slots=True)
class ExpectedMember:
    """A node that may join and has not come yet; ``replaces`` names the member whose places it
    takes, empty for nobody's.
    """

    name: str
    address: str
    learner: bool = False
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class GroupMembers:
    """The members that a group shall have, by name, and whether it has exactly these by now."""

    group: int
    voters: tuple[str, ...]
    learners: tuple[str, ...]
    settled: bool


@dataclass(frozen=True, slots=True)
class Membership:
    """Who belongs to the cluster, who may come, and how far the groups have followed."""

    members: tuple[Member, ...]
    expected: tuple[ExpectedMember, ...]
    groups: tuple[GroupMembers, ...]

    @property
    def settled(self) -> bool:
        """Whether every group has the members it shall have, and nobody is leaving any more."""
        leaving = any(member.leaving for member in self.members)
        return not leaving and all(group.settled for group in self.groups)


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One replica of one group, as its node sees it. Log time is in milliseconds."""

    group: int
    replica: int
    role: str
    term: int
    leader: str
    commit: int
    applied: int
    log_first: int
    log_last: int
    checkpoint: int
    revision: int
    compacted_revision: int
    log_time_ms: int
    sessions: int
    lag: int
    rebuilding: bool = False
    """Its state is lost and comes back as a snapshot of the leader's."""
    comparison: str = ""
    """On a leader: what the newest comparison of the replicas' states found, in one line."""
    differs: bool = False
    """That comparison found replicas that differ."""
    compared_index: int = 0
    """On a leader: the entry after which a quorum was last found equal; 0 = never."""
    compared_log_time_ms: int = 0
    waiting: str = ""
    """On a leader: what a change of members waits for; empty when none is under way."""


@dataclass(frozen=True, slots=True)
class StateComparison:
    """Whether the replicas of a group hold the same state; ``finding`` says it in one line."""

    group: int
    leader: str
    differs: bool
    finding: str


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """Another node, as this one sees it. One that is expected has not joined yet."""

    identity: int
    name: str
    address: str
    connected: bool
    learner: bool = False
    leaving: bool = False
    expected: bool = False
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a node knows of itself, its groups and its peers; needs no quorum."""

    endpoint: str
    cluster_id: bytes
    identity: int
    name: str
    version: str
    protocol: str
    level: int
    groups: tuple[GroupStatus, ...]
    members: tuple[PeerStatus, ...]
    disk_bytes: int
    disk_free_bytes: int
    resident_bytes: int
    uptime_seconds: float
    loop_lag_ms: float
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """Every node that answered, and why the others did not (endpoint, one line)."""

    nodes: tuple[NodeStatus, ...]
    unreachable: tuple[tuple[str, str], ...]
