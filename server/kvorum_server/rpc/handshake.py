"""Who may speak with whom: the first frame of every stream between two nodes, and what it decides.

Both sides send a PeerHello and judge the other's. A refusal is one line that says what to do; the
refusing side closes the stream with it. Only a node that is still *fresh* takes a refusal as
final and stops (its operator is watching its first start); a node that belongs to a cluster logs
it and goes on, so that no stranger can stop a healthy member.

A data directory counts its starts and every process draws a number, so that two processes on copies
of one directory are told apart as soon as one peer has heard both. Nodes also tell each other how
far their logs are durable, in the hello and once a second while they grow: a directory that comes
back and ended before that when it was opened is an old copy, with votes and entries missing, and is
not let in, whatever it writes from then on. Peers keep this in memory: they recognise a copy as
long as they live, not after a restart of their own.

The certificate that a fresh node takes over is made once, by the first-named initial node, when
all have reported (see ``placement/bootstrap.py``).
"""

from dataclasses import dataclass

from kvorum_proto.peer_pb2 import Bootstrap, LogPosition, PeerHello
from kvorum_server.types import Contact

WIRE_VERSION_MIN = 1
WIRE_VERSION_MAX = 1


class Refused(Exception):
    """The other node must not speak with this one; the message names the reason and the remedy."""


class NotExpected(Refused):
    """Not yet: an operator can still let the other node in."""


@dataclass(frozen=True, slots=True)
class Self:
    """What this node says of itself."""

    name: str
    identity: int
    boot: int
    supported_level: int
    initial_cluster_hash: bytes
    bootstrap: Bootstrap | None
    process: int = 0
    """Drawn anew at every start."""
    log_end: tuple[int, int] = (0, 0)
    """Segment and offset up to which its write-ahead log is durable."""
    recovered_end: tuple[int, int] = (0, 0)
    """Where the log ended when the process opened it."""
    address: str = ""
    joining: bool = False
    """Whether it was started to join a running cluster."""
    members: tuple[Contact, ...] = ()
    """The members as its catalog has them; those of the certificate while it has none."""
    expected: frozenset[str] = frozenset()
    """Names of nodes that may join."""
    removed: frozenset[int] = frozenset()
    """Identities that were members and never will be again."""

    def hello(self) -> PeerHello:
        """The first frame of a stream."""
        return PeerHello(
            wire_version_min=WIRE_VERSION_MIN,
            wire_version_max=WIRE_VERSION_MAX,
            cluster_id=self.bootstrap.cluster_id if self.bootstrap is not None else b"",
            identity=self.identity,
            boot=self.boot,
            supported_level=self.supported_level,
            name=self.name,
            initial_cluster_hash=self.initial_cluster_hash,
            fresh=self.bootstrap is None,
            process=self.process,
            address=self.address,
            joining=self.joining,
            log_end=LogPosition(segment=self.log_end[0], offset=self.log_end[1]),
            recovered_end=LogPosition(segment=self.recovered_end[0], offset=self.recovered_end[1]),
        )


def position(message: LogPosition) -> tuple[int, int]:
    """A place in a log as a pair that can be compared."""
    return message.segment, message.offset


def judge(
    own: Self,
    other: PeerHello,
    before: PeerHello | None = None,
    reached: tuple[int, int] = (0, 0),
) -> None:
    """Raises Refused unless the two may speak.

    ``before`` is the last hello of the same identity, ``reached`` the furthest place in its log
    that it has ever told this process of.

    >>> own = Self("n1", 7, 1, 1, b"hash", None)
    >>> try:
    ...     judge(own, PeerHello(wire_version_min=1, wire_version_max=1, name="n2", identity=7))
    ... except Refused as refusal:
    ...     print(str(refusal).split(":")[0])
    n1 and n2 have the same identity
    """
    if other.wire_version_min > WIRE_VERSION_MAX or other.wire_version_max < WIRE_VERSION_MIN:
        raise Refused(
            f"{other.name} speaks wire versions {other.wire_version_min} to "
            f"{other.wire_version_max}, {own.name} {WIRE_VERSION_MIN} to {WIRE_VERSION_MAX}; "
            "upgrade the older node"
        )
    if other.identity == own.identity and other.name == own.name:
        raise Refused(
            f"{own.name} has met itself or a copy of its data directory; check --listen and "
            "--initial-cluster, and give every node a --data directory of its own"
        )
    if other.identity == own.identity:
        raise Refused(
            f"{own.name} and {other.name} have the same identity: one data directory is a copy of "
            f"the other; give {other.name} an empty --data directory"
        )
    if before is not None and _is_another_copy(other, before):
        raise Refused(
            f"another process runs with the identity of {other.name}: one data directory is an old "
            "or second copy of the other; stop one of them and remove its copy"
        )
    # A process that was let in has written more since than what it began with.
    is_known = before is not None and (before.boot, before.process) == (other.boot, other.process)
    if position(other.recovered_end) < reached and not is_known:
        raise Refused(
            f"the data directory of {other.name} is an old copy: its log ends before what "
            f"{other.name} had made durable, so it may have forgotten votes and entries; give it "
            f"an empty --data directory and run `kvorum member replace {other.name}`"
        )
    if own.bootstrap is None:
        _judge_as_fresh(own, other)
    else:
        _judge_as_member(own, own.bootstrap, other)


