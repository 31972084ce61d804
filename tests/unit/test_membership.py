"""Members come and go: what hosts make of the catalog, step by step, with the test as the shell."""

from kvorum_proto import command_pb2 as wire
from kvorum_server.events import Bootstrapped, Introduced, Proposed
from kvorum_server.membership import REPORT_TICKS, describe
from kvorum_server.types import CATALOG_GROUP, Configuration, NodeId
from tests.unit.host_setup import CLIENT, GROUP, Machine, Trio, certificate, encoded, put, trio

PATIENCE_TICKS = 12 * REPORT_TICKS


def catalog_leader(cluster: Trio) -> Machine:
    return next(m for m in cluster.machines if CATALOG_GROUP in m.host.replicas and m.is_leader(0))


def tell(cluster: Trio, submission: wire.Submission) -> wire.Result:
    """An operator's command to the catalog, and what it says."""
    machine = catalog_leader(cluster)
    (request,) = machine.request()
    machine.turn(Proposed(CLIENT, CATALOG_GROUP, (request,), encoded(submission)))
    cluster.settle()
    return machine.answers[request]


def add(name: str, *, learner: bool = False) -> wire.Submission:
    command = wire.AddMember(name=name, address=f"{name}:7400", learner=learner)
    return wire.Submission(add_member=command)


def remove(name: str) -> wire.Submission:
    return wire.Submission(remove_member=wire.RemoveMember(name=name))


def replace(name: str, new_name: str) -> wire.Submission:
    command = wire.ReplaceMember(name=name, new_name=new_name, address=f"{new_name}:7400")
    return wire.Submission(replace_member=command)


def arrive(cluster: Trio, identity: NodeId, name: str) -> Machine:
    """A fresh machine says hello, is let in, and gets the certificate."""
    machine = cluster.add(identity)
    catalog_leader(cluster).turn(Introduced(identity, name, f"{name}:7400", 1))
    cluster.settle()
    machine.turn(Bootstrapped(certificate([11, 22, 33])))
    cluster.settle()
    return machine


def configuration(machine: Machine, group: int = GROUP) -> Configuration:
    return machine.host.replicas[group].applied_configuration


def voters(machine: Machine, group: int = GROUP) -> set[NodeId | None]:
    known = configuration(machine, group)
    assert not known.is_joint
    return {known.identity_of(voter) for voter in known.voters}


def tick_until(cluster: Trio, identities: set[int], leader: Machine) -> None:
    """Ticks until these nodes vote in both groups, as ``leader`` has applied it."""
    for _ in range(PATIENCE_TICKS):
        cluster.tick()
        known = [configuration(leader, group) for group in (0, GROUP)]
        if all(not one.is_joint for one in known) and all(
            voters(leader, group) == identities for group in (0, GROUP)
        ):
            return
    raise AssertionError([describe(configuration(leader, group)) for group in (0, GROUP)])


def test_an_expected_node_becomes_a_learner_and_then_a_voter() -> None:
    cluster = trio()
    first = cluster.machines[0]
    first.propose(put(b"a", b"1"))
    cluster.settle()
    assert tell(cluster, add("n4")).HasField("done")
    fourth = arrive(cluster, 44, "n4")
    tick_until(cluster, {11, 22, 33, 44}, first)
    assert fourth.host.replicas[GROUP].replica == 4
    first.propose(put(b"b", b"2"))
    cluster.tick(3)
    assert (fourth.value(b"a"), fourth.value(b"b")) == (b"1", b"2")
    names = [name for name, _ in fourth.host.directory.addresses().values()]
    assert sorted(names) == ["n1", "n2", "n3", "n4"]


def test_nobody_gets_in_who_is_not_expected() -> None:
    cluster = trio()
    arrive(cluster, 44, "n4")
    cluster.tick(3)
    assert voters(cluster.machines[0], 0) == {11, 22, 33}
    assert 44 not in cluster.machines[0].host.directory.addresses()


def test_a_learner_votes_only_when_it_is_promoted() -> None:
    cluster = trio()
    first = cluster.machines[0]
    tell(cluster, add("n4", learner=True))
    fourth = arrive(cluster, 44, "n4")
    cluster.tick(3 * REPORT_TICKS)
    assert voters(first) == {11, 22, 33}
    assert configuration(first).learners == (4,)
    assert fourth.host.replicas[GROUP].consensus.role.value == "learner"
    tell(cluster, wire.Submission(promote_member=wire.PromoteMember(name="n4")))
    tick_until(cluster, {11, 22, 33, 44}, first)


