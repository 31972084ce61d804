"""From the members that a group has to those that it shall have: one safe step after the other."""

import random
from collections.abc import Iterator

import pytest

from kvorum_proto.command_pb2 import Placement, Seat
from kvorum_server.consensus.quorum import majority
from kvorum_server.reconcile import next_step
from kvorum_server.types import Configuration

THREE = Configuration.initial((11, 22, 33))


def placement(*voters: int, learners: tuple[int, ...] = (), version: int = 5) -> Placement:
    seats = [Seat(identity=identity, voter=True) for identity in voters]
    seats += [Seat(identity=identity) for identity in learners]
    return Placement(group=1, version=version, seats=seats)


def everybody(configuration: Configuration) -> set[int]:
    return {member.replica for member in configuration.members}


def steps(
    configuration: Configuration, wanted: Placement, *, caught_up: bool = True
) -> Iterator[Configuration]:
    """All configurations on the way, when everybody is connected."""
    for _ in range(20):
        learners = set(configuration.learners) if caught_up else set()
        step = next_step(configuration, wanted, learners, everybody(configuration))
        if step.configuration is None:
            return
        configuration = step.configuration
        yield configuration
    raise AssertionError(f"no end of steps: {configuration}")


def identities(configuration: Configuration) -> list[int | None]:
    return [configuration.identity_of(voter) for voter in configuration.voters]


def test_nothing_is_to_do_when_the_members_are_those_wanted() -> None:
    assert list(steps(THREE, placement(11, 22, 33, version=0))) == []


def test_a_newcomer_is_a_learner_then_a_voter_by_way_of_a_joint_configuration() -> None:
    learner, joint, final = steps(THREE, placement(11, 22, 33, 44))
    assert (learner.voters, learner.learners) == ((1, 2, 3), (4,))
    assert (joint.voters, joint.outgoing, joint.learners) == ((1, 2, 3, 4), (1, 2, 3), ())
    assert (final.voters, final.outgoing, final.next_replica) == ((1, 2, 3, 4), (), 5)
    assert {one.version for one in (learner, joint, final)} == {5}


def test_a_learner_that_lags_is_not_promoted() -> None:
    (learner,) = steps(THREE, placement(11, 22, 33, 44), caught_up=False)
    step = next_step(learner, placement(11, 22, 33, 44), set(), {1, 2, 3, 4}, lambda _: "n4")
    assert step.configuration is None
    assert step.waiting == "n4 must catch up first"


def test_who_leaves_leaves_by_way_of_a_joint_configuration() -> None:
    joint, final = steps(THREE, placement(11, 22))
    assert (joint.voters, joint.outgoing) == ((1, 2), (1, 2, 3))
    assert everybody(joint) == {1, 2, 3}, "who leaves hears of it as long as it counts"
    assert everybody(final) == {1, 2}
    assert final.has_lost(3)


def test_no_step_leaves_a_quorum_that_is_not_there() -> None:
    step = next_step(THREE, placement(11, 33), set(), {1, 2}, lambda identity: f"n{identity // 11}")
    assert step.configuration is None
    assert step.waiting == "no quorum would be left without n3"
    assert next_step(THREE, placement(11, 22), set(), {1, 2}).configuration is not None


def test_who_is_replaced_stays_until_the_newcomer_has_caught_up() -> None:
    wanted = placement(11, 22)
    wanted.seats.append(Seat(identity=44, voter=True, replaces=33))
    (learner,) = steps(THREE, wanted, caught_up=False)
    assert learner.voters == (1, 2, 3)
    joint, final = steps(learner, wanted)
    assert (joint.voters, joint.outgoing) == ((1, 2, 4), (1, 2, 3))
    assert identities(final) == [11, 22, 44]


def test_a_newcomer_waits_as_long_as_the_one_it_replaces_has_a_seat() -> None:
    """In the catalog, which a node keeps as long as it holds anything else."""
    wanted = placement(11, 22, 33)
    wanted.seats.append(Seat(identity=44, voter=True, replaces=33))
    *_, last = steps(THREE, wanted)
    assert (last.voters, last.learners) == ((1, 2, 3), (4,))


def test_a_leader_with_an_old_catalog_undoes_nothing() -> None:
    *_, last = steps(THREE, placement(11, 22, version=9))
    assert next_step(last, placement(11, 22, 33, version=8), set(), {1, 2}).configuration is None


def test_a_joint_configuration_is_left_whatever_the_catalog_says() -> None:
    joint, _ = steps(THREE, placement(11, 22, version=9))
    step = next_step(joint, placement(11, 22, 33, version=2), set(), set())
    assert step.configuration is not None
    assert not step.configuration.is_joint


def test_a_placement_that_changes_nothing_here_is_noted_all_the_same() -> None:
    (noted,) = steps(THREE, placement(11, 22, 33, version=7))
    assert (noted.voters, noted.version) == (THREE.voters, 7)


@pytest.mark.parametrize("seed", range(60))
def test_every_walk_ends_where_it_shall_and_two_neighbours_share_a_voter_of_each_quorum(
    seed: int,
) -> None:
    """Random placements in a row: any quorum of a configuration meets any of the next one."""
    generator = random.Random(seed)
    configuration = THREE
    ids = {member.replica for member in THREE.members}
    for version in range(1, 8):
        nodes = generator.sample(range(100, 108), generator.randrange(2, 7))
        voters = nodes[: generator.randrange(1, len(nodes))]
        learners = tuple(set(nodes) - set(voters))
        wanted = placement(*voters, learners=learners, version=version)
        for following in steps(configuration, wanted):
            assert_quorums_meet(configuration, following)
            new = {member.replica for member in following.members} - everybody(configuration)
            assert not new & ids, "an id is never used twice"
            ids |= new
            configuration = following
        assert sorted(identities(configuration), key=str) == sorted(voters, key=str)
        assert {configuration.identity_of(one) for one in configuration.learners} == set(learners)


def assert_quorums_meet(one: Configuration, other: Configuration) -> None:
    """Some half of one and some half of the other are so much alike that majorities overlap."""
    halves = [set(half) for half in (one.voters, one.outgoing) if half]
    others = [set(half) for half in (other.voters, other.outgoing) if half]
    assert any(
        majority(len(half)) + majority(len(next_half)) > len(half | next_half)
        for half in halves
        for next_half in others
    ), (one, other)