def _is_another_copy(hello: PeerHello, before: PeerHello) -> bool:
    """A data directory counts its starts: none comes twice, and later ones are higher."""
    return hello.boot < before.boot or (
        hello.boot == before.boot and hello.process != before.process
    )


def _judge_as_fresh(own: Self, other: PeerHello) -> None:
    if own.joining:
        if other.fresh:
            raise NotExpected(
                f"{other.name} belongs to no cluster yet; name members of the cluster in --join"
            )
        return
    if other.joining:
        raise NotExpected(f"the cluster of {own.name} is not complete yet; wait for its nodes")
    if other.initial_cluster_hash != own.initial_cluster_hash:
        raise Refused(
            f"{own.name} and {other.name} were started with different --initial-cluster texts; "
            "give all initial nodes the same text"
        )


def _judge_as_member(own: Self, bootstrap: Bootstrap, other: PeerHello) -> None:
    """The certificate is the proof of membership: a node that has it and was not removed may speak,
    also while our copy of the catalog does not know it yet.
    """
    if other.cluster_id and other.cluster_id == bootstrap.recovered_from:
        raise Refused(
            f"the data directory of {other.name} belongs to the cluster that the one of {own.name} "
            f"was recovered from, and must not come back; remove it, give {other.name} an empty "
            f"--data directory and run `kvorum member add {other.name} {other.address}`"
        )
    if not other.fresh and other.cluster_id != bootstrap.cluster_id:
        raise Refused(
            f"the data directory of {other.name} belongs to cluster {other.cluster_id.hex()}, "
            f"{own.name} to {bootstrap.cluster_id.hex()}; check --data and --initial-cluster"
        )
    if other.identity in own.removed:
        raise Refused(
            f"{other.name} was removed from the cluster of {own.name}; to bring it back, give it "
            f"an empty --data directory and run `kvorum member add {other.name} {other.address}`"
        )
    members = {member.identity: member.name for member in own.members or bootstrap.members}
    name = members.get(other.identity)
    if name is not None and name != other.name:
        raise Refused(
            f"{other.name} uses the data directory of {name}: two nodes with one identity; "
            f"give {other.name} its own --data directory"
        )
    if name is None and other.fresh and other.name not in own.expected:
        _refuse_unexpected(own, other)
    if name is not None and other.fresh and not other.joining:
        _check_text(own, bootstrap, other)


def _refuse_unexpected(own: Self, other: PeerHello) -> None:
    if other.joining:
        raise NotExpected(
            f"the cluster of {own.name} does not expect {other.name}; run "
            f"`kvorum member add {other.name} {other.address}`, or `kvorum member replace` if it "
            "takes the place of another node"
        )
    raise Refused(
        f"the cluster of {own.name} runs already and does not know the data directory of "
        f"{other.name}: was it emptied or lost? Bring the node back with "
        f"`kvorum member replace {other.name}`"
    )


def _check_text(own: Self, bootstrap: Bootstrap, other: PeerHello) -> None:
    if other.initial_cluster_hash != bootstrap.initial_cluster_hash:
        raise Refused(
            f"{other.name} was started with another --initial-cluster text than the one that the "
            f"cluster of {own.name} began with; give it the same text"
        )


def is_member(own: Self, identity: int) -> bool:
    """Whether this node knows another one, by identity, as a member of its cluster."""
    if own.bootstrap is None:
        return False
    return any(member.identity == identity for member in own.members or own.bootstrap.members)
