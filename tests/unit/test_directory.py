"""What a node can say about its cluster, and what clients are told first."""

from kvorum_server.directory import Directory
from kvorum_server.greeting import Greeting
from tests.unit.host_setup import GROUP, Machine, trio


def test_members_and_leaders_are_those_of_the_replicas_here() -> None:
    cluster = trio()
    for machine in cluster.machines:
        directory = machine.host.directory
        assert directory.addresses() == {n * 11: (f"n{n}", f"n{n}:7400") for n in (1, 2, 3)}
        assert directory.leader_of(GROUP) == 11
        assert directory.leaders() == (11, 11)
        assert directory.leader_address(GROUP) == "n1:7400"
        assert [contact.name for contact in directory.contacts()] == ["n1", "n2", "n3"]


def test_without_a_catalog_nobody_is_known() -> None:
    directory = Directory({})
    assert directory.catalog is None
    assert directory.addresses() == {}
    assert directory.contacts() == ()
    assert directory.leader_of(GROUP) is None
    assert directory.leader_address(GROUP) == directory.name_of(None) == ""


def test_the_greeting_changes_with_the_leader_and_counts_its_changes() -> None:
    cluster = trio()
    _, second, third = cluster.machines
    greeting = Greeting(third.host, "n3")
    before = greeting.hello
    assert [partition.leader for partition in before.table.partitions] == ["n1:7400"]
    assert not greeting.refresh()
    cluster.elect(second)
    cluster.tick(2)
    assert greeting.refresh()
    assert [partition.leader for partition in greeting.hello.table.partitions] == ["n2:7400"]
    assert greeting.hello.table.version > before.table.version
    assert sorted(greeting.hello.addresses) == ["n1:7400", "n2:7400", "n3:7400"]


def test_a_node_without_a_cluster_has_no_greeting() -> None:
    greeting = Greeting(Machine(11).host, "n1")
    assert not greeting.refresh()
    assert not greeting.hello.cluster_id
