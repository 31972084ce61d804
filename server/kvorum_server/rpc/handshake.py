"""Who may speak with whom: the first frame of every stream between two nodes, and what it decides.

Both sides send a PeerHello and judge the other's. A refusal is one line that says what to do; the
refusing side closes the stream with it. Only a node that is still *fresh* takes a refusal as
final and stops (its operator is watching its first start); a node that belongs to a cluster logs
it and goes on, so that no stranger can stop a healthy member.

A data directory counts its starts and every process draws a number, so that two processes on copies
of one directory are told apart as soon as one peer has heard both.

The certificate that a fresh node takes over is made once, by the first-named initial node, when
all have reported (see ``placement/bootstrap.py``).
"""

from dataclasses import dataclass

from kvorum_proto.peer_pb2 import Bootstrap, PeerHello

WIRE_VERSION_MIN = 1
WIRE_VERSION_MAX = 1


class Refused(Exception):
    """The other node must not speak with this one; the message names the reason and the remedy."""


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
        )


def judge(own: Self, other: PeerHello, before: PeerHello | None = None) -> None:
    """Raises Refused unless the two may speak. ``before``: the last hello of the same identity.

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
    if other.initial_cluster_hash != own.initial_cluster_hash:
        raise Refused(
            f"{own.name} and {other.name} were started with different --initial-cluster texts; "
            "give all initial nodes the same text"
        )


def _judge_as_member(own: Self, bootstrap: Bootstrap, other: PeerHello) -> None:
    members = {member.identity: member.name for member in bootstrap.members}
    if not other.fresh and other.cluster_id != bootstrap.cluster_id:
        raise Refused(
            f"the data directory of {other.name} belongs to cluster {other.cluster_id.hex()}, "
            f"{own.name} to {bootstrap.cluster_id.hex()}; check --data and --initial-cluster"
        )
    name = members.get(other.identity)
    if name is None:
        raise Refused(
            f"the cluster of {own.name} runs already and does not know the data directory of "
            f"{other.name}: was it emptied or lost? Bring the node back with "
            f"`kvorum member replace {other.name}`"
        )
    if name != other.name:
        raise Refused(
            f"{other.name} uses the data directory of {name}: two nodes with one identity; "
            f"give {other.name} its own --data directory"
        )
    if other.fresh and other.initial_cluster_hash != bootstrap.initial_cluster_hash:
        raise Refused(
            f"{other.name} was started with another --initial-cluster text than the one that the "
            f"cluster of {own.name} began with; give it the same text"
        )
