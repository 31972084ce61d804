"""What ``kvorum member`` shows, waits for, and refuses by itself."""

import dataclasses

import pytest

from kvorum import (
    ClusterStatus,
    ExpectedMember,
    GroupMembers,
    Member,
    Membership,
)
from kvorum._results import MEMBERSHIP
from kvorum_cli.exits import Exit
from kvorum_cli.main import run
from kvorum_cli.member import ProgressLine, missing_to_join, missing_to_settle
from kvorum_cli.table import console, member_table, member_views, print_renderables
from kvorum_proto import command_pb2 as wire
from tests.unit.test_cli_table import DATA, NODE

N1 = Member(1, "n1", "10.0.0.1:7400", 1)
N2 = Member(2, "n2", "10.0.0.2:7400", 1, leaving=True)
N3 = Member(3, "n3", "10.0.0.3:7400", 1, learner=True)
N4 = ExpectedMember("n4", "10.0.0.4:7400", replaces="n2")
DONE = GroupMembers(0, ("n1",), ("n3",), True)
CHANGING = GroupMembers(1, ("n1",), ("n3",), False)


def test_the_table_shows_who_votes_who_comes_and_who_goes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    behind = dataclasses.replace(DATA, role="follower", lag=7)
    learner = dataclasses.replace(NODE, identity=3, name="n3", groups=(behind,))
    status = ClusterStatus((NODE, learner), ())
    views = member_views(Membership((N1, N2, N3), (N4,), ()), status)
    print_renderables(console(None), member_table(views))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "NAME ADDRESS ROLE LAG IDENTITY STATE",
        "n1 10.0.0.1:7400 voter - 0000000000000001 healthy",
        "n2 10.0.0.2:7400 voter - 0000000000000002 leaving",
        "n3 10.0.0.3:7400 learner 7 0000000000000003 healthy",
        "n4 10.0.0.4:7400 voter - - expected, replaces n2",
    ]


@pytest.mark.parametrize(
    ("membership", "missing"),
    [
        (Membership((N1,), (N4,), (DONE,)), "n4 to be started"),
        (Membership((N1, N2), (), (DONE, CHANGING)), "1 of 2 groups to change"),
        (Membership((N1, N2), (), (DONE,)), "n2 to leave"),
        (Membership((N1, N3), (), (DONE,)), ""),
    ],
)
def test_waiting_says_what_is_missing(membership: Membership, missing: str) -> None:
    assert missing_to_join(membership, "n4") == missing
    assert membership.settled == (missing_to_settle(membership) == "")


def test_progress_in_a_pipe_is_one_line_for_each_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ProgressLine()
    for text in ("waiting for n4", "waiting for n4", "waiting for 1 of 2 groups"):
        line.show(text)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "waiting for n4\nwaiting for 1 of 2 groups\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("add n4", "missing argument 'HOST:PORT'"),
        ("add n4 nowhere", "'nowhere' must be host:port"),
        ("add n4 :7400", "':7400' must be host:port"),
        ("add n4 a:1,b:2", "'a:1,b:2' must be host:port"),
        ("replace n1 n4", "give HOST:PORT of the new node as well"),
        ("transfer n1 --group x", "'x' is not an integer"),
        ("promot n1", "there is no verb 'promot'; did you mean 'promote'"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(
    arguments: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["member", *arguments.split()]) == Exit.USAGE
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", ["list", "add n4 a:1", "replace n1", "promote n1", "remove n1", "transfer n1"]
)
def test_a_dead_cluster_is_one_line(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = ["--endpoints", "127.0.0.1:1", "--timeout", "0.05"]
    assert run(["member", *arguments.split(), *nobody]) == Exit.UNAVAILABLE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_a_group_is_settled_when_its_report_is_what_it_shall_be() -> None:
    def settled(report: wire.GroupReport | None, version: int = 3) -> bool:
        placement = wire.Placement(group=1, version=version)
        placement.seats.add(identity=1, voter=True)
        placement.seats.add(identity=3, voter=False)
        members = [wire.MemberInfo(identity=one, name=f"n{one}") for one in (1, 3)]
        message = wire.MembersResult(members=members, placements=[placement])
        if report is not None:
            message.reports.append(report)
        (group,) = MEMBERSHIP.decode(wire.Result(members=message)).groups
        assert (group.voters, group.learners) == (("n1",), ("n3",))
        return group.settled

    assert settled(wire.GroupReport(group=1, voters=[1], learners=[3]))
    assert not settled(wire.GroupReport(group=1, voters=[1, 3]))
    assert not settled(wire.GroupReport(group=1, voters=[1]))
    assert not settled(None)
    assert settled(None, version=0), "as it was born"
