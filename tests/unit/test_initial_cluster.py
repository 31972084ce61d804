"""The text that founds a cluster: what is one, what is none, and when two of them are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum_server.config import ConfigError
from kvorum_server.initial_cluster import HASH_BYTES, InitialCluster, check_name, split_address

THREE = "n1=10.0.0.1:7400,n2=10.0.0.2:7400,n3=10.0.0.3:7400"


def test_white_space_and_a_last_comma_do_not_make_another_cluster() -> None:
    one = InitialCluster.parse(THREE)
    other = InitialCluster.parse(" n1 = 10.0.0.1:7400 , n2=10.0.0.2:7400,\nn3=10.0.0.3:7400, ")
    assert one.text == other.text == THREE
    assert one.hash == other.hash
    assert len(one.hash) == HASH_BYTES


def test_the_order_decides_who_starts_and_makes_another_cluster() -> None:
    one = InitialCluster.parse("a=h:1,b=h:2")
    other = InitialCluster.parse("b=h:2,a=h:1")
    assert (one.starter, other.starter) == ("a", "b")
    assert one.hash != other.hash


def test_the_hash_is_the_same_for_ever() -> None:
    assert InitialCluster.parse(THREE).hash.hex() == "5f361b44f88a43a352e62f5943cc1855"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it names no node"),
        (" , ", "must be name=host:port"),
        ("n1", "'n1' in it must be name=host:port"),
        ("n1=h:1,,n2=h:2", "'' in it must be name=host:port"),
        ("n1=h:1,n1=h:2", "the name 'n1' stands in it twice"),
        ("n1=h:1,n2=h:1", "the address 'h:1' stands in it twice"),
        ("n 1=h:1", "'n 1' is no name of a node"),
        ("n1=h", "'h' is no address; it must be host:port"),
        ("n1=::1:7400", "an IPv6 host stands in brackets"),
        ("n1=h:0", "its port must be 1 to 65535"),
        ("n1=h:65536", "its port must be 1 to 65535"),
        ("n1=h:²", "its port must be 1 to 65535"),
        ("n1=:7400", "it must be host:port"),
    ],
)
def test_what_founds_no_cluster_says_why(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        InitialCluster.parse(text)
    assert reason in str(refused.value)


names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,10}[a-z0-9])?", fullmatch=True)
hosts = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?|\[[0-9a-f:]{2,10}\]", fullmatch=True)
ports = st.integers(1, 65_535)


@given(st.dictionaries(names, st.tuples(hosts, ports), min_size=1, max_size=7))
def test_the_canonical_text_founds_the_same_cluster(nodes: dict[str, tuple[str, int]]) -> None:
    addresses = {name: f"{host}:{port}" for name, (host, port) in nodes.items()}
    if len(set(addresses.values())) < len(addresses):
        return
    members = tuple(addresses.items())
    cluster = InitialCluster.parse(InitialCluster(members).text)
    assert cluster.members == members
    assert [split_address(cluster.addresses[name]) for name in nodes] == list(nodes.values())


@given(st.text(max_size=40))
def test_any_text_founds_a_cluster_or_is_refused(text: str) -> None:
    try:
        cluster = InitialCluster.parse(text)
    except ConfigError:
        return
    assert InitialCluster.parse(cluster.text) == cluster


def test_names_have_a_length() -> None:
    check_name("n" * 64)
    with pytest.raises(ConfigError):
        check_name("n" * 65)