def test_a_learner_that_does_not_answer_is_not_promoted_and_status_says_why() -> None:
    cluster = trio()
    first = cluster.machines[0]
    tell(cluster, add("n4"))
    arrive(cluster, 44, "n4")
    cluster.cut_off = {44}
    cluster.tick(3 * REPORT_TICKS)
    assert voters(first) == {11, 22, 33}
    assert first.replica.waiting_for == "n4 must catch up first"
    first.propose(put(b"a"))
    cluster.settle()
    assert first.value(b"a") == b"v"


def test_a_member_that_is_removed_ends_its_replicas_and_never_comes_back() -> None:
    cluster = trio()
    first, _, third = cluster.machines
    assert tell(cluster, remove("n3")).HasField("done")
    tick_until(cluster, {11, 22}, first)
    cluster.tick(PATIENCE_TICKS)
    assert third.host.was_removed
    assert 33 in first.host.directory.catalog.roster.removed  # type: ignore[union-attr]
    third.crash()
    third.start()
    cluster.tick(2)
    assert third.host.was_removed
    first.propose(put(b"a"))
    cluster.settle()
    assert first.value(b"a") == b"v"


def test_a_learner_that_is_removed_is_told_so() -> None:
    cluster = trio()
    tell(cluster, add("n4", learner=True))
    fourth = arrive(cluster, 44, "n4")
    cluster.tick(3 * REPORT_TICKS)
    assert fourth.host.replicas[GROUP].consensus.role.value == "learner"
    tell(cluster, remove("n4"))
    cluster.tick(PATIENCE_TICKS)
    assert fourth.host.was_removed


def test_the_leader_itself_can_be_removed() -> None:
    cluster = trio()
    first, second, third = cluster.machines
    first.propose(put(b"a", b"1"))
    cluster.settle()
    tell(cluster, remove("n1"))
    for _ in range(PATIENCE_TICKS):
        cluster.tick()
        if first.host.was_removed:
            break
    assert first.host.was_removed
    assert voters(second) == {22, 33}
    leader = next(m for m in (second, third) if m.is_leader())
    leader.propose(put(b"b", b"2"))
    cluster.settle()
    assert (leader.value(b"a"), leader.value(b"b")) == (b"1", b"2")


def test_no_member_is_removed_without_whom_there_is_no_quorum() -> None:
    cluster = trio()
    first = cluster.machines[0]
    first.host.peers.discard(33)
    refusal = tell(cluster, remove("n2"))
    assert "cannot remove n2: group 0 would have no quorum, n3 not connected" in str(refusal)
    assert tell(cluster, remove("n3")).HasField("done")


def test_a_dead_member_is_replaced_by_a_new_machine_of_the_same_name() -> None:
    cluster = trio()
    first = cluster.machines[0]
    cluster.cut_off = {33}
    first.host.peers.discard(33)
    tell(cluster, replace("n3", "n3"))
    arrive(cluster, 44, "n3")
    tick_until(cluster, {11, 22, 44}, first)
    cluster.tick(PATIENCE_TICKS)
    assert sorted(first.host.directory.addresses()) == [11, 22, 44]


def test_all_machines_are_replaced_one_by_one() -> None:
    cluster = trio()
    cluster.machines[0].propose(put(b"a", b"1"))
    cluster.settle()
    for number, (old, new) in enumerate((("n1", 44), ("n2", 55), ("n3", 66)), 4):
        tell(cluster, replace(old, f"n{number}"))
        machine = arrive(cluster, new, f"n{number}")
        for _ in range(PATIENCE_TICKS):
            cluster.tick()
            gone = [m for m in cluster.machines if m.host.was_removed]
            if len(gone) == number - 3:
                break
        assert gone, f"{old} is still there"
        assert machine.host.replicas[GROUP].consensus.role.value in ("follower", "leader")
    survivors = [m for m in cluster.machines if not m.host.was_removed]
    assert [m.identity for m in survivors] == [44, 55, 66]
    leader = next(m for m in survivors if m.is_leader())
    leader.propose(put(b"b", b"2"))
    cluster.tick(2)
    assert [(m.value(b"a"), m.value(b"b")) for m in survivors] == [(b"1", b"2")] * 3


def test_two_voters_change_in_one_joint_step() -> None:
    cluster = trio()
    first = cluster.machines[0]
    for name, identity in (("n4", 44), ("n5", 55)):
        tell(cluster, add(name))
        arrive(cluster, identity, name)
    tick_until(cluster, {11, 22, 33, 44, 55}, first)
    tell(cluster, remove("n2"))
    tell(cluster, remove("n3"))
    tick_until(cluster, {11, 44, 55}, first)
