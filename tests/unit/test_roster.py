"""The tables of the catalog: how a node comes, stays, and goes for good."""

from collections.abc import Callable

import pytest

from kvorum_proto.command_pb2 import AddMember, GroupReport, JoinMember, ReplaceMember
from kvorum_proto.peer_pb2 import Bootstrap, InitialMember
from kvorum_server.placement.roster import VOTERS_MAX, Refusal, Roster

IDENTITIES = {"n1": 11, "n2": 22, "n3": 33}


def birth(count: int = 3) -> Roster:
    members = [
        InitialMember(identity=11 * number, name=f"n{number}", address=f"n{number}:7400")
        for number in range(1, count + 1)
    ]
    return Roster.of_birth(Bootstrap(members=members, partitions=1, replicas=count))


class Story:
    """A roster and the entry that changes it next."""

    def __init__(self, count: int = 3) -> None:
        self.roster = birth(count)
        self.version = 100

    def next(self) -> int:
        self.roster.check_invariants()
        self.version += 1
        return self.version

    def add(self, name: str, *, learner: bool = False, address: str = "") -> None:
        address = address or f"{name}:7400"
        self.roster.add(AddMember(name=name, address=address, learner=learner))

    def replace(self, name: str, new_name: str) -> None:
        command = ReplaceMember(name=name, new_name=new_name, address=f"{new_name}:7400")
        self.roster.replace(command)

    def join(self, name: str, identity: int) -> None:
        command = JoinMember(identity=identity, name=name, address="?", supported_level=1)
        self.roster.join(command, self.next())

    def remove(self, name: str) -> None:
        self.roster.remove(name, self.next())

    def seats(self, group: int = 1) -> dict[int, bool]:
        return {seat.identity: seat.voter for seat in self.roster.placements[group].seats}

    def follow(self, group: int) -> None:
        """The group's members become what its placement wants, and its leader says so."""
        placement = self.roster.placements[group]
        known = self.roster.reports.get(group)
        report = GroupReport(
            group=group,
            index=1 if known is None else known.index + 1,
            version=placement.version,
            voters=[seat.identity for seat in placement.seats if seat.voter],
            learners=[seat.identity for seat in placement.seats if not seat.voter],
        )
        self.roster.report(report, self.next())


def test_a_node_is_expected_then_a_member_with_a_seat_in_every_group() -> None:
    story = Story()
    story.add("n4")
    story.join("n4", 44)
    assert not story.roster.expected
    assert story.roster.members[44].address == "n4:7400", "where its operator said it is"
    assert story.seats(0) == story.seats(1) == {11: True, 22: True, 33: True, 44: True}
    assert story.roster.placements[1].version == story.version


def test_joining_twice_changes_nothing() -> None:
    story = Story()
    story.add("n4")
    story.join("n4", 44)
    version = story.roster.placements[1].version
    story.join("n4", 44)
    assert story.roster.placements[1].version == version


def test_the_catalog_has_five_voters_and_fills_a_free_place() -> None:
    story = Story(5)
    story.add("n6")
    story.join("n6", 66)
    assert not story.seats(0)[66]
    assert story.seats(1)[66]
    story.remove("n2")
    story.follow(1)
    assert story.seats(0) == {11: True, 33: True, 44: True, 55: True, 66: True}


def test_a_member_leaves_the_groups_first_then_the_catalog_then_the_cluster() -> None:
    story = Story()
    story.remove("n3")
    assert story.seats(1) == {11: True, 22: True}
    assert 33 in story.seats(0), "a node has a catalog as long as it has data"
    story.follow(0)
    assert 33 in story.seats(0)
    story.follow(1)
    assert 33 not in story.seats(0)
    assert 33 in story.roster.members
    story.follow(0)
    assert 33 not in story.roster.members
    assert story.roster.removed[33].name == "n3"


def test_an_old_report_lets_nobody_go() -> None:
    """Members of a group before the change, told late, are no proof that the change was made."""
    story = Story()
    old = GroupReport(group=1, index=3, version=0, voters=[11, 22])
    story.remove("n3")
    story.roster.report(old, story.next())
    assert 33 in story.seats(0)


def test_who_was_removed_never_comes_back() -> None:
    story = Story()
    story.remove("n3")
    for group in (1, 0):
        story.follow(group)
    story.add("n3")
    with pytest.raises(Refusal, match="its identity never comes back"):
        story.join("n3", 33)
    story.join("n3", 44)
    assert story.roster.named("n3").identity == 44  # type: ignore[union-attr]


def test_who_is_replaced_hands_its_seats_to_the_newcomer() -> None:
    story = Story()
    story.replace("n2", "n4")
    story.join("n4", 44)
    assert story.seats(1) == {11: True, 33: True, 44: True}
    (seat,) = [seat for seat in story.roster.placements[1].seats if seat.identity == 44]
    assert seat.replaces == 22
    assert story.roster.members[22].leaving_since
    story.follow(1)
    story.follow(0)
    assert sorted(story.roster.members) == [11, 33, 44]


def test_a_lost_disk_is_replaced_under_the_same_name() -> None:
    story = Story()
    story.replace("n2", "n2")
    story.join("n2", 44)
    assert story.roster.named("n2").identity == 44  # type: ignore[union-attr]
    story.follow(1)
    story.follow(0)
    assert sorted(story.roster.members) == [11, 33, 44]


def test_a_learner_votes_nowhere_until_it_is_promoted() -> None:
    story = Story()
    story.add("n4", learner=True)
    story.join("n4", 44)
    assert not story.seats(0)[44]
    assert not story.seats(1)[44]
    story.roster.promote("n4", story.next())
    assert story.seats(0)[44]
    assert story.seats(1)[44]


def test_what_is_refused_and_why() -> None:
    story = Story()
    story.add("n4")
    refusals: dict[str, Callable[[], None]] = {
        "n1 is a member already, at n1:7400": lambda: story.add("n1"),
        "n1:7400 is the address of n1": lambda: story.add("n5", address="n1:7400"),
        "n4:7400 is where n4 is expected": lambda: story.add("n5", address="n4:7400"),
        "no member is named 'n9'; the members are n1, n2, n3": lambda: story.remove("n9"),
        "no node named n9 is expected": lambda: story.join("n9", 99),
        "n4 has not joined yet": lambda: story.roster.promote("n4", story.next()),
        "n1 is a member already; choose": lambda: story.replace("n2", "n1"),
    }
    for reason, command in refusals.items():
        with pytest.raises(Refusal, match=reason):
            command()
    story.roster.check_invariants()


def test_the_last_voter_stays() -> None:
    story = Story(1)
    with pytest.raises(Refusal, match="n1 is the only voter of group"):
        story.remove("n1")


def test_voters_are_limited() -> None:
    story = Story()
    for number in range(4, VOTERS_MAX + 1):
        story.add(f"n{number}")
    with pytest.raises(Refusal, match="at most 7 voters, and there are 7; add it as a learner"):
        story.add("n8")
    story.add("n8", learner=True)


def test_an_expected_node_can_be_given_up() -> None:
    story = Story()
    story.add("n4")
    story.remove("n4")
    assert not story.roster.expected
    assert sorted(story.roster.members) == list(IDENTITIES.values())
