"""Who may speak with whom, and what the refused side is told to do about it."""

import dataclasses

import pytest

from kvorum_proto.peer_pb2 import Bootstrap, InitialMember, LogPosition, PeerHello
from kvorum_server.rpc.handshake import Refused, Self, judge

HASH = b"h" * 16
CERTIFICATE = Bootstrap(
    cluster_id=b"\xaa" * 16,
    members=[InitialMember(identity=identity, name=f"n{identity}") for identity in (1, 2, 3)],
    initial_cluster_hash=HASH,
)
FRESH = Self("n1", 1, 1, 1, HASH, None)
MEMBER = dataclasses.replace(FRESH, bootstrap=CERTIFICATE)
RECOVERED = dataclasses.replace(
    FRESH, bootstrap=Bootstrap(cluster_id=b"\xbb" * 16, recovered_from=CERTIFICATE.cluster_id)
)


def hello(own: Self = MEMBER, **changes: object) -> PeerHello:
    """What n2 says when all is well, with changes."""
    node = dataclasses.replace(own, name="n2", identity=2)
    said = node.hello()
    for name, value in changes.items():
        if isinstance(value, LogPosition):
            getattr(said, name).CopyFrom(value)
        else:
            setattr(said, name, value)
    return said


@pytest.mark.parametrize("own", [FRESH, MEMBER])
@pytest.mark.parametrize("other", [FRESH, MEMBER])
def test_members_and_nodes_that_wait_for_their_cluster_may_speak(own: Self, other: Self) -> None:
    judge(own, hello(other))
    assert hello(other).fresh == (other.bootstrap is None)


@pytest.mark.parametrize(
    ("own", "said", "reason"),
    [
        (MEMBER, hello(wire_version_min=2, wire_version_max=3), "n2 speaks wire versions 2 to 3"),
        (MEMBER, hello(wire_version_min=0, wire_version_max=0), "upgrade the older node"),
        (FRESH, hello(FRESH, identity=1), "n1 and n2 have the same identity.*a copy of the other"),
        (FRESH, hello(FRESH, identity=1, name="n1"), "n1 has met itself or a copy"),
        (FRESH, hello(FRESH, initial_cluster_hash=b"x"), "different --initial-cluster texts"),
        (FRESH, hello(MEMBER, initial_cluster_hash=b"x"), "different --initial-cluster texts"),
        (MEMBER, hello(FRESH, initial_cluster_hash=b"x"), "another --initial-cluster text"),
        (MEMBER, hello(cluster_id=b"\xbb"), "belongs to cluster bb, n1 to aaaa"),
        (
            RECOVERED,
            hello(),
            "cluster that the one of n1 was recovered from, and must not come back",
        ),
        (MEMBER, hello(FRESH, identity=99), "was it emptied or lost.*`kvorum member replace n2`"),
        (MEMBER, hello(name="n3"), "n3 uses the data directory of n2"),
    ],
)
def test_a_refusal_says_what_to_do(own: Self, said: PeerHello, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        judge(own, said)
    assert "\n" not in str(refused.value)


def test_an_old_copy_of_a_directory_is_known_by_the_end_of_its_log() -> None:
    """A copy taken in the present life of the node starts like any restart, one boot later."""
    known = hello(boot=5, process=77)
    end = LogPosition(segment=3, offset=900)
    restarted = hello(boot=6, process=78, recovered_end=end)
    judge(MEMBER, restarted, known, reached=(3, 800))
    for reached in ((3, 901), (4, 16)):
        with pytest.raises(Refused, match=r"n2 is an old copy.*`kvorum member replace n2`"):
            judge(MEMBER, restarted, known, reached)
    further = LogPosition(segment=9, offset=16)
    has_grown = hello(boot=6, process=78, recovered_end=end, log_end=further)
    with pytest.raises(Refused, match="is an old copy"):
        judge(MEMBER, has_grown, known, reached=(4, 16))


def test_a_late_hello_of_the_same_process_is_no_old_copy() -> None:
    """It says hello again after its log has grown beyond what it found when it started."""
    known = hello(boot=5, process=77, recovered_end=LogPosition(segment=1, offset=100))
    judge(MEMBER, known, known, reached=(1, 900))
    with pytest.raises(Refused, match="is an old copy"):
        judge(MEMBER, hello(boot=6, process=78), known, reached=(1, 900))


def test_two_processes_with_one_identity_are_told_apart_by_their_starts() -> None:
    known = hello(boot=5, process=77)
    judge(MEMBER, hello(boot=5, process=77), known)
    judge(MEMBER, hello(boot=6, process=78), known)
    for copy in (hello(boot=4, process=76), hello(boot=5, process=78)):
        with pytest.raises(Refused, match="another process runs with the identity of n2"):
            judge(MEMBER, copy, known)
