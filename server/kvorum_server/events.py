"""What goes into a turn and what comes out: the whole surface between a Host and its shell.

``effects = host.turn(now, events)``. The production shell (``node.py``) and the simulator speak
nothing else to a Host, which is why the simulator tests the code that runs in production.
"""

from dataclasses import dataclass, field

from kvorum_proto.command_pb2 import Query
from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.storage.record import Record
from kvorum_server.types import Envelope, GroupId, NodeId, ReplicaId

# --- Events ---


@dataclass(frozen=True, slots=True)
class Ticked:
    """A tick has passed. ``free_bytes`` is the free disk space, as the shell last saw it."""

    free_bytes: int
    engine_is_behind: bool = False
    """Whether the engine has more rows in memory than it should before they are on disk."""


@dataclass(frozen=True, slots=True)
class Received:
    """Envelopes from a peer, in the order it sent them."""

    peer: NodeId
    envelopes: tuple[Envelope, ...]


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A stream with a peer stands."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class PeerDisconnected:
    """The stream with a peer broke: a hint, not a verdict."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Proposed:
    """Commands of a client for one group: an encoded CommandBatch, one id per submission."""

    connection: int
    group: GroupId
    ids: tuple[int, ...]
    commands: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries of a client for one group, one id each."""

    connection: int
    group: GroupId
    ids: tuple[int, ...]
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A client stream ended: its answers have no taker."""

    connection: int


@dataclass(frozen=True, slots=True)
class Congested:
    """Many replies wait for a client: its queries should wait, too, until it is relieved."""

    connection: int


@dataclass(frozen=True, slots=True)
class Relieved:
    """A client has taken the replies that had waited for it."""

    connection: int


@dataclass(frozen=True, slots=True)
class Appended:
    """All writes up to this number are durable."""

    write: int


@dataclass(frozen=True, slots=True)
class Flushed:
    """The engine flush of this number is done: what was written before it was asked for is
    durable.
    """

    flush: int


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The birth certificate of the cluster has arrived on this fresh node."""

    bootstrap: Bootstrap


@dataclass(frozen=True, slots=True)
class Introduced:
    """A node that belongs to no cluster yet has said hello and wants to join this one."""

    identity: NodeId
    name: str
    address: str
    supported_level: int


@dataclass(frozen=True, slots=True)
class TransferAsked:
    """An operator wants another leader; ``target`` None = the most caught-up voter."""

    group: GroupId
    target: NodeId | None


@dataclass(frozen=True, slots=True)
class CompareAsked:
    """An operator wants the replicas of the groups that this node leads to compare their states."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The node is about to stop: hand over leaderships, admit nothing."""


Event = (
    Ticked
    | Received
    | PeerConnected
    | PeerDisconnected
    | Proposed
    | Asked
    | Disconnected
    | Congested
    | Relieved
    | Appended
    | Flushed
    | Bootstrapped
    | Introduced
    | TransferAsked
    | CompareAsked
    | Stopping
)

# --- Effects ---


@dataclass(frozen=True, slots=True)
class Write:
    """Records for the write-ahead log. Several writes may share one sync, never change order."""

    number: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """Answers for one client connection and group: encoded Results, in the order of the ids."""

    connection: int
    group: GroupId
    ids: list[int]
    results: list[bytes]
    term: int
    log_time: int
    revision: int


@dataclass(frozen=True, slots=True)
class Transition:
    """Something worth a log line, as data: the shell prints it."""

    name: str
    group: GroupId
    replica: ReplicaId
    details: dict[str, str | int]


@dataclass(slots=True)
class Effects:
    """What the shell has to do after a turn; the order of the fields is the order of doing."""

    messages: dict[NodeId, list[Envelope]] = field(default_factory=dict)
    """May leave at once: what promises something was held back until its write was durable."""
    append: Write | None = None
    replies: list[Reply] = field(default_factory=list)
    flush: int | None = None
    """Flush the engine in a thread, then say Flushed with this number."""
    transitions: list[Transition] = field(default_factory=list)
    again: bool = False
    """Work is left (a long scan, a snapshot, a backlog): take another turn even without events."""
