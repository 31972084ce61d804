"""What the table says of a node, and which replica speaks for a group."""

from dataclasses import replace

import pytest

from kvorum import GroupStatus, NodeStatus
from kvorum_cli.cluster import json_status
from kvorum_cli.table import (
    NodeView,
    console,
    group_row,
    group_table,
    headline,
    human_size,
    known_groups,
    node_row,
    node_table,
    print_renderables,
)

CATALOG = GroupStatus(
    group=0, replica=1, role="follower", term=1, leader="n2", commit=1, applied=1, log_first=1,
    log_last=1, checkpoint=0, revision=0, compacted_revision=0, log_time_ms=0, sessions=0, lag=0,
)  # fmt: skip
DATA = replace(
    CATALOG,
    group=1,
    role="leader",
    term=2,
    leader="n1",
    commit=18,
    applied=18,
    log_last=18,
    revision=9,
)
NODE = NodeStatus(
    endpoint="127.0.0.1:7400", cluster_id=bytes.fromhex("c1f300aabbccddee11223344556677aa"),
    identity=1, name="n1", version="0.1.0", protocol="raft", level=1, groups=(CATALOG, DATA),
    members=(), disk_bytes=1_200_000, disk_free_bytes=10**12, resident_bytes=10**8,
    uptime_seconds=1.5, loop_lag_ms=0.2, alarms=(),
)  # fmt: skip


def view(*groups: GroupStatus, alarms: tuple[str, ...] = ()) -> NodeView:
    return NodeView("n1", "127.0.0.1:7400", replace(NODE, groups=groups, alarms=alarms))


def test_the_headline() -> None:
    assert headline(NODE, "data ./kvorum-data") == (
        "kvorum 0.1.0 · cluster c1f3…aa · raft · 1 partition · data ./kvorum-data"
    )
    assert "2 partitions" in headline(replace(NODE, groups=(CATALOG, DATA, replace(DATA, group=2))))


def test_a_leader_has_no_lag() -> None:
    assert node_row(view(CATALOG, DATA)) == (
        "n1", "127.0.0.1:7400", "leader", "2", "18", "18", "-", "1.2 MB", "healthy",
    )  # fmt: skip


def test_with_several_groups_a_node_shows_sums_and_maxima() -> None:
    second = replace(DATA, group=2, role="follower", term=5, commit=2, applied=1, lag=1)
    row = node_row(view(CATALOG, DATA, second))
    assert row[2:7] == ("leads 1 of 2", "5", "20", "19", "1")


def test_a_node_that_does_not_answer_shows_why() -> None:
    row = node_row(NodeView("n2", "127.0.0.1:7401", None, "down"))
    assert row == ("n2", "127.0.0.1:7401", "-", "-", "-", "-", "-", "-", "down")
    assert node_row(NodeView("", "127.0.0.1:7401"))[-1] == "unreachable"


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        (view(CATALOG, DATA), "healthy"),
        (view(CATALOG, replace(DATA, leader="")), "no leader"),
        (view(replace(CATALOG, leader=""), DATA), "no leader"),
        (view(), "no leader"),
        (view(CATALOG, replace(DATA, role="follower", lag=1001)), "catching up"),
        (view(CATALOG, DATA, alarms=("disk full", "slow disk")), "disk full; slow disk"),
    ],
)
def test_the_state_of_a_node(shown: NodeView, state: str) -> None:
    assert shown.state == state


def test_the_leader_of_the_highest_term_speaks_for_a_group() -> None:
    old_leader = replace(DATA, term=1, commit=99)
    follower = replace(DATA, role="follower", commit=17)
    nodes = [replace(NODE, groups=(group,)) for group in (old_leader, follower, DATA, CATALOG)]
    assert known_groups(nodes) == [CATALOG, DATA]
    assert group_row(CATALOG)[:2] == ("0 (catalog)", "n2")
    assert group_row(replace(DATA, leader=""))[1] == "none"
    assert group_row(replace(DATA, log_first=19))[6] == "-", "the whole log is cut"


def test_tables_in_a_pipe_are_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    broken = NodeView("n2", "127.0.0.1:7401", None, "x" * 200)
    print_renderables(console(None), node_table([view(CATALOG, DATA), broken]), group_table([DATA]))
    lines = capsys.readouterr().out.splitlines()
    words = [" ".join(line.split()) for line in lines]
    assert words[0] == "NODE ADDRESS ROLE TERM COMMIT APPLIED LAG DISK STATE"
    assert words[1] == "n1 127.0.0.1:7400 leader 2 18 18 - 1.2 MB healthy"
    assert words[2].endswith("x" * 200)
    assert words[4] == "1 n1 2 9 0 18 1-18 0"
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)


def test_the_status_for_programs() -> None:
    answer = json_status([view(CATALOG, DATA), NodeView("n2", "127.0.0.1:7401", None, "down")])
    nodes = answer["nodes"]
    assert isinstance(nodes, list)
    (node,) = nodes
    assert node["cluster_id"] == NODE.cluster_id.hex()
    assert (node["address"], node["groups"][1]["revision"]) == ("127.0.0.1:7400", 9)
    assert answer["unreachable"] == [{"name": "n2", "address": "127.0.0.1:7401", "reason": "down"}]


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (1000, "1.0 kB"), (10**15, "1000.0 TB"), (10**17, "100000.0 TB")],
)
def test_sizes(size: int, shown: str) -> None:
    assert human_size(size) == shown
